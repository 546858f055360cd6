// The controls of interacts. Each is made by `make(spec, changed)` and has `element`, `value` as the kernel takes it, `set(value)`.

import { html } from "./media.js";

let count = 0;

/** A control with its label. `changed()` is called whenever somebody changes it. */
export function make(spec, changed) {
  const kind = Object.hasOwn(KINDS, spec.control_type) ? KINDS[spec.control_type] : unknown;
  const control = kind(spec, changed);
  const label = spec.label ? node("label", { className: "label", textContent: spec.label }) : null;
  const row = node("div", { className: `control ${String(spec.control_type).replaceAll("_", "-")}` });
  if (label && control.input) {
    control.input.id = `control-${count += 1}`;
    label.htmlFor = control.input.id;
    row.append(label);
  } else if (label) {
    label.id = `control-${count += 1}`;
    control.element.setAttribute("aria-labelledby", label.id);
    row.append(Object.assign(node("span"), { id: label.id, className: "label", textContent: spec.label }));
  } else if (control.input && !control.input.textContent) {
    control.input.setAttribute("aria-label", spec.name ?? "value");
  }
  row.append(control.element);
  return { ...control, row, get value() { return control.value(); } };
}

function node(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

const KINDS = {
  checkbox(spec, changed) {
    const input = node("input", { type: "checkbox", checked: spec.default === true });
    input.addEventListener("change", changed);
    return { element: input, input, value: () => input.checked, set: (value) => { input.checked = value === true; } };
  },

  input_box(spec, changed) {
    const isArea = spec.subtype === "textarea";
    const input = node(isArea ? "textarea" : "input", { value: spec.default ?? "", spellcheck: false });
    if (isArea) input.rows = spec.height || 3;
    input.style.width = `min(100%, ${Math.max(Number(spec.width) || 20, 4) + 3}ch)`;
    if (spec.evaluate) input.classList.add("code");
    input.addEventListener(spec.keypress ? "input" : "change", changed);
    return { element: input, input, value: () => input.value, set: (value) => { input.value = value; } };
  },

  slider(spec, changed) {
    const isDiscrete = spec.subtype.startsWith("discrete");
    const name = (value) => (isDiscrete ? String(spec.values[value] ?? value) : short(value));
    const shown = spec.display_value === false ? null : name;
    if (spec.subtype.endsWith("range")) return pair(spec, shown, changed);
    return single({ range: spec.range, step: spec.step, value: spec.default }, shown, isDiscrete ? name : null, changed);
  },

  multi_slider(spec, changed) {
    const isDiscrete = spec.subtype === "discrete";
    const all = Array.from({ length: spec.sliders }, (_, at) => {
      const name = (value) => (isDiscrete ? String(spec.values[at]?.[value] ?? value) : short(value));
      const shown = spec.display_values === false ? null : name;
      const range = isDiscrete && !Array.isArray(spec.range?.[at]) ? [0, spec.values[at].length - 1] : spec.range[at];
      const one = single({ range, step: spec.step?.[at] ?? 1, value: spec.default[at] }, shown, isDiscrete ? name : null, changed);
      one.input.setAttribute("aria-label", `${spec.label || "value"} ${at + 1}`);
      return one;
    });
    return group(all.map(({ element }) => element), {
      value: () => all.map((one) => one.value()),
      set: (values) => values.forEach((value, at) => all[at]?.set(value)),
    });
  },

  selector(spec, changed) {
    if (spec.subtype === "button" || spec.subtype === "radio") return choice(spec, changed);
    const input = node("select");
    input.append(...spec.value_labels.map((label, at) => node("option", { value: at, textContent: label })));
    input.value = spec.default;
    if (spec.width) input.style.width = spec.width;
    input.addEventListener("change", changed);
    return { element: input, input, value: () => Number(input.value), set: (value) => { input.value = value; } };
  },

  button(spec, changed) {
    const input = node("button", { type: "button", textContent: spec.text || spec.label || "Update" });
    if (spec.width) input.style.width = spec.width;
    input.addEventListener("click", changed);
    return { element: input, input, isPress: true, value: () => true, set() {} };
  },

  button_bar(spec, changed) {
    let pressed = 0;
    const buttons = spec.value_labels.map((label, at) => {
      const button = node("button", { type: "button", textContent: label });
      button.addEventListener("click", () => {
        pressed = at;
        changed();
      });
      return button;
    });
    return { ...group(grid(spec, buttons)), isPress: true, value: () => pressed, set() {} };
  },

  color_selector(spec, changed) {
    const input = node("input", { type: "color", value: spec.default });
    const text = node("output", { textContent: spec.default });
    const show = () => { text.textContent = input.value; };
    input.addEventListener("input", () => {
      show();
      changed();
    });
    const element = node("span", { className: "with-value" }, input);
    if (!spec.hide_input) element.append(text);
    return { element, input, value: () => input.value, set: (value) => { input.value = value; show(); } };
  },

  input_grid(spec, changed) {
    const cells = spec.default.map((row, y) => row.map((value, x) => {
      const input = node("input", { value, size: Math.max(Number(spec.width) || 4, 2), spellcheck: false, className: "code" });
      input.setAttribute("aria-label", `${spec.label || "value"} row ${y + 1} column ${x + 1}`);
      input.addEventListener("keydown", ({ key }) => { if (key === "Enter") changed(); });
      return input;
    }));
    const submit = node("button", { type: "button", textContent: "Submit" });
    submit.addEventListener("click", changed);
    const rows = cells.map((row) => node("div", { className: "cells" }, ...row));
    return group([...rows, submit], {
      value: () => cells.map((row) => row.map(({ value }) => value)),
      set: (values) => values.forEach((row, y) => row.forEach((value, x) => { if (cells[y]?.[x]) cells[y][x].value = value; })),
    });
  },

  html_box(spec) {
    const element = html(spec.value ?? "");
    return { element, value: () => null, set: (value) => element.replaceChildren(html(String(value))), isSilent: true };
  },
};

function unknown(spec) {
  const element = node("span", { className: "note", textContent: `a control of a kind that is not known here: ${spec.control_type}` });
  return { element, value: () => null, set() {}, isSilent: true };
}

/** Numbers as people read them. */
function short(value) {
  return String(Number(Number(value).toPrecision(6)));
}

function slide({ range: [low, high], step, value }) {
  const input = node("input", { type: "range" });
  Object.assign(input, { min: low, max: high, step: step || "any" });
  input.value = value;
  return input;
}

/** A slider for one value. `shown(value)`: what stands beside it; `named`: what is read for it. */
function single(spec, shown, named, changed) {
  const input = slide(spec);
  const text = node("output");
  const show = () => {
    if (shown) text.textContent = shown(input.valueAsNumber);
    if (named) input.setAttribute("aria-valuetext", named(input.valueAsNumber));
  };
  input.addEventListener("input", () => {
    show();
    changed();
  });
  show();
  const element = node("span", { className: "with-value" }, input);
  if (shown) element.append(text);
  return { element, input, value: () => input.valueAsNumber, set: (value) => { input.value = value; show(); } };
}

/** A slider with two ends, which never cross. */
function pair(spec, shown, changed) {
  const ends = spec.default.map((value, at) => {
    const input = slide({ ...spec, value });
    input.setAttribute("aria-label", `${spec.label || "value"} ${at ? "to" : "from"}`);
    return input;
  });
  const text = node("output");
  const track = node("span", { className: "track" }, ...ends);
  const [low, high] = spec.range;
  const show = () => {
    const values = ends.map(({ valueAsNumber }) => valueAsNumber);
    if (shown) text.textContent = values.map(shown).join(" – ");
    if (spec.values) ends.forEach((end, at) => end.setAttribute("aria-valuetext", String(spec.values[values[at]])));
    values.forEach((value, at) => track.style.setProperty(at ? "--to" : "--from", (value - low) / (high - low || 1)));
  };
  ends.forEach((end, at) => end.addEventListener("input", () => {
    const other = ends[1 - at].valueAsNumber;
    end.value = at ? Math.max(end.valueAsNumber, other) : Math.min(end.valueAsNumber, other);
    show();
    changed();
  }));
  show();
  return group([track, ...(shown ? [text] : [])], {
    value: () => ends.map(({ valueAsNumber }) => valueAsNumber),
    set: (values) => {
      ends.forEach((end, at) => { end.value = values[at]; });
      show();
    },
  }, "with-value");
}

/** One of several, all of them seen. */
function choice(spec, changed) {
  const name = `choice-${count += 1}`;
  const inputs = spec.value_labels.map((_, at) => {
    const input = node("input", { type: "radio", name, value: at, checked: at === spec.default });
    input.addEventListener("change", changed);
    return input;
  });
  const labels = inputs.map((input, at) => node("label", { className: spec.subtype }, input, node("span", { textContent: spec.value_labels[at] })));
  const made = group(grid(spec, labels), {
    value: () => inputs.findIndex(({ checked }) => checked),
    set: (value) => { if (inputs[value]) inputs[value].checked = true; },
  });
  made.element.setAttribute("role", "radiogroup");
  return made;
}

function grid({ ncols, width }, children) {
  if (width) for (const child of children) child.style.width = width;
  const element = node("div", { className: "grid" }, ...children);
  if (ncols > 0 && ncols < children.length) element.style.gridTemplateColumns = `repeat(${ncols}, max-content)`;
  else element.classList.add("line");
  return [element];
}

function group(children, more = {}, className = "group") {
  const element = node("div", { className }, ...children);
  element.setAttribute("role", "group");
  return { element, ...more };
}
