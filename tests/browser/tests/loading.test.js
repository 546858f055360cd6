// A page in its frame: the first messages, looks, height, and who is listened to.

import assert from "node:assert/strict";

import { STRICT, scenario, stage } from "../support/browser.js";

const shared = stage();
const form = () => shared.runner.form("every-kind@v1-2-3");

for (const [kind, sandbox] of [["a usual", undefined], ["a strict", STRICT]]) {
  scenario(shared, `says that it has loaded, in ${kind} sandbox`, {}, async ({ open }) => {
    const host = await open(form(), sandbox);
    const { type, height } = await host.next("ui-resize");
    assert.equal(type, "ui-resize");
    assert.ok(Number.isInteger(height) && height > 300, `${height}`);
    assert.deepEqual(await host.rest("ui-loaded"), [], "once");
  });
}

scenario(shared, "takes over the style sheets of the host", {}, async ({ open, host: { url } }) => {
  const host = await open(form());
  const css = `${url}/host.css`;
  await host.send({ type: "load-css", urls: [css, css, "javascript:alert(1)", "data:text/css,*{}", 7] });
  await host.settle();
  const sheets = host.form.locator('link[rel="stylesheet"]');
  await sheets.nth(1).waitFor({ state: "attached" });
  assert.deepEqual(await sheets.evaluateAll((links) => links.map(({ href }) => href)), [
    `${shared.runner.url}/static/forms.css`,
    css,
  ]);
  await host.frame.waitForFunction(() => getComputedStyle(document.documentElement).getPropertyValue("--host") === "1");
  assert.equal(await host.form.locator("body").evaluate((body) => getComputedStyle(body).fontFamily), "serif");
});

scenario(shared, "tells its height whenever it changes", {}, async ({ open }) => {
  const host = await open(form());
  const heightOf = () => host.frame.evaluate(() => document.documentElement.getBoundingClientRect().height);
  const reaches = async (wanted) => {
    for (;;) {
      const { height } = await host.next("ui-resize");
      if (wanted(height)) return height;
    }
  };
  const first = await reaches((height) => height > 300);
  await host.form.locator("summary").click();
  const grown = await reaches((height) => height > first);
  assert.ok(Math.abs(grown - (await heightOf())) < 2);
  await host.form.locator("summary").click();
  await reaches((height) => height < grown);
  await host.field("lines").fill("line\n".repeat(12));
  await reaches((height) => height > first);
  await host.page.setViewportSize({ width: 400, height: 600 });
  await reaches((height) => height > first);
  await host.frame.waitForFunction(() => document.scrollingElement.scrollHeight <= innerHeight);

  await host.frame.evaluate(() => {
    window._qhana_microfrontend_state.targetHeight = "full";
    monitorHeightChanges(window._qhana_microfrontend_state);
  });
  for (;;) {
    if ((await host.next("ui-resize")).targetHeight === "full") break;
  }
});

scenario(shared, "keeps what the host says of its surroundings", {}, async ({ open }) => {
  const host = await open(form());
  await host.send({ type: "plugin-context", experimentId: 4, location: "experiment" });
  await host.settle();
  const context = await host.frame.evaluate(() => getPluginContext());
  assert.deepEqual(context, { experimentId: 4, location: "experiment" });
});

scenario(shared, "submits only where the host allows it", {}, async ({ open }) => {
  const host = await open(form());
  const isAllowed = async () => (await host.next("ui-submit-status")).isAllowedToSubmit;
  await host.send("ui-submit-status");
  assert.equal(await isAllowed(), true);
  await host.send("ui-prevent-submit");
  assert.equal(await isAllowed(), false);

  await host.fill();
  let requests = 0;
  host.page.on("request", (request) => { requests += request.method() === "POST" ? 1 : 0; });
  await host.button("submit").click();
  const message = await host.next("form-submit");
  assert.equal(message.resultUrl, "");
  assert.equal(new URL(message.submitUrl).pathname.replace("%40", "@"), "/plugins/every-kind@v1-2-3/process/");
  assert.match(message.formData, /word=abc/);
  assert.doesNotMatch(message.formData, /hunter2/);
  assert.equal(requests, 0);

  await host.send("ui-allow-submit");
  assert.equal(await isAllowed(), true);
  await host.button("submit").click();
  assert.match((await host.next("form-submit")).resultUrl, /\/tasks\/\d+\/$/);
});

scenario(shared, "listens to nobody but its host", {}, async ({ open, host: { url }, runner }) => {
  const host = await open(form());
  await host.field("word").fill("mine");
  // Another frame of the host's page, from the host's origin, and one from the page's own.
  for (const stranger of [`${url}/stranger`, `${runner.url}/plugins/small@v1-0-0/ui/`]) {
    const received = host.frame.evaluate(() => new Promise((resolve) => {
      window.addEventListener("message", () => setTimeout(resolve), { once: true });
    }));
    await host.page.evaluate((stranger) => new Promise((resolve) => {
      const other = document.createElement("iframe");
      other.name = "stranger";
      other.src = stranger;
      other.onload = resolve;
      document.body.append(other);
    }), stranger);
    await host.page.frame({ name: "stranger" }).evaluate(() => {
      const encoding = "application/x-www-form-urlencoded";
      parent.frames[0].postMessage({ type: "autofill-response", value: "word=theirs", encoding }, "*");
    });
    await received;
    assert.equal(await host.field("word").inputValue(), "mine");
    await host.page.evaluate(() => document.querySelector('iframe[name="stranger"]').remove());
  }
  // The page itself is no host either.
  await host.frame.evaluate(() => new Promise((resolve) => {
    window.addEventListener("message", () => setTimeout(resolve), { once: true });
    window.postMessage("ui-prevent-submit", "*");
  }));
  assert.equal(await host.frame.evaluate(() => window._qhana_microfrontend_state.preventSubmit), false);
});

scenario(shared, "survives messages that make no sense", {}, async ({ open }) => {
  const host = await open(form());
  for (const message of [
    null, 7, "", "constructor", "__proto__", [], { type: 7 }, { type: null }, { type: "toString" },
    { type: "load-css" }, { type: "load-css", urls: "x" },
    { type: "data-url-response" }, { type: "data-url-response", inputKey: "nothing", href: "x" },
    { type: "data-url-response", inputKey: "data", href: { a: 1 } },
    { type: "data-url-response", inputKey: "upload", href: "x" },
    { type: "plugin-url-response", inputKey: "data-description", pluginUrl: "x" },
    { type: "autofill-response", value: "__proto__=1&word=ok", encoding: "application/x-www-form-urlencoded" },
    { type: "implementations-response" },
  ]) await host.send(message);
  await host.settle();
  assert.equal(await host.field("data").inputValue(), "");
  assert.equal(await host.field("word").inputValue(), "ok");
  await host.field("secret").fill("x");
  await host.field("word").fill("abc");
  await host.button("submit").click();
  assert.match((await host.next("form-submit")).resultUrl, /\/tasks\//);
});
