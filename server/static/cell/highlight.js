// Code with its kinds of words told apart, well enough to be read more easily.

const PYTHON = "False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield match case";
const OTHERS = "and break case catch do done else elseif end endif endfunction esac fi for foreach function if in local next not or repeat return switch then try until while true false nil null NULL TRUE FALSE";

const TOKENS = {
  python: tokens("#.*", String.raw`(?:\b[rRbBfFuU]{1,2})?(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)`, PYTHON),
  html: tokens("<!--[\\s\\S]*?(?:-->|$)", String.raw`"[^"\n]*"|'[^'\n]*'`, "", String.raw`</?[\w-]+|/?>`),
  lua: tokens("--.*", strings(), OTHERS),
  gp: tokens(String.raw`\\\\.*`, strings(), OTHERS),
  maxima: tokens(String.raw`/\*[\s\S]*?(?:\*/|$)`, strings(), OTHERS),
  singular: tokens("//.*", strings(), OTHERS),
  octave: tokens("[#%].*", strings(), OTHERS),
  other: tokens("#.*", strings(), OTHERS),
};

function strings() {
  return String.raw`"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?`;
}

function tokens(comment, string, words, mark = String.raw`@[\w.]+`) {
  const keyword = words ? String.raw`\b(?:${words.replaceAll(" ", "|")})\b` : "(?!)";
  const number = String.raw`\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?)j?\b`;
  return new RegExp(`(?<comment>${comment})|(?<string>${string})|(?<keyword>${keyword})|(?<number>${number})|(?<mark>${mark})`, "g");
}

/** Characters beyond which code is left as it is. */
const MOST = 50_000;

/** The code as nodes. */
export function highlighted(code, language) {
  const fragment = document.createDocumentFragment();
  const kind = language === "sage" ? "python" : language;
  const pattern = Object.hasOwn(TOKENS, kind) ? TOKENS[kind] : TOKENS.other;
  let from = 0;
  for (const match of code.length > MOST ? [] : code.matchAll(pattern)) {
    if (match[0] === "") continue;
    fragment.append(code.slice(from, match.index));
    const span = document.createElement("span");
    span.className = `code-${Object.keys(match.groups).find((name) => match.groups[name] !== undefined)}`;
    span.textContent = match[0];
    fragment.append(span);
    from = match.index + match[0].length;
  }
  // A line break at the end needs something behind it to have a height.
  fragment.append(`${code.slice(from)}\n`);
  return fragment;
}
