// Forms without a mouse, and for those who do not see them.

import assert from "node:assert/strict";

import { assertAccessible, scenario, stage } from "../support/browser.js";

const shared = stage({ args: ["--dev"] });
const FORM = "every-kind@v1-2-3";

for (const colorScheme of ["light", "dark"]) {
  scenario(shared, `axe finds nothing wrong with forms (${colorScheme})`, { colorScheme, expected: [/422/, /422/] }, async ({ open, runner }) => {
    const host = await open(runner.form(FORM));
    await host.form.locator("summary").click();
    await assertAccessible(host.frame);
    // With chosen files and plugins, and errors of the script.
    await host.send({ type: "data-url-response", inputKey: "data", href: "no url", filename: "a.csv" });
    await host.send({ type: "plugin-url-response", inputKey: "helper", pluginUrl: "no url", pluginName: "b" });
    await host.fill();
    await host.button("submit").click();
    await host.next("form-error");
    await assertAccessible(host.frame);
    // With errors of the server.
    await host.button("validate").click();
    await host.next("ui-loaded");
    await host.form.locator('[aria-invalid="true"]').first().waitFor();
    await assertAccessible(host.frame);
  });

  scenario(shared, `axe finds nothing wrong with pages (${colorScheme})`, { colorScheme }, async ({ context, runner }) => {
    const page = await context.newPage();
    for (const path of [
      "/",
      `/plugins/${FORM}/ui/?data=nothing&count=0`,
      `/plugins/${FORM}/ui/`,
      "/plugins/markup@v0-0-1/ui/",
      "/plugins/hello-world-python@v0-2-1/ui/",
      "/debug/",
      "/debug/routes",
      "/debug/frontend-debugger",
    ]) {
      await page.goto(runner.url + path);
      await assertAccessible(page);
    }
  });
}

scenario(shared, "everything can be reached and done with the keyboard", {}, async ({ open, runner }) => {
  const host = await open(runner.form(FORM));
  const keyboard = host.page.keyboard;
  const focused = () => host.frame.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    // A ring around what has the focus, or the browser's own.
    if (element !== document.body && style.outlineStyle === "none") throw new Error(`no focus is shown: ${element.outerHTML}`);
    return element.id || element.textContent.trim();
  });
  await host.page.locator("#before").focus();
  const order = [];
  for (;;) {
    await keyboard.press("Tab");
    const name = await focused();
    order.push(name);
    if (name === "Help") await keyboard.press("Enter");
    if (name === "word") await keyboard.type("abcd");
    if (name === "secret") await keyboard.type("hunter2");
    if (name === "flag") await keyboard.press("Space");
    if (name === "choice") await keyboard.press("ArrowDown");
    if (name === "choices") await keyboard.press("ArrowDown");
    if (name === "choose file") {
      await keyboard.press("Enter");
      const { inputKey } = await host.next("request-data-url");
      assert.equal(inputKey, order.includes("labels") ? "labels" : "data");
      await host.send({ type: "data-url-response", inputKey, href: "https://data.example/a", filename: "a" });
      await host.settle();
      assert.equal(await focused(), "choose file", "the focus stays where it was");
    }
    if (name === "show preview") {
      await keyboard.press("Space");
      await host.next("request-data-preview");
    }
    if (name === "choose related") {
      await keyboard.press("Enter");
      await host.next("request-related-data-url");
    }
    if (name === "select plugin") {
      await keyboard.press("Enter");
      await host.next("request-plugin-url");
    }
    if (name === "submit" || order.length > 50) break;
  }
  const wanted = [
    "Help", "link", "Fill in example values.", "word", "lines", "secret", "secret_lines", "count", "ratio", "flag",
    "choice", "choices", "words", "address", "data", "choose file", "show preview", "labels", "choose file",
    "choose related", "show preview", "helper", "select plugin", "upload", "settings", "validate", "submit",
  ];
  assert.deepEqual(order, wanted);
  await host.field("data").fill("");
  await host.button("submit").focus();
  await keyboard.press("Enter");
  const { formData } = await host.next("form-submit");
  const told = new URLSearchParams(formData);
  assert.deepEqual(["word", "flag", "choice"].map((key) => told.get(key)), ["abcd", "false", "b"]);
  assert.deepEqual(told.getAll("choices"), ["b"]);
});

scenario(shared, "Enter in a field validates", {}, async ({ open, runner }) => {
  const host = await open(runner.form(FORM));
  await host.fill();
  await host.field("word").focus();
  await host.page.keyboard.press("Enter");
  assert.equal(await host.next("ui-loading"), "ui-loading");
  await host.next("ui-loaded");
  await host.form.getByText("Validation successful!").waitFor();
});

scenario(shared, "is told by its roles, names and descriptions", { expected: [/422/, /422/] }, async ({ open, runner }) => {
  const host = await open(runner.form(FORM));
  await host.fill();
  await host.form.getByRole("textbox", { name: "Data", exact: true }).fill("no url");
  await host.button("submit").click();
  await host.next("form-error");
  const field = host.form.getByRole("textbox", { name: "Data", exact: true, description: /^Not a valid URL\./ });
  await field.waitFor();
  assert.equal(await field.getAttribute("aria-invalid"), "true");
  await host.form.getByRole("main").getByRole("checkbox", { name: "Flag", description: "On, unless you say no." }).waitFor();
  await host.form.getByRole("combobox", { name: "Choice" }).waitFor();
  await host.form.getByRole("listbox", { name: "Choices" }).waitFor();
  await host.form.getByRole("spinbutton", { name: "Count" }).waitFor();
});
