// The script of a micro frontend: a page with forms that runs in an iframe of a host and talks to
// it with postMessage, or stands alone in a browser tab.
//
// To the host: "ui-loaded", "ui-loading", ui-resize, ui-submit-status, form-submit, form-error,
// request-data-url, request-data-url-info, request-related-data-url, request-data-preview,
// request-plugin-url, request-plugin-url-info; pages may send more (implementations-request).
// From the host: load-css, plugin-context, data-url-response, plugin-url-response,
// autofill-response, implementations-response, "ui-prevent-submit", "ui-allow-submit",
// "ui-submit-status".
//
// Pages use the globals named at the end, and may set on `window._qhana_microfrontend_state`
//   messageHandler(event)                            sees each message of the host first,
//   formSubmitHandler(event, dataInputs, privateInputs)   sees each submit first
//                       (sets of field names); either returns true when nothing is left to do,
//   targetHeight        a height in pixels or "full", sent along with the height.

(() => {
  "use strict";

  // A page may include this script twice, or prepare its state before.
  const initial = (window._qhana_microfrontend_state ??= {});
  if (initial.started) return;
  initial.started = true;
  initial.href = window.location.href;
  initial.preventSubmit ??= false;

  /** The window that embeds this page, or null if the page stands alone. */
  const host = window.parent === window ? null : window.parent;
  document.documentElement.classList.toggle("qhana-embedded", host !== null);

  /** How long a submission may take, in milliseconds, and how slow an upload may be on top. */
  const SUBMIT_TIMEOUT = 60_000;
  const SLOWEST_UPLOAD = 50; // bytes per millisecond

  const STATUS_TEXTS = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    413: "Content Too Large", 422: "Unprocessable Entity", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 507: "Insufficient Storage",
  };

  const state = () => window._qhana_microfrontend_state ?? initial;

  // Messages ////////////////////////////////////////////////////////////////////////////////////

  /** Sends a message to the host. Returns whether there is one. */
  function sendMessage(message) {
    // Any page may be a host, so there is no origin to insist on; secrets are never sent.
    host?.postMessage(message, "*");
    return host !== null;
  }

  function receiveMessage(event) {
    if (host === null || event.source !== host) return;
    if (callHandler("messageHandler", event)) return;
    const message = event.data;
    const handler = MESSAGE_HANDLERS[typeof message === "string" ? message : message?.type];
    handler?.(message);
  }

  const MESSAGE_HANDLERS = {
    __proto__: null,
    "ui-prevent-submit": () => setPreventSubmit(true),
    "ui-allow-submit": () => setPreventSubmit(false),
    "ui-submit-status": sendSubmitStatus,
    "load-css": loadCss,
    "plugin-context": ({ type, ...context }) => { state().pluginContext = context; },
    "data-url-response": (message) => fillChosen(message, message.href, "file", describeFile(message)),
    "plugin-url-response": (message) => fillChosen(message, message.pluginUrl, "plugin", describePlugin(message)),
    "autofill-response": autofill,
    "implementations-response": (message) => { state().implementations = message.implementations; },
  };

  /** Asks a page's own handler. A handler that throws has not handled anything. */
  function callHandler(name, ...args) {
    try {
      return Boolean(state()[name]?.(...args));
    } catch (error) {
      console.error(`The page's ${name} failed.`, error);
      return false;
    }
  }

  function setPreventSubmit(prevent) {
    state().preventSubmit = prevent;
    sendSubmitStatus();
  }

  function sendSubmitStatus() {
    sendMessage({ type: "ui-submit-status", isAllowedToSubmit: !state().preventSubmit });
  }

  function getPluginContext() {
    return { ...state().pluginContext };
  }

  /** Takes over the look of the host: from here on its style sheets decide, not the system. */
  function loadCss({ urls }) {
    if (!Array.isArray(urls)) return;
    const present = new Set([...document.querySelectorAll('link[rel="stylesheet"]')].map((link) => link.href));
    for (const text of urls) {
      const url = typeof text === "string" ? parseUrl(text) : null;
      if (url === null || !/^https?:$/.test(url.protocol) || present.has(url.href)) continue;
      present.add(url.href);
      const link = document.createElement("link");
      link.rel = "stylesheet";
      link.href = url.href;
      document.head.append(link);
    }
    document.documentElement.classList.add("qhana-hosted");
    document.body.style.background = "transparent";
    monitorHeightChanges(state());
  }

  // Height //////////////////////////////////////////////////////////////////////////////////////

  let observer = null;

  /** Tells the host the height of the page, now and whenever it changes. */
  function monitorHeightChanges(target = state()) {
    reportHeight(target);
    // Pages call this right before something late, such as a picture, has its size.
    requestAnimationFrame(() => reportHeight(target));
    setTimeout(() => reportHeight(target), 500);
    if (observer === null && host !== null) {
      observer = new ResizeObserver(() => reportHeight(state()));
      observer.observe(document.documentElement);
      observer.observe(document.body);
      document.addEventListener("load", () => reportHeight(state()), true);
    }
  }

  function reportHeight(target) {
    if (window.innerWidth === 0) return; // the host does not show this page
    const height = measureHeight();
    const { targetHeight } = target;
    if (height === target.height && targetHeight === target.sentTargetHeight) return;
    target.height = height;
    target.sentTargetHeight = targetHeight;
    sendMessage({ type: "ui-resize", height, ...(targetHeight != null && { targetHeight }) });
  }

  function measureHeight() {
    const scroller = document.scrollingElement ?? document.documentElement;
    // `scrollHeight` is never less than the frame, so it serves only where content overflows;
    // where it does not, the root's own height lets the frame shrink.
    const overflows = scroller.scrollHeight > scroller.clientHeight;
    const content = document.documentElement.getBoundingClientRect().height;
    const height = Math.max(content, overflows ? scroller.scrollHeight : 0);
    const horizontalScrollbar = Math.max(0, window.innerHeight - scroller.clientHeight);
    return Math.ceil(height) + horizontalScrollbar;
  }

  // Forms ///////////////////////////////////////////////////////////////////////////////////////

  const instrumented = new WeakSet();

  /** Connects all forms of the page. To be called again after fields were added. */
  function instrumentForm() {
    for (const form of document.querySelectorAll("form.qhana-form")) {
      if (!once(form)) {
        form.addEventListener("submit", onSubmit);
        form.addEventListener("click", onClick);
        form.addEventListener("input", onInput);
        form.addEventListener("change", onChange);
      }
      checkLengths(form);
      if (host === null) continue;
      for (const button of form.querySelectorAll(HOST_BUTTONS)) button.hidden = false;
      for (const input of form.querySelectorAll("[data-input-type]")) {
        if (!once(input)) announceUrl(input);
      }
    }
  }

  /** Whether an element has been seen before. */
  function once(element) {
    const seen = instrumented.has(element);
    instrumented.add(element);
    return seen;
  }

  const HOST_BUTTONS =
    "button.qhana-choose-file-button, button.qhana-choose-plugin-button, button.qhana-show-preview-button";

  function onClick(event) {
    const button = event.target.closest(HOST_BUTTONS);
    if (button === null || host === null) return;
    event.preventDefault();
    const message = requestOf(button);
    if (message !== null) sendMessage(message);
  }

  /** What a button asks the host for, or null if it cannot ask yet. */
  function requestOf(button) {
    const { inputId: inputKey, input, contentType, relatedInputId, relation, includeSelf } = button.dataset;
    const { pluginTags, pluginName, pluginVersion } = button.dataset;
    if (button.matches(".qhana-choose-plugin-button")) {
      return {
        type: "request-plugin-url",
        inputKey,
        pluginTags: words(pluginTags),
        ...(pluginName && { pluginName }),
        ...(pluginVersion && { pluginVersion }),
      };
    }
    if (button.matches(".qhana-show-preview-button")) {
      const dataUrl = document.getElementById(inputKey)?.value;
      return dataUrl ? { type: "request-data-preview", dataUrl } : null;
    }
    const contentTypes = words(contentType);
    if (button.matches(".related")) {
      const dataUrl = document.getElementById(relatedInputId)?.value;
      if (!dataUrl) return null;
      return {
        type: "request-related-data-url",
        inputKey,
        dataUrl,
        relation,
        userInteraction: true,
        ...(includeSelf != null && includeSelf !== "false" && { includeSelf: true }),
        ...(input && { acceptedInputType: input }),
        // There is room for one type only; several are no restriction.
        ...(contentTypes.length === 1 && { acceptedContentType: contentTypes[0] }),
      };
    }
    return {
      type: "request-data-url",
      inputKey,
      acceptedInputType: input ?? "*",
      acceptedContentTypes: contentTypes.length > 0 ? contentTypes : ["*"],
    };
  }

  function onInput(event) {
    const input = event.target;
    checkLength(input);
    if (filling || !input.dataset.inputType) return;
    // What was chosen before is not what the field says now.
    for (const kind of ["file", "plugin"]) showHint(input.id, kind, null);
    enableRelated(input);
  }

  function onChange(event) {
    if (!filling && host !== null && event.target.dataset.inputType) announceUrl(event.target);
  }

  /** Asks the host what is behind the URL in a field, and lets related data be chosen. */
  function announceUrl(input) {
    enableRelated(input);
    if (!input.id || !input.value) return;
    if (input.dataset.inputType === "data") {
      sendMessage({ type: "request-data-url-info", inputKey: input.id, dataUrl: input.value });
    } else if (input.dataset.inputType === "plugin") {
      sendMessage({ type: "request-plugin-url-info", inputKey: input.id, pluginUrl: input.value });
    }
  }

  function enableRelated(input) {
    const buttons = document.querySelectorAll("button.qhana-choose-file-button.related");
    for (const button of buttons) {
      if (button.dataset.relatedInputId === input.id) button.disabled = !input.value;
    }
  }

  /** Set while a value comes from the host and not from a person. */
  let filling = false;

  function fill(control, value) {
    filling = true;
    try {
      if (control.type === "checkbox") {
        control.checked = ["true", "on"].includes(String([value].flat()[0]));
      } else if (control.type === "radio") {
        control.checked = control.value === String(value);
      } else if (control.type === "select-multiple") {
        const chosen = new Set([value].flat().map(String));
        for (const option of control.options) option.selected = chosen.has(option.value);
      } else if (Array.isArray(value) && value.every((item) => typeof item !== "object")) {
        control.value = value.join(",");
      } else {
        control.value = value !== null && typeof value === "object" ? JSON.stringify(value) : (value ?? "");
      }
      for (const type of ["input", "change"]) {
        control.dispatchEvent(new InputEvent(type, { bubbles: true, data: control.value }));
      }
    } finally {
      filling = false;
    }
  }

  /** Puts a file or plugin that was chosen in the host into its field. */
  function fillChosen({ inputKey }, url, kind, description) {
    const input = document.getElementById(inputKey);
    if (input === null || !("value" in input) || input.type === "file" || typeof url !== "string") return;
    fill(input, url);
    enableRelated(input);
    showHint(inputKey, kind, description);
  }

  /** Shows what was chosen, or hides the hint. */
  function showHint(inputId, kind, text) {
    for (const hint of document.querySelectorAll(`.selected-${kind}-hint`)) {
      if (hint.dataset.inputId !== inputId) continue;
      hint.hidden = text === null;
      hint.setAttribute("aria-live", text === null ? "off" : "polite");
      const name = hint.querySelector(`.selected-${kind}-name`);
      if (name !== null) name.textContent = text ?? "";
    }
  }

  function describeFile({ filename, version, dataType, contentType }) {
    const name = (filename || "unknown") + (version ? ` (v${String(version).replace(/^v/, "")})` : "");
    return [name, dataType, contentType].filter(Boolean).join(", ");
  }

  function describePlugin({ pluginName, pluginVersion }) {
    return (pluginName || "unknown") + (pluginVersion ? ` (${pluginVersion})` : "");
  }

  /** Fills the fields with values of an earlier submission. Secrets and files are left alone. */
  function autofill({ value, encoding }) {
    for (const [name, entry] of Object.entries(decodeValues(value, encoding))) {
      for (const form of document.querySelectorAll("form.qhana-form")) {
        for (const control of controlsNamed(form, name)) {
          if (isPrivate(control) || control.type === "file" || control.type === "hidden") continue;
          fill(control, entry);
          if (control.dataset.inputType) announceUrl(control);
        }
      }
    }
  }

  function decodeValues(text, encoding) {
    const values = Object.create(null);
    switch (String(encoding).split(";")[0].trim()) {
      case "application/json":
        try {
          return Object.assign(values, JSON.parse(text));
        } catch (error) {
          console.warn("The host sent values that are no JSON.", error);
          return values;
        }
      case "application/x-www-form-urlencoded":
        for (const [name, value] of new URLSearchParams(text)) {
          values[name] = name in values ? [values[name], value].flat() : value;
        }
        return values;
      default:
        console.warn(`The host sent values in an unknown encoding: ${encoding}`);
        return values;
    }
  }

  // Submitting //////////////////////////////////////////////////////////////////////////////////

  async function onSubmit(event) {
    const form = event.target;
    const { submitter } = event;
    if (form.getAttribute("aria-busy") === "true") {
      event.preventDefault(); // one task per click, however often somebody clicks
      return;
    }
    const dataInputs = namesOf(form, (control) => control.dataset.inputType === "data");
    const privateInputs = namesOf(form, isPrivate);
    if (callHandler("formSubmitHandler", event, dataInputs, privateInputs) || event.defaultPrevented) return;

    const target = submitter?.dataset.target || form.dataset.target;
    if (target === "microfrontend") {
      if (token !== null) form.setAttribute("action", withToken(form.getAttribute("action") || location.href));
      sendMessage("ui-loading"); // the next page says when it has loaded
      return;
    }
    if (target !== "api") return;

    event.preventDefault();
    // Attributes, as a field called "action" or "method" hides the form's property.
    const action = submitter?.getAttribute("formaction") ?? form.getAttribute("action") ?? "";
    const method = submitter?.getAttribute("formmethod") ?? form.getAttribute("method") ?? "post";
    const submitUrl = new URL(action || location.href, document.baseURI).href;
    const formData = new FormData(form);
    const submitted = describeSubmission(form, formData, dataInputs, privateInputs);

    clearErrors(form);
    sendMessage("ui-loading");
    if (state().preventSubmit) {
      // The host wants to submit by itself. Without a string as result it would not hear of this.
      sendMessage({ ...submitted, submitUrl, resultUrl: "" });
      return;
    }
    form.setAttribute("aria-busy", "true");
    const { resultUrl, status, error } = await post(formData, submitUrl, method);
    if (error === undefined && !sendMessage({ ...submitted, submitUrl, resultUrl })) {
      location.assign(withToken(resultUrl)); // and stay busy until the page is left
      return;
    }
    form.removeAttribute("aria-busy");
    if (error !== undefined) {
      sendMessage({ type: "form-error", status, error });
      showErrors(form, error);
    }
  }

  /** What the host may know of a submission. */
  function describeSubmission(form, formData, dataInputs, privateInputs) {
    const values = new URLSearchParams();
    const urls = new Set();
    const switches = namesOf(form, (control) => control.type === "checkbox" && hasHiddenTwin(form, control));
    for (const [name, entry] of formData) {
      if (switches.has(name) && values.has(name)) continue; // the first one wins
      if (privateInputs.has(name)) {
        values.append(name, "***");
      } else if (entry instanceof File) {
        values.append(name, entry.name ? `Uploaded file: ${entry.name}` : "");
      } else {
        values.append(name, entry);
        if (dataInputs.has(name) && entry) urls.add(entry);
      }
    }
    return {
      type: "form-submit",
      formData: values.toString(),
      formDataType: "application/x-www-form-urlencoded",
      dataInputs: [...urls],
    };
  }

  /** Posts and follows redirects: the final URL of a final 200, or the error that it came to. */
  async function post(formData, url, method) {
    const size = [...formData.values()].reduce((sum, entry) => sum + (entry.size ?? entry.length), 0);
    const signal = AbortSignal.timeout(SUBMIT_TIMEOUT + size / SLOWEST_UPLOAD);
    try {
      const response = await submitFormData(formData, url, method, { signal });
      if (response.status !== 200) return { status: response.status, error: await errorOf(response) };
      // Read to its end, but kept by nobody: a page that is left meanwhile would abort it.
      await response.body?.pipeTo(new WritableStream()).catch(() => {});
      return { resultUrl: response.url };
    } catch (cause) {
      console.error("The form could not be submitted.", cause);
      return cause.name === "TimeoutError"
        ? failure(504, "The server did not answer in time.")
        : failure(503, "The server could not be reached.");
    }
  }

  function failure(status, message) {
    return { status, error: { code: status, status: STATUS_TEXTS[status], message } };
  }

  /** The token that this page was opened with, where the runner requires one. */
  const token = new URLSearchParams(location.search).get("token");

  /** The headers that show it to the runner, and to nobody else. */
  function tokenHeaders(url) {
    return token !== null && url.origin === location.origin ? { Authorization: `Bearer ${token}` } : {};
  }

  /** A page of the runner that is opened from here, with the token. */
  function withToken(href) {
    const url = parseUrl(href);
    if (token === null || url === null || url.origin !== location.origin) return href;
    url.searchParams.set("token", token);
    return url.href;
  }

  /** Sends a form's data and gives the response. */
  function submitFormData(formData, formAction, formMethod = "post", options = {}) {
    const url = new URL(formAction, document.baseURI);
    options = { ...options, headers: { ...tokenHeaders(url), ...options.headers } };
    if (formMethod.toLowerCase() === "get") {
      for (const [name, entry] of formData) url.searchParams.append(name, entry.name ?? entry);
      return fetch(url, options);
    }
    return fetch(url, { ...options, method: formMethod.toUpperCase(), body: formData });
  }

  /** The error in a response, always with the `code` and `status` that a host needs to show it. */
  async function errorOf(response) {
    const code = response.status;
    const status = response.statusText || STATUS_TEXTS[code] || "Error";
    const body = await response.json().catch((cause) => {
      if (cause.name === "TimeoutError") throw cause;
      return null;
    });
    if (body !== null && typeof body === "object" && !Array.isArray(body)) {
      return { ...body, code: body.code ?? code, status: body.status ?? status };
    }
    const message = typeof body === "string" && body ? body : `The server answered ${code} ${status}.`;
    return { code, status, message };
  }

  // Errors at their fields //////////////////////////////////////////////////////////////////////

  function showErrors(form, error) {
    const general = [];
    let first = null;
    for (const fields of Object.values(error.errors ?? {})) {
      for (const [name, messages] of Object.entries(fields ?? {})) {
        const control = controlsNamed(form, name).find(({ type }) => type !== "hidden");
        const texts = textsIn(messages);
        const place = control && descriptionOf(control);
        if (place) {
          place.prepend(errorParagraph(texts));
          control.setAttribute("aria-invalid", "true");
          if (first === null || control.compareDocumentPosition(first) & Node.DOCUMENT_POSITION_FOLLOWING) {
            first = control;
          }
        } else {
          const label = control?.labels?.[0]?.textContent.trim() ?? name;
          general.push(...texts.map((text) => (label && label !== "_schema" ? `${label}: ${text}` : text)));
        }
      }
    }
    if (error.message) general.unshift(error.message);
    if (first === null && general.length === 0) general.push(`${error.code} ${error.status}`);
    if (general.length > 0) {
      const box = document.createElement("div");
      box.className = "qhana-form-errors";
      box.setAttribute("role", "alert");
      form.prepend(box);
      box.append(errorParagraph(general)); // after the box is there, so that it is read out
    }
    first?.focus();
    monitorHeightChanges(state());
  }

  function clearErrors(form) {
    for (const old of form.querySelectorAll(".qhana-form-errors, .qhana-error-message, .qhana-valid-hint")) {
      old.remove();
    }
    for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  }

  function errorParagraph(texts) {
    const paragraph = document.createElement("p");
    paragraph.className = "qhana-error-message";
    paragraph.setAttribute("aria-live", "assertive");
    for (const text of texts) {
      const span = document.createElement("span");
      span.textContent = text;
      paragraph.append(span, " ");
    }
    return paragraph;
  }

  /** The texts in messages, which may be nested by index or key. */
  function textsIn(messages) {
    if (messages !== null && typeof messages === "object") return Object.values(messages).flatMap(textsIn);
    return [String(messages)];
  }

  /** A text that is too long is refused with a message; a `maxlength` would cut it unseen. */
  function checkLength(control) {
    const limit = Number(control.dataset.maxLength ?? NaN);
    if (Number.isNaN(limit)) return;
    const length = [...control.value].length;
    control.setCustomValidity(length > limit ? `At most ${limit} characters, these are ${length}.` : "");
  }

  function checkLengths(form) {
    for (const control of form.querySelectorAll("[data-max-length]")) checkLength(control);
  }

  // Small helpers ///////////////////////////////////////////////////////////////////////////////

  function controlsOf(form) {
    // Not `form.elements`, which a field of that name hides.
    return [...form.querySelectorAll("input[name], textarea[name], select[name]")];
  }

  function controlsNamed(form, name) {
    return controlsOf(form).filter((control) => control.name === name);
  }

  function namesOf(form, condition) {
    return new Set(controlsOf(form).filter(condition).map((control) => control.name));
  }

  function hasHiddenTwin(form, checkbox) {
    return controlsNamed(form, checkbox.name).some(({ type }) => type === "hidden");
  }

  function isPrivate(control) {
    return control.type === "password" || "private" in control.dataset;
  }

  function descriptionOf(control) {
    const id = control.getAttribute("aria-describedby")?.split(/\s+/)[0] ?? `${control.id}-description`;
    return document.getElementById(id) ?? control.closest(".qhana-form-field");
  }

  function words(text) {
    return (text ?? "").split(/\s+/).filter(Boolean);
  }

  function parseUrl(text) {
    try {
      return new URL(text, document.baseURI);
    } catch {
      return null;
    }
  }

  // Start ///////////////////////////////////////////////////////////////////////////////////////

  Object.assign(window, {
    sendMessage,
    monitorHeightChanges,
    getPluginContext,
    instrumentForm,
    submitFormData,
  });

  function start() {
    window.addEventListener("message", receiveMessage);
    window.addEventListener("pageshow", ({ persisted }) => {
      if (!persisted) return; // the page is back from the history
      for (const form of document.querySelectorAll("form[aria-busy]")) form.removeAttribute("aria-busy");
    });
    instrumentForm();
    // After validation the page is new, and the focus would be at its beginning.
    if (document.hasFocus()) document.querySelector('form.qhana-form [aria-invalid="true"]')?.focus();
    sendMessage("ui-loaded"); // only now, as the host answers at once
    monitorHeightChanges(state());
  }

  if (document.body === null) {
    document.addEventListener("DOMContentLoaded", start);
  } else {
    start();
    // What follows this script in the page may hold a form, too.
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", instrumentForm);
  }
})();
