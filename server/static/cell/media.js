// Rich output: pictures, HTML, and whatever else a kernel shows, by media types.

import { BASE } from "./server.js";
import { colorful } from "./stream.js";

/** Media types that can be shown, best first. */
const TYPES = [
  "text/image-filename", "application/x-file", "text/html", "image/svg+xml", "image/png", "image/jpeg", "image/gif", "image/webp",
  "text/latex", "text/markdown", "application/json", "text/plain",
];
/** Elements of HTML that stand in the page itself. With any other, it goes into a frame, or they are left out. */
const PLAIN = new Set((
  "a abbr address article aside audio b bdi bdo big blockquote br caption center cite code col colgroup data dd del details dfn div dl dt em "
  + "figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark meter nav ol p picture pre progress q rp rt ruby s samp "
  + "section small source span strong sub summary sup table tbody td tfoot th thead time tr tt u ul var video wbr"
).split(" "));
const ATTRIBUTES = new Set((
  "align alt border cellpadding cellspacing class colspan controls datetime dir height href id lang loop max min name open poster rowspan scope "
  + "span src start style title type valign value width"
).split(" "));
/** What only works where scripts run, and styles, which would reach the cell around them. */
const LIVE = "script, style, link, iframe, object, embed, svg, math, canvas, form, input, button, select, textarea";
const FRAME = new URL("frame.html", import.meta.url);

/** An element that shows `data`. */
export function show(data, metadata, kernel) {
  const type = TYPES.find((type) => data[type] !== undefined);
  const value = type === undefined ? "" : text(data[type]);
  const plain = text(data["text/plain"] ?? "");
  switch (type) {
    case "text/image-filename":
      return image(new URL(value, kernel.files), plain || fileName(value), {});
    case "application/x-file":
      return paragraph(link(new URL(value, kernel.files), fileName(value)));
    case "text/html":
      return html(value.replaceAll("cell://", kernel.files));
    case "image/svg+xml":
      return image(`data:image/svg+xml,${encodeURIComponent(value)}`, plain || "Picture", metadata[type]);
    case "image/png":
    case "image/jpeg":
    case "image/gif":
    case "image/webp":
      return image(`data:${type};base64,${value.replace(/\s/g, "")}`, plain || "Picture", metadata[type]);
    case "text/latex":
      return colorful(value.replace(/^\s*\${1,2}|\${1,2}\s*$/g, ""), "latex");
    case "application/json":
      return colorful(JSON.stringify(data[type], null, 2), "result");
    case "text/markdown":
    case "text/plain":
      return colorful(value, "result");
    default:
      return colorful(`[output of a kind that is not shown here: ${Object.keys(data).join(", ")}]`, "note");
  }
}

/** HTML of a kernel. What has scripts or styles goes into a frame that can reach nothing of this page. */
export function html(source) {
  const parsed = new DOMParser().parseFromString(source, "text/html");
  // Tables of pandas have it, and look well without it.
  for (const style of parsed.querySelectorAll("style[scoped]")) style.remove();
  if (parsed.querySelector(LIVE)) return framed(source);
  const element = document.createElement("div");
  element.className = "html";
  clean(parsed.documentElement);
  element.append(...parsed.head.childNodes, ...parsed.body.childNodes);
  return element;
}

/** A link to a file. */
export function link(url, name) {
  const element = document.createElement("a");
  element.href = url;
  element.textContent = name;
  element.download = name.split("/").pop();
  element.target = "_blank";
  element.rel = "noopener";
  return element;
}

function text(value) {
  if (Array.isArray(value)) return value.join("");
  return typeof value === "string" ? value : JSON.stringify(value);
}

function fileName(url) {
  const path = url.split("?")[0];
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function paragraph(child) {
  const element = document.createElement("p");
  element.append(child);
  return element;
}

function image(source, description, metadata) {
  const element = document.createElement("img");
  element.alt = description;
  for (const side of ["width", "height"]) {
    if (Number.isFinite(metadata?.[side])) element[side] = metadata[side];
  }
  element.src = source;
  return element;
}

function clean(root) {
  for (const element of [...root.querySelectorAll("*")]) {
    const name = element.localName;
    if (["head", "body"].includes(name)) continue;
    if (!PLAIN.has(name)) {
      element.remove();
      continue;
    }
    for (const { name: attribute, value } of [...element.attributes]) {
      const isLink = ["href", "src", "poster"].includes(attribute);
      const isSafe = !isLink || /^(https?:|mailto:|blob:|data:(image|audio|video)\/|#|[^:]*$)/i.test(value.trim());
      const isKnown = ATTRIBUTES.has(attribute) || /^(aria|data)-[\w-]+$/.test(attribute);
      if (!isKnown || !isSafe) element.removeAttribute(attribute);
      // The page that embeds a cell may be of another server.
      else if (isLink && /^\/(?!\/)/.test(value)) element.setAttribute(attribute, new URL(`.${value}`, BASE));
    }
    if (name === "a") {
      element.target = "_blank";
      element.rel = "noopener noreferrer";
    }
    if (name === "img" && !element.hasAttribute("alt")) element.alt = "";
  }
}

function framed(source) {
  const frame = document.createElement("iframe");
  frame.title = "Output";
  frame.className = "html";
  frame.setAttribute("sandbox", "allow-scripts allow-popups allow-downloads allow-forms");
  frame.src = FRAME.href;
  const heard = ({ source: from, data }) => {
    if (!frame.isConnected && frame.dataset.loaded) {
      removeEventListener("message", heard);
      return;
    }
    if (from !== frame.contentWindow || from === null) return;
    if (data?.ready && !frame.dataset.loaded) {
      frame.dataset.loaded = "true";
      // It has no origin that could be named.
      frame.contentWindow.postMessage({ html: source }, "*");
    }
    if (Number.isFinite(data?.height)) frame.style.height = `${Math.min(Math.max(data.height, 20), 4_000)}px`;
  };
  addEventListener("message", heard);
  return frame;
}
