// The server that these scripts came from: its addresses, and what it is asked without a kernel.

/** Where the server's paths begin: it may lie below a prefix, or be another than the page's. */
export const BASE = new URL("../", import.meta.url);
/** The name of this page with the server, which counts kernels by it. */
export const PAGE_ID = uuid();
const ACCEPTED = "runner.cell.acceptedTerms";

/** Where tokens are demanded, the one that the page was opened with. */
const token = BASE.origin === location.origin ? new URLSearchParams(location.search).get("token") : null;
let acceptedHere = false;
/** Whether the server has said that there is nothing to accept. */
let hasNoTerms = false;

/** An answer of the server that is no success. */
export class Refusal extends Error {
  constructor(status, message, retryAfter) {
    super(retryAfter ? `${message} Try again in ${retryAfter} s.` : message);
    this.status = status;
    /** What went wrong, as a word for programs. */
    this.code = null;
  }
}

/** A random UUID. Pages without TLS have no `crypto.randomUUID`. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The URL of a path of the server. */
export function address(path) {
  return new URL(path, BASE);
}

/** The URL of a WebSocket. Browsers cannot send headers with it. */
export function socketAddress(path) {
  const url = address(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (token) url.searchParams.set("token", token);
  return url;
}

/** Asks the server; fails with a `Refusal`, or because there is no answer. `fields` go as a form, which needs no preflight. */
export async function ask(method, path, { fields, body, ...more } = {}) {
  const headers = token ? { Authorization: `token ${token}` } : {};
  let answer;
  try {
    answer = await fetch(address(path), {
      method, headers, credentials: "include", body: fields ? new URLSearchParams(fields) : body, ...more,
    });
  } catch {
    throw new Refusal(0, "The server cannot be reached.");
  }
  if (answer.ok) return answer;
  throw await refusal(answer);
}

async function refusal(answer) {
  const text = await answer.text().catch(() => "");
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    // A proxy in between speaks HTML.
  }
  const known = {
    401: "The server wants to know who you are: open the page with ?token=….",
    404: "The server does not offer this.",
    413: "This is more than the server takes.",
    429: "Too much at once.",
    503: "The server has no room at the moment.",
  };
  const message = told.message || known[answer.status] || `The server answered ${answer.status}.`;
  const isTemporary = answer.status === 429 || answer.status === 503;
  const after = Number(answer.headers.get("Retry-After"));
  const result = new Refusal(answer.status, message, isTemporary && after > 0 ? after : isTemporary ? 5 : 0);
  result.code = told.error ?? null;
  return result;
}

/** The terms of service as HTML; null where there are none, or they were accepted. */
export async function termsToAccept() {
  if (hasNoTerms || hasAccepted()) return null;
  const answer = await ask("POST", "tos.html");
  hasNoTerms = answer.status === 204;
  return hasNoTerms ? null : answer.text();
}

/** Remembers that the terms were accepted. */
export function acceptTerms() {
  acceptedHere = true;
  try {
    localStorage.setItem(ACCEPTED, "true");
  } catch {
    // Frames of others may have no storage.
  }
}

/** Forgets it, when the server does not see it so. */
export function forgetTerms() {
  acceptedHere = hasNoTerms = false;
  try {
    localStorage.removeItem(ACCEPTED);
  } catch {
    // As above.
  }
}

/** Whether the terms were accepted. */
export function hasAccepted() {
  try {
    return acceptedHere || localStorage.getItem(ACCEPTED) === "true";
  } catch {
    return acceptedHere;
  }
}
