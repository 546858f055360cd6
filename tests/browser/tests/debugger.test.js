// The pages of development mode.

import assert from "node:assert/strict";
import { describe } from "node:test";

import { scenario, stage } from "../support/browser.js";

const FORM = "every-kind@v1-2-3";
const PATHS = ["/debug/", "/debug/routes", "/debug/frontend-debugger"];

describe("in development mode", () => {
  const shared = stage({ args: ["--dev"] });

  /** The page with a form loaded in its frame. */
  async function open(context, runner, path = `/plugins/${FORM}/ui/`) {
    const page = await context.newPage();
    await page.goto(`${runner.url}/debug/frontend-debugger`);
    await page.getByLabel("Micro frontend", { exact: true }).fill(runner.url + path);
    await page.keyboard.press("Enter");
    await page.getByText("Loaded.", { exact: true }).waitFor();
    const form = page.frameLocator("#frame");
    const log = page.getByRole("log");
    const message = (type, direction = "from") => log.getByRole("listitem").filter({
      has: page.getByText(type, { exact: true }),
      hasText: ` ${direction} the page `,
    });
    return { page, form, message };
  }

  scenario(shared, "there are pages, for nobody else to read or to frame", {}, async ({ context, runner }) => {
    const page = await context.newPage();
    for (const path of PATHS) {
      // Who leaves a page earlier breaks off what it asks for.
      const response = await page.goto(runner.url + path, { waitUntil: "networkidle" });
      assert.equal(response.status(), 200);
      const headers = response.headers();
      assert.equal(headers["access-control-allow-origin"], undefined);
      assert.match(headers["content-security-policy"], /frame-ancestors 'none'/);
    }
    await page.goto(`${runner.url}/debug`);
    await page.getByRole("link", { name: "Routes" }).click();
    const cell = (name) => page.getByRole("rowheader", { name, exact: true });
    for (const path of ["/plugins/", "/plugins/{identifier}/process/", "/tasks/{id}/", "/debug/routes"]) {
      await cell(path).first().waitFor();
    }
  });

  scenario(shared, "the host exchanges messages with a form", {}, async ({ context, runner }) => {
    const { outputs } = await runner.run("small@v1-0-0", { text: "ID,x\na,1\n" });
    const { page, form, message } = await open(context, runner);
    await message("ui-loaded").waitFor();
    await message("load-css", "to").waitFor();
    assert.equal(await page.locator("#frame").getAttribute("sandbox"), "allow-scripts allow-forms allow-downloads");
    await page.waitForFunction(() => document.getElementById("frame").clientHeight > 400);

    await form.getByRole("button", { name: "choose file for Data" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("heading", { name: "Data for data" }).waitFor();
    await dialog.getByLabel("Known here").selectOption({ index: 0 });
    assert.equal(await dialog.getByLabel("URL").inputValue(), outputs[0].href);
    await dialog.getByRole("button", { name: "Choose" }).click();
    await message("data-url-response", "to").first().waitFor();
    await form.getByText("small.csv, entity/list, text/csv").waitFor();

    await form.getByRole("button", { name: "show preview" }).click();
    await page.getByRole("dialog").getByText("ID,x").waitFor();
    await page.keyboard.press("Escape");

    await form.getByRole("button", { name: "select plugin for Helper" }).click();
    await dialog.getByRole("heading", { name: "Plugin for helper" }).waitFor();
    assert.deepEqual(await dialog.getByLabel("Known here").locator("option").allTextContents(), ["hello-world-python v0.2.1"]);
    await dialog.getByLabel("URL").fill("https://plugin.example/");
    await dialog.getByLabel("Name").fill("typed");
    await dialog.getByRole("button", { name: "Choose" }).click();
    await form.getByText("Selected Plugin: typed").waitFor();

    await form.getByRole("button", { name: "choose related file for Labels" }).click();
    await dialog.getByText(`Related (pre) to ${outputs[0].href}`).waitFor();
    await page.keyboard.press("Escape");
    await form.locator("#word").fill("abc");
    await form.locator("#secret").fill("hunter2");

    await page.getByRole("button", { name: "Prevent submit" }).click();
    await page.getByText("The page may not submit.").waitFor();
    await form.getByRole("button", { name: "submit" }).click();
    await page.getByText("The page leaves the submission to its host.").waitFor();
    await page.getByRole("button", { name: "Allow submit" }).click();
    await page.getByText("The page may submit.").waitFor();
    await form.getByRole("button", { name: "submit" }).click();
    const link = page.getByRole("status").getByRole("link");
    const { word, helper, data } = await runner.values(await link.getAttribute("href"));
    assert.deepEqual({ word, helper, data }, { word: "abc", helper: "https://plugin.example/", data: "ID,x\na,1\n" });
    assert.ok(!(await page.getByRole("log").textContent()).includes("hunter2"));

    await page.getByRole("button", { name: "Take the last submission" }).click();
    await form.locator("#word").fill("xyz");
    await page.getByRole("button", { name: "Send autofill-response" }).click();
    await message("request-data-url-info").last().waitFor();
    assert.equal(await form.locator("#word").inputValue(), "abc");
  });

  scenario(shared, "the host shows failures", { expected: [/422/, /422/] }, async ({ context, runner }) => {
    const { page, form, message } = await open(context, runner);
    await form.locator("#word").fill("abc");
    await form.locator("#secret").fill("x");
    await form.locator("#data").fill("no url");
    await form.getByRole("button", { name: "submit" }).click();
    await page.getByText("The submission failed.").waitFor();
    await page.getByText("422 Unprocessable Entity").waitFor();
    await message("form-error").getByText('"status": 422').waitFor();
  });

  scenario(shared, "the host sends anything, and shows markup as text", {}, async ({ context, runner }) => {
    const { page, form, message } = await open(context, runner, "/plugins/markup@v0-0-1/ui/");
    await page.getByLabel("Any message, as JSON").fill("{");
    await page.getByRole("button", { name: "Send message" }).click();
    assert.match(await page.getByLabel("Any message, as JSON").evaluate((input) => input.validationMessage), /no JSON/);
    await page.getByLabel("Any message, as JSON").fill('{"type": "<img src=x onerror=hacked()>"}');
    await page.getByRole("button", { name: "Send message" }).click();
    await message("<img src=x onerror=hacked()>", "to").waitFor();
    await form.locator('button[data-input-id="data"]').first().click();
    await page.getByRole("dialog").getByText('Wanted: type" onfocus=').waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Clear" }).click();
    assert.equal(await page.getByRole("listitem").count(), 0);
    assert.equal(await page.locator("img, [onerror], [onfocus]").count(), 0);
  });

  scenario(shared, "the host loads what its own URL names, but no script", {}, async ({ context, runner }) => {
    const page = await context.newPage();
    const url = encodeURIComponent(runner.form("small@v1-0-0"));
    await page.goto(`${runner.url}/debug/frontend-debugger?url=${url}`);
    await page.frameLocator("#frame").locator("#text").waitFor();
    await page.goto(`${runner.url}/debug/frontend-debugger?url=javascript:alert(1)`);
    await page.getByText("This is no URL of a page").waitFor();
    assert.equal(await page.locator("#frame").getAttribute("src"), null);
  });

  scenario(shared, "a page of the runner never gets the runner's origin in the host", {}, async ({ context, runner }) => {
    const { page, form } = await open(context, runner);
    await page.getByLabel("keeps its origin").check();
    await page.getByRole("button", { name: "Load", exact: true }).click();
    assert.equal(await page.getByLabel("keeps its origin").isChecked(), false);
    await page.getByText("Loaded.", { exact: true }).waitFor();
    assert.equal(await form.locator("body").evaluate(() => self.origin), "null");
  });
});

describe("without development mode", () => {
  const shared = stage();

  scenario(shared, "there is nothing", {}, async ({ runner }) => {
    for (const path of PATHS) {
      const response = await fetch(runner.url + path);
      assert.equal(response.status, 404);
      assert.deepEqual(await response.json(), { code: 404, status: "Not Found" });
    }
  });
});
