// The runner below a path of a proxy.

import assert from "node:assert/strict";

import { scenario, stage } from "../support/browser.js";

const shared = stage({ args: ["--dev"], proxy: true });

scenario(shared, "a form finds its style, its script and its target", {}, async ({ open, proxy }) => {
  const host = await open(`${proxy.url}/plugins/every-kind@v1-2-3/ui/`);
  const sources = await host.form.locator("link[rel=stylesheet], script").evaluateAll((all) => all.map(({ href, src }) => href ?? src));
  assert.deepEqual(sources, [`${proxy.url}/static/forms.css`, `${proxy.url}/static/microfrontend.js`]);
  await host.fill();
  await host.button("validate").click();
  await host.next("ui-loaded");
  await host.form.getByText("Validation successful!").waitFor();
  await host.form.locator("summary").click();
  await host.form.getByRole("link", { name: "Fill in example values." }).click();
  await host.next("ui-loaded");
  await host.field("secret").fill("x");
  await host.button("submit").click();
  const { submitUrl, resultUrl } = await host.next("form-submit");
  assert.ok(submitUrl.startsWith(`${proxy.url}/plugins/`), submitUrl);
  assert.ok(resultUrl.startsWith(`${proxy.url}/tasks/`), resultUrl);
  assert.equal((await shared.runner.values(resultUrl)).count, 7);
});

scenario(shared, "so do the runner's own pages", {}, async ({ context, proxy }) => {
  const page = await context.newPage();
  for (const path of ["/", "/debug/", "/debug/routes"]) {
    await page.goto(proxy.url + path);
    const sheets = await page.evaluate(() => [...document.styleSheets].map(({ href }) => new URL(href).pathname));
    assert.equal(sheets.length, 1);
    assert.ok(sheets[0].startsWith(`${new URL(proxy.url).pathname}/static/`), sheets[0]);
  }
  await page.goto(`${proxy.url}/debug/frontend-debugger`);
  await page.getByLabel("Micro frontend", { exact: true }).fill(`${proxy.url}/plugins/small@v1-0-0/ui/`);
  await page.getByRole("button", { name: "Load", exact: true }).click();
  await page.frameLocator("#frame").locator("#text").waitFor();
  await page.getByText("Loaded.", { exact: true }).waitFor();
  await page.locator(`#frontends option[value="${proxy.url}/plugins/small@v1-0-0/ui/"]`).waitFor({ state: "attached" });
});
