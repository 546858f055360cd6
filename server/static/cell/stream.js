// Text of programs: escape sequences for colours, and what overwrites its line.

/** Characters of a line that may still be overwritten; longer ones are shown as they are. */
const LONGEST_LINE = 10_000;
/** Characters of a block of text: what grows is laid out again, what is full is not. */
const BLOCK = 8_000;
const SEQUENCE = /\x1b\[([0-9;:]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]?/g;

/** A stream as it is shown. */
export class Stream {
  #line = "";
  #style = {};
  #tail = document.createElement("div");
  #block = null;
  #room = 0;

  constructor(name) {
    this.name = name;
    this.element = document.createElement("pre");
    this.element.className = `stream ${name}`;
    this.element.append(this.#tail);
  }

  write(text) {
    const pre = this.element;
    const isAtEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;
    const all = this.#line + text;
    let end = all.lastIndexOf("\n");
    if (end < 0 && all.length > LONGEST_LINE) end = all.length;
    if (end >= 0) this.#add(all.slice(0, end));
    this.#line = all.slice(end + 1);
    this.#tail.replaceChildren(colored(overwritten(this.#line), { ...this.#style }));
    if (isAtEnd) pre.scrollTop = pre.scrollHeight;
    if (!pre.hasAttribute("tabindex") && pre.scrollHeight > pre.clientHeight + 1) {
      // Whoever has no mouse scrolls it as well.
      pre.tabIndex = 0;
      pre.setAttribute("role", "group");
      pre.setAttribute("aria-label", this.name === "stderr" ? "Errors" : "Text");
    }
  }

  /** Adds whole lines, without their last end. */
  #add(lines) {
    const shown = colored(overwritten(lines), this.#style);
    if (this.#block && this.#room > 0) {
      this.#block.append("\n", shown);
    } else {
      this.#block = document.createElement("div");
      this.#block.append(shown);
      // An empty block would have no height.
      if (lines === "") this.#block.append("\u200b");
      this.#room = BLOCK;
      this.#tail.before(this.#block);
    }
    this.#room -= lines.length + 1;
    if (this.#room <= 0) this.#block.normalize();
  }
}

/** A whole text, such as a traceback. */
export function colorful(text, className) {
  const element = document.createElement("pre");
  element.className = className;
  element.append(colored(text, {}));
  return element;
}

/** Does what carriage returns and backspaces ask for, line by line. */
function overwritten(text) {
  if (!/[\r\b]/.test(text)) return text;
  return text.replace(/\r+\n/g, "\n").split("\n").map(overwriteLine).join("\n");
}

function overwriteLine(line) {
  if (!/[\r\b]/.test(line)) return line;
  // Sequences have no width: they stay with the character behind them.
  const cells = [];
  let at = 0;
  let pending = "";
  for (const part of line.split(/(\x1b\[[0-9;:]*[@-~])/)) {
    if (part.startsWith("\x1b[")) {
      if (part.endsWith("m")) pending += part;
      else if (part.endsWith("K")) cells.length = at;
      continue;
    }
    for (const character of part) {
      if (character === "\r") at = 0;
      else if (character === "\b") at = Math.max(0, at - 1);
      else {
        cells[at] = pending + character;
        pending = "";
        at += 1;
      }
    }
  }
  return cells.join("") + pending;
}

/** Text with its colours; `style` goes on from text to text. */
function colored(text, style) {
  const fragment = document.createDocumentFragment();
  const add = (part) => {
    if (part === "") return;
    if (Object.keys(style).length === 0) {
      fragment.append(part);
      return;
    }
    const span = document.createElement("span");
    const classes = ["bold", "faint", "italic", "underlined", "struck"].filter((name) => style[name]);
    const sides = style.inverse ? { fg: style.bg ?? "bg", bg: style.fg ?? "fg" } : style;
    for (const side of ["fg", "bg"]) {
      const color = sides[side];
      if (typeof color === "number") classes.push(`${side}${color}`);
      else if (color === "fg" || color === "bg") classes.push(`${side}-inverse`);
      else if (color) span.style[side === "fg" ? "color" : "backgroundColor"] = readable(color, side);
    }
    span.className = classes.join(" ");
    span.textContent = part;
    fragment.append(span);
  };
  if (!text.includes("\x1b")) {
    add(text);
    return fragment;
  }
  let from = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    add(text.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") restyle(style, match[1].split(/[;:]/).map(Number));
  }
  add(text.slice(from));
  return fragment;
}

function restyle(style, codes) {
  const on = { 1: "bold", 2: "faint", 3: "italic", 4: "underlined", 7: "inverse", 9: "struck" };
  const off = { 22: ["bold", "faint"], 23: ["italic"], 24: ["underlined"], 27: ["inverse"], 29: ["struck"], 39: ["fg"], 49: ["bg"] };
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    const side = (code >= 40 && code < 50) || code >= 100 ? "bg" : "fg";
    if (code === 0) for (const name of Object.keys(style)) delete style[name];
    else if (on[code]) style[on[code]] = true;
    else if (off[code]) for (const name of off[code]) delete style[name];
    else if (code === 38 || code === 48) {
      const isIndexed = codes[at + 1] === 5;
      style[side] = isIndexed ? indexed(codes[at + 2]) : `rgb(${codes.slice(at + 2, at + 5).map((part) => part & 255)})`;
      at += isIndexed ? 2 : 4;
    } else if (code >= 30 && code <= 47) style[side] = code % 10;
    else if (code >= 90 && code <= 107) style[side] = (code % 10) + 8;
  }
}

/** The colour, light or dark enough for light and dark pages, and on the theme's backgrounds. */
function readable(color, side) {
  // Light text of full colour is more than screens can show, and comes out darker.
  const [light, dark] = side === "fg" ? ["min(l, 0.5) c", "max(l, 0.84) min(c, 0.12)"] : ["max(l, 0.86) c", "min(l, 0.38) c"];
  return `light-dark(oklch(from ${color} ${light} h), oklch(from ${color} ${dark} h))`;
}

/** A colour of the 256: the first 16 are the theme's. */
function indexed(index) {
  if (!(index >= 0 && index < 256)) return undefined;
  if (index < 16) return index;
  if (index >= 232) return `rgb(${Array(3).fill(8 + 10 * (index - 232))})`;
  const level = (part) => (part ? 55 + 40 * part : 0);
  const rest = index - 16;
  return `rgb(${[Math.floor(rest / 36), Math.floor(rest / 6) % 6, rest % 6].map(level)})`;
}
