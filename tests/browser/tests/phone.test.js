// What people open by themselves, on a narrow screen: nothing lies outside of it.

import assert from "node:assert/strict";

import { scenario, stage } from "../support/browser.js";

const shared = stage({ env: { DEVELOPMENT: "on" } });
const PATHS = [
  "/",
  "/plugins/every-kind@v1-2-3/ui/",
  "/plugins/entity-filter@v0-2-1/ui/",
  "/licenses/",
  "/debug/",
  "/debug/routes",
  "/debug/frontend-debugger",
];

for (const path of PATHS) {
  const narrow = { viewport: { width: 375, height: 700 } };
  scenario(shared, `${path} fits into a phone`, narrow, async ({ context, runner }) => {
    const page = await context.newPage();
    await page.goto(runner.url + path);
    const beyond = await page.evaluate(() => {
      const { clientWidth, scrollWidth } = document.documentElement;
      return scrollWidth - clientWidth;
    });
    assert.ok(beyond <= 0, `${beyond} pixels beyond the screen`);
  });
}

scenario(shared, "the first page tells versions apart and leads to what programs use", {}, async ({ context, runner }) => {
  const page = await context.newPage();
  await page.goto(`${runner.url}/`);
  const item = page.locator("li", { has: page.getByRole("link", { name: "Entity loader/filter" }) });
  assert.match(await item.innerText(), /^Entity loader\/filter v0\.2\.1:/);
  for (const name of ["operations to try", "to read", "OpenAPI", "Tasks", "licences"]) {
    const href = await page.getByRole("link", { name, exact: true }).getAttribute("href");
    const answer = await context.request.get(new URL(href, runner.url).toString());
    assert.equal(answer.status(), 200, name);
  }
});
