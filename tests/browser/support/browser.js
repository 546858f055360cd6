// The browser, and what goes wrong in it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { HostServer, Proxy } from "./servers.js";
import { Runner } from "./runner.js";

/** As the UI of QHAna has it, and as strict as a host can be: then the page has no origin. */
export const SANDBOX = "allow-forms allow-downloads allow-scripts allow-same-origin";
export const STRICT = "allow-forms allow-downloads allow-scripts";

const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const PATIENCE = 60_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function launch(more = []) {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: [...ARGS, ...more] });
}

/** Starts what the tests of a file share; filled before the first of them. */
export function stage({ args, env, proxy = false } = {}) {
  const stage = {};
  before(async () => {
    stage.host = await HostServer.start();
    stage.runner = await Runner.start({ args, env: { REVERSE_PROXY_COUNT: proxy ? "1" : "0", ...env } });
    if (proxy) stage.proxy = await Proxy.start(stage.runner.url);
    stage.browser = await launch();
  });
  after(async () => {
    await stage.browser?.close();
    await stage.proxy?.stop();
    await stage.runner?.stop();
    await stage.host?.stop();
  });
  return stage;
}

/**
 * A test with a browser context of its own. It fails if anything went wrong in the browser that is not
 * `expected`: a failed or an external request, an answer that is an error, an error on the console.
 */
export function scenario(stage, name, { expected = [], ...options } = {}, body) {
  test(name, { timeout: 180_000 }, async () => {
    const context = await stage.browser.newContext(options);
    context.setDefaultTimeout(PATIENCE);
    const trouble = watch(context, stage);
    try {
      await body({ ...stage, context, open: (url, sandbox) => Host.open(context, stage, url, sandbox) });
      const unexpected = trouble.filter((text) => !expected.some((pattern) => pattern.test(text)));
      assert.deepEqual(unexpected, [], "what went wrong in the browser");
      for (const pattern of expected) {
        assert.ok(trouble.some((text) => pattern.test(text)), `${pattern} was expected: ${trouble}`);
      }
    } finally {
      await context.close();
    }
  });
}

function watch(context, { runner, host, proxy }) {
  const trouble = [];
  const origins = [runner.url, host.url, proxy?.origin];
  context.on("request", (request) => {
    const url = new URL(request.url());
    const isOurs = origins.includes(url.origin) || ["data:", "about:"].includes(url.protocol);
    if (!isOurs) trouble.push(`external request: ${url}`);
  });
  context.on("requestfailed", (request) => {
    trouble.push(`failed request: ${request.url()} ${request.failure()?.errorText}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 400 && !response.url().endsWith("/favicon.ico")) trouble.push(`answer: ${response.status()} ${response.url()}`);
  });
  context.on("console", (message) => {
    // Browsers ask for it beside a document that is no page.
    if (message.location().url.endsWith("/favicon.ico")) return;
    if (["error", "warning"].includes(message.type())) trouble.push(`console: ${message.text()}`);
  });
  context.on("weberror", (error) => trouble.push(`exception: ${error.error()}`));
  context.on("dialog", (dialog) => {
    trouble.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  return trouble;
}

/** The host page with a micro frontend in its frame. */
export class Host {
  static async open(context, stage, url, sandbox = SANDBOX) {
    const host = new Host();
    host.page = await context.newPage();
    await host.page.goto(`${stage.host.url}/`);
    await host.page.evaluate(([url, sandbox]) => load(url, sandbox), [url, sandbox]);
    assert.equal(await host.next("ui-loaded"), "ui-loaded");
    host.form = host.page.frameLocator('iframe[name="microfrontend"]');
    return host;
  }

  /** The frame itself, to look into it as its scripts do. */
  get frame() {
    return this.page.frame({ name: "microfrontend" });
  }

  /** The next message of this type. */
  next(type) {
    return this.page.evaluate((type) => next(type), type);
  }

  send(message) {
    return this.page.evaluate((message) => send(message), message);
  }

  /** The messages that no test has waited for, of this type. */
  rest(type) {
    return this.page.evaluate((type) => messages.filter((message) => (message?.type ?? message) === type), type);
  }

  forget() {
    return this.page.evaluate(() => forget());
  }

  field(id) {
    return this.form.locator(`#${id}`);
  }

  button(name) {
    return this.form.getByRole("button", { name, exact: true });
  }

  /** What stands below a field. */
  description(id) {
    return this.form.locator(`#${id}-description`);
  }

  /** Answers a message so that it is known to have been handled when this is done. */
  async settle() {
    await this.send("ui-submit-status");
    await this.next("ui-submit-status");
  }

  /** Fills in what is required by `every-kind`. */
  async fill() {
    await this.field("word").fill("abc");
    await this.field("secret").fill("hunter2");
  }
}

/** Fails with what axe finds in the page, or in the frame. */
export async function assertAccessible(frame) {
  await frame.evaluate(axe);
  const { violations } = await frame.evaluate(() => window.axe.run(document, { resultTypes: ["violations"], iframes: false }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(" ")}`);
  assert.deepEqual(found, []);
}
