// The host of /debug/frontend-debugger: loads a micro frontend, shows what is said, and answers.

(() => {
  "use strict";

  /** Messages that are shown; a page that floods its host must not fill the memory. */
  const MAX_MESSAGES = 500;
  /** Characters of one message that are shown. */
  const MAX_TEXT = 20_000;
  /** Pixels that a page may have in height. */
  const MAX_HEIGHT = 20_000;
  const IMPLEMENTATIONS = { "text/x-qasm": "qasm", "text/x-qiskit": "qiskit" };

  const $ = (id) => document.getElementById(id);
  const frame = $("frame");

  // Loading /////////////////////////////////////////////////////////////////////////////////////

  /** Loads a micro frontend. Without an origin of its own it cannot act as this page. */
  function load(text) {
    const url = parseUrl(text);
    if (url === null) {
      $("status").textContent = "This is no URL of a page (http or https).";
      return;
    }
    const isForeign = url.origin !== location.origin;
    const sandbox = ["allow-scripts", "allow-forms", "allow-downloads"];
    if ($("own-origin").checked && isForeign) sandbox.push("allow-same-origin");
    $("own-origin").checked &&= isForeign;
    // What a sandbox allows is fixed when a page begins to load.
    frame.setAttribute("sandbox", sandbox.join(" "));
    frame.hidden = false;
    frame.style.height = "6rem";
    frame.src = url.href;
    $("status").textContent = "Loading …";
    $("result").textContent = "";
    const shown = new URL(location.href);
    shown.search = new URLSearchParams({ url: text });
    history.replaceState(null, "", shown);
  }

  function parseUrl(text) {
    try {
      const url = new URL(text, location.href);
      return /^https?:$/.test(url.protocol) ? url : null;
    } catch {
      return null;
    }
  }

  $("load").addEventListener("submit", (event) => {
    event.preventDefault();
    load($("url").value.trim());
  });

  // Messages ////////////////////////////////////////////////////////////////////////////////////

  function send(message) {
    if (frame.hidden) {
      $("status").textContent = "Nothing is loaded that could be told.";
      return;
    }
    // A sandboxed page has no origin to insist on.
    frame.contentWindow.postMessage(message, "*");
    show("to", message);
  }

  window.addEventListener("message", (event) => {
    if (event.source !== frame.contentWindow) return;
    const message = event.data;
    const type = typeof message === "string" ? message : message?.type;
    show("from", message);
    if (Object.hasOwn(HANDLERS, type)) HANDLERS[type](message);
  });

  const HANDLERS = {
    "ui-loaded": () => {
      $("status").textContent = "Loaded.";
      if ($("css-always").checked) sendCss();
    },
    "ui-loading": () => { $("status").textContent = "Loading …"; },
    "ui-resize": resize,
    "ui-submit-status": ({ isAllowedToSubmit }) => {
      $("status").textContent = isAllowedToSubmit ? "The page may submit." : "The page may not submit.";
    },
    "form-submit": submitted,
    "form-error": ({ error }) => {
      $("status").textContent = "The submission failed.";
      $("result").textContent = `${error?.code} ${error?.status} ${error?.message ?? ""}`.trim();
    },
    "request-data-url": chooseData,
    "request-related-data-url": chooseData,
    "request-data-url-info": tellData,
    "request-data-preview": preview,
    "request-plugin-url": choosePlugin,
    "request-plugin-url-info": tellPlugin,
    "implementations-request": tellImplementations,
  };

  function resize({ height, targetHeight }) {
    let wanted = Number(height) || 0;
    if (targetHeight === "full") wanted = window.innerHeight - 16;
    else if (targetHeight > 20) wanted = Math.min(Math.max(wanted, targetHeight), 2 * targetHeight);
    frame.style.height = `${Math.min(Math.max(wanted, 20), MAX_HEIGHT) + 2}px`; // with its border
  }

  let lastSubmission = null;

  function submitted(message) {
    lastSubmission = message;
    $("autofill-last").disabled = false;
    $("status").textContent = "Submitted.";
    const url = parseUrl(message.resultUrl || "no result");
    if (!message.resultUrl || url === null) {
      $("result").textContent = "The page leaves the submission to its host.";
      return;
    }
    const link = document.createElement("a");
    link.href = url.href;
    link.textContent = url.href;
    $("result").replaceChildren("Result: ", link);
  }

  function show(direction, message) {
    const type = typeof message === "string" ? message : message?.type;
    if (type === "ui-resize" && !$("resizes").checked) return;
    const entry = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = new Date().toISOString().slice(11, 23);
    const name = document.createElement("strong");
    name.textContent = String(type ?? "unknown").slice(0, 100);
    entry.dataset.direction = direction;
    entry.append(time, direction === "to" ? " to the page " : " from the page ", name);
    if (typeof message !== "string") {
      const text = document.createElement("pre");
      text.textContent = asText(message);
      entry.append(text);
    }
    const [log, list] = [$("log"), $("messages")];
    const isAtEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40;
    list.append(entry);
    while (list.childElementCount > MAX_MESSAGES) list.firstElementChild.remove();
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }

  /** Messages may hold what JSON cannot. */
  function asText(message) {
    let text;
    try {
      text = JSON.stringify(message, (_, value) => (typeof value === "bigint" ? String(value) : value), 2);
    } catch (error) {
      text = `${message} (${error.message})`;
    }
    text ??= String(message);
    return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)} … (${text.length} characters)` : text;
  }

  // What a person sends /////////////////////////////////////////////////////////////////////////

  function sendCss() {
    send({ type: "load-css", urls: $("css-urls").value.split(/\s+/).filter(Boolean) });
  }

  for (const button of document.querySelectorAll("[data-send]")) {
    button.addEventListener("click", () => send(JSON.parse(button.dataset.send)));
  }
  $("css").addEventListener("submit", (event) => {
    event.preventDefault();
    sendCss();
  });
  $("autofill").addEventListener("submit", (event) => {
    event.preventDefault();
    const encoding = $("autofill-encoding").value;
    send({ type: "autofill-response", value: $("autofill-value").value, encoding });
  });
  $("autofill-last").addEventListener("click", () => {
    $("autofill-value").value = lastSubmission.formData;
    $("autofill-encoding").value = lastSubmission.formDataType;
  });
  $("other").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = $("other-message");
    try {
      input.setCustomValidity("");
      send(JSON.parse(input.value));
    } catch (error) {
      input.setCustomValidity(`This is no JSON: ${error.message}`);
      input.reportValidity();
    }
  });
  $("other-message").addEventListener("input", ({ target }) => target.setCustomValidity(""));
  $("clear").addEventListener("click", () => $("messages").replaceChildren());

  // What is known here //////////////////////////////////////////////////////////////////////////

  async function get(url) {
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    return response.json();
  }

  /** Outputs of the latest tasks, as what a host says of a file. */
  async function knownFiles() {
    const { tasks } = await get("../tasks/?status=SUCCESS&limit=20");
    const shown = await Promise.all(tasks.map(({ id }) => get(`../tasks/${id}/`)));
    return shown.flatMap(({ outputs }) => outputs).map((file) => ({
      href: file.href,
      dataType: file.dataType,
      contentType: file.contentType,
      filename: file.name,
    }));
  }

  async function knownPlugins() {
    const { plugins } = await get("../plugins/");
    return plugins.map(({ apiRoot, name, version, tags }) => ({
      pluginUrl: apiRoot,
      pluginName: name,
      pluginVersion: version,
      tags,
    }));
  }

  /** What is known here, or `otherwise`, with the reason shown. */
  async function attempt(known, otherwise = []) {
    try {
      return await known();
    } catch (error) {
      $("status").textContent = `The runner cannot be asked: ${error.message}`;
      return otherwise;
    }
  }

  /** Whether a type fits a pattern of types: `entity/*`, `*`. */
  function fits(pattern, type) {
    if (!pattern || !type) return true;
    const [patterns, parts] = [pattern, type].map((text) => text.split(";")[0].trim().split("/"));
    return patterns.every((part, at) => part === "*" || parts[at] === "*" || part === parts[at]);
  }

  // Choices /////////////////////////////////////////////////////////////////////////////////////

  /** Asks the person for one of `options`, or something typed; null if there is no choice. */
  function choose({ heading, hint, options, hasTypes }) {
    const dialog = $("choice");
    if (dialog.open) return Promise.resolve(null); // one question at a time
    const known = $("choice-known");
    $("choice-heading").textContent = heading;
    $("choice-hint").textContent = hint;
    $("choice-types").hidden = !hasTypes;
    known.replaceChildren(...options.map((option, at) => new Option(option.label, at)));
    known.disabled = options.length === 0;
    const fields = ["url", "name", "version", "data-type", "content-type"];
    const take = (values) => {
      for (const field of fields) $(`choice-${field}`).value = values[field] ?? "";
    };
    take({});
    known.onchange = () => take(options[known.value]);
    known.ondblclick = () => known.value && dialog.close("choose");
    dialog.returnValue = "";
    dialog.showModal();
    (known.disabled ? $("choice-url") : known).focus();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => {
        const values = Object.fromEntries(fields.map((field) => [field, $(`choice-${field}`).value.trim()]));
        resolve(dialog.returnValue === "choose" && values.url ? values : null);
      }, { once: true });
    });
  }

  async function chooseData(request) {
    const { inputKey, acceptedInputType, dataUrl, relation } = request;
    const types = request.acceptedContentTypes ?? (request.acceptedContentType ? [request.acceptedContentType] : []);
    const accepted = [acceptedInputType, ...types].filter(Boolean).join(", ");
    const files = await attempt(knownFiles);
    const options = files
      .filter((file) => fits(acceptedInputType, file.dataType))
      .filter((file) => types.length === 0 || types.some((type) => fits(type, file.contentType)))
      .map((file) => ({
        "label": `${file.filename} (${file.dataType}, ${file.contentType})`,
        "url": file.href,
        "name": file.filename,
        "data-type": file.dataType,
        "content-type": file.contentType,
      }));
    const values = await choose({
      heading: `Data for ${inputKey}`,
      hint: (dataUrl ? `Related (${relation}) to ${dataUrl}. ` : "") + (accepted ? `Wanted: ${accepted}` : ""),
      options,
      hasTypes: true,
    });
    if (values === null) return;
    send({
      type: "data-url-response",
      inputKey,
      href: values.url,
      ...(values["data-type"] && { dataType: values["data-type"] }),
      ...(values["content-type"] && { contentType: values["content-type"] }),
      ...(values.name && { filename: values.name }),
      ...(values.version && { version: values.version }),
    });
  }

  async function choosePlugin({ inputKey, pluginTags = [], pluginName, pluginVersion }) {
    const plugins = await attempt(knownPlugins);
    const isWanted = (tag, tags) => (tag.startsWith("!") ? !tags.includes(tag.slice(1)) : tags.includes(tag));
    const options = plugins
      .filter(({ tags }) => pluginTags.every((tag) => isWanted(tag, tags)))
      .filter((plugin) => !pluginName || plugin.pluginName === pluginName)
      .map((plugin) => ({
        label: `${plugin.pluginName} ${plugin.pluginVersion}`,
        url: plugin.pluginUrl,
        name: plugin.pluginName,
        version: plugin.pluginVersion,
      }));
    const wanted = [...pluginTags, pluginName, pluginVersion].filter(Boolean).join(", ");
    const values = await choose({
      heading: `Plugin for ${inputKey}`,
      hint: wanted ? `Wanted: ${wanted}` : "",
      options,
      hasTypes: false,
    });
    if (values === null) return;
    const { url, name, version } = values;
    send({
      type: "plugin-url-response",
      inputKey,
      pluginUrl: url,
      ...(name && { pluginName: name }),
      ...(version && { pluginVersion: version }),
    });
  }

  async function tellData({ inputKey, dataUrl }) {
    const file = (await attempt(knownFiles)).find(({ href }) => href === dataUrl);
    if (file) send({ type: "data-url-response", inputKey, ...file });
  }

  async function tellPlugin({ inputKey, pluginUrl }) {
    const plugin = (await attempt(knownPlugins)).find((known) => known.pluginUrl === pluginUrl);
    if (plugin === undefined) return;
    const { tags, ...known } = plugin;
    send({ type: "plugin-url-response", inputKey, ...known });
  }

  async function tellImplementations() {
    const files = await attempt(knownFiles);
    const implementations = files
      .filter(({ contentType }) => Object.hasOwn(IMPLEMENTATIONS, contentType))
      .map(({ filename, href, contentType }) => ({
        name: filename,
        download: href,
        version: "1",
        type: IMPLEMENTATIONS[contentType],
      }));
    send({ type: "implementations-response", implementations });
  }

  async function preview({ dataUrl }) {
    const url = parseUrl(dataUrl);
    const dialog = $("preview");
    if (url === null || dialog.open) return;
    $("preview-link").href = url.href;
    $("preview-link").textContent = url.href;
    const text = await attempt(() => textOf(url), null);
    if (dialog.open) return;
    $("preview-text").hidden = text === null;
    $("preview-text").textContent = text;
    $("preview-frame").hidden = text !== null;
    if (text === null) $("preview-frame").src = url.href;
    dialog.showModal();
    dialog.addEventListener("close", () => { $("preview-frame").src = "about:blank"; }, { once: true });
  }

  /** The beginning of a file of this runner that a frame would not show, else null. */
  async function textOf(url) {
    if (url.origin !== location.origin) return null;
    const response = await fetch(url);
    const isShown = /^(image|audio|video)\/|html|pdf/.test(response.headers.get("Content-Type") ?? "");
    if (isShown) {
      await response.body?.cancel();
      return null;
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return text;
      text += value;
      if (text.length > MAX_TEXT) {
        await reader.cancel();
        return `${text.slice(0, MAX_TEXT)} …`;
      }
    }
  }

  // Start ///////////////////////////////////////////////////////////////////////////////////////

  async function start() {
    const wanted = new URLSearchParams(location.search).get("url");
    if (wanted) {
      $("url").value = wanted;
      load(wanted);
    }
    for (const { pluginUrl } of await attempt(knownPlugins)) {
      $("frontends").append(new Option("", `${pluginUrl}ui/`));
    }
  }

  start();
})();
