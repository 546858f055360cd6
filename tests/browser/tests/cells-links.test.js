// Links that lead to cells, and cells in pages of others.

import assert from "node:assert/strict";
import { deflateSync } from "node:zlib";

import { scenario, stage } from "../support/browser.js";
import { Cells } from "../support/cells.js";

const shared = stage({ env: { SAGE_CELL: "on" }, proxy: true });
const page = () => `${shared.runner.url}/cell/`;

const CODE = 'print("ä", 6 * 7)  # 🐍 & more\n';

for (const [kind, label] of [["short", /^Short link/], ["long", /^Long link/]]) {
  scenario(shared, `a ${kind} link leads to the cell, and runs nothing by itself`, {}, async ({ context }) => {
    const cells = await Cells.open(context, page());
    await cells.cell(1).field.fill(CODE);
    await cells.cell(1).button("Share").click();
    const dialog = cells.page.getByRole("dialog", { name: "Link to this cell" });
    const link = await dialog.getByLabel(label).inputValue();
    assert.ok(link.startsWith(page()), link);
    await cells.page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });

    const other = await Cells.open(context, link);
    assert.equal(await other.cell(1).field.inputValue(), CODE);
    assert.equal(await other.cell(1).text(), "");
    assert.equal(await other.cell(1).run(), "ä 42");
    const eager = await Cells.open(context, `${link}&autoeval=true`);
    assert.equal(await eager.cell(1).ended(), "ä 42");
  });
}

scenario(shared, "links have the language, and the state of interacts", {}, async ({ context }) => {
  const cells = await Cells.open(context, `${page()}?c=${encodeURIComponent("echo hi")}&lang=sh`);
  const cell = cells.cell(1);
  assert.equal(await cell.run(), "hi");
  await cell.choose("Python");
  await cell.run("@interact\ndef f(n=slider(0, 9, 1, default=1)):\n    print('n is', n)");
  await cell.output.getByRole("slider", { name: "n" }).fill("6");
  await cell.says("n is 6");
  await cell.button("Share").click();
  const link = await cells.page.getByLabel(/^Short link/).inputValue();
  const other = await Cells.open(context, link);
  await other.cell(1).run();
  await other.cell(1).says("n is 6");
  assert.equal(await other.cell(1).output.getByRole("slider", { name: "n" }).inputValue(), "6");
});

scenario(shared, "the link is copied where the browser allows it", { permissions: ["clipboard-read", "clipboard-write"] }, async ({ context }) => {
  const cells = await Cells.open(context, page());
  await cells.cell(1).field.fill("1");
  await cells.cell(1).button("Share").click();
  await cells.page.getByText("The short link is copied.").waitFor();
  const link = await cells.page.getByLabel(/^Short link/).inputValue();
  assert.equal(await cells.page.evaluate(() => navigator.clipboard.readText()), link);
  await cells.page.getByRole("button", { name: "Copy: Long link" }).click();
  await cells.page.getByText("Copied.", { exact: true }).waitFor();
  assert.notEqual(await cells.page.evaluate(() => navigator.clipboard.readText()), link);
});

scenario(shared, "broken links are told, and leave an empty cell", { expected: [/404/] }, async ({ context }) => {
  const bomb = deflateSync(Buffer.alloc(50_000_000)).toString("base64url");
  for (const query of ["q=nobody", "z=nonsense", "z=%C3%A4", `z=${bomb}`]) {
    const cells = await Cells.open(context, `${page()}?${query}`);
    await cells.page.getByRole("alert").waitFor();
    assert.equal(await cells.cell(1).field.inputValue(), "");
    assert.equal(await cells.cell(1).run("1 + 1"), "2");
    await cells.page.close();
  }
});

scenario(shared, "cells work below a prefix of a proxy", {}, async ({ context, proxy }) => {
  const cells = await Cells.open(context, `${proxy.url}/cell/`);
  assert.equal(await cells.cell(1).run("6 * 7"), "42");
  await cells.cell(1).button("Share").click();
  const link = await cells.page.getByLabel(/^Short link/).inputValue();
  assert.ok(link.startsWith(`${proxy.url}/cell/?q=`), link);
});

scenario(shared, "one script puts cells into a page of another origin", {}, async ({ context, host, runner }) => {
  const url = host.page("/embedding", `
    <style>button { display: none } * { color: red !important }</style>
    <h1>A page</h1>
    <div class="sage"><script type="text/x-sage">
x = 6 * 7
x
</script></div>
    <div class="sage" data-linked="true" data-languages="python html" data-eval-button-text="Go"><script type="text/x-sage">y = 1</script></div>
    <div class="sage" data-linked="true"><script type="text/x-sage">y</script></div>
    <script src="${runner.url}/cell/embed.js"></script>`);
  const cells = await Cells.open(context, url);
  const one = cells.cell(1);
  assert.equal(await one.field.inputValue(), "x = 6 * 7\nx");
  assert.equal(await one.run(), "42");
  assert.equal(await one.section.getByRole("combobox", { name: "Language" }).isVisible(), false);
  await cells.cell(2).button("Go").click();
  await cells.cell(2).ended();
  assert.equal(await cells.cell(3).run(), "1");
  await one.section.getByLabel("Add files").setInputFiles({ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("in") });
  assert.match(await one.run('open("b.txt", "w").write(open("a.txt").read())'), /2/);
  assert.ok((await one.output.getByRole("link", { name: "b.txt" }).getAttribute("href")).startsWith(`${runner.url}/kernel/`));
  await one.run('html("<script>document.body.textContent = 1 + 1</script>")');
  await one.output.frameLocator("iframe").getByText("2").waitFor();
});

scenario(shared, "pages make cells as they want, by the names of Sage Cell too", {}, async ({ context, host, runner }) => {
  const url = host.page("/making", `
    <div id="a"><script type="text/x-sage">print("a")</script></div>
    <pre id="b">print("from a pre")</pre>
    <div class="sage" id="c"><script type="text/x-sage">print("c")</script></div>
    <div id="there"></div>
    <script src="${runner.url}/static/embedded_sagecell.js"></script>
    <script>
      window.called = 0;
      sagecell.makeSagecell({ inputLocation: "#a", autoeval: true, evalButtonText: "Evaluate", hide: ["permalink"],
        callback: () => { called += 1; } });
      const b = runnerCells.make({ inputLocation: document.getElementById("b"), outputLocation: "#there", template: sagecell.templates.restricted });
      sagecell.makeSagecell({ inputLocation: "#c", languages: ["html", "python"], defaultLanguage: "html", code: "<i>given</i>" });
      const take = () => runnerCells.remove(b);
    </script>`);
  const cells = await Cells.open(context, url);
  const [a, b, c] = [1, 2, 3].map((number) => cells.cell(number));
  assert.equal(await a.ended(), "a");
  await a.button("Evaluate").waitFor();
  assert.equal(await a.button("Share").isVisible(), false);
  assert.equal(await b.field.getAttribute("readonly"), "");
  await b.button("Run").click();
  await cells.page.locator("#there").getByText("from a pre").waitFor();
  await c.run();
  assert.equal(await c.output.locator("i").innerText(), "given");
  assert.equal(await cells.page.evaluate(() => window.called), 1);
  await cells.page.evaluate(() => window.eval("take()"));
  assert.equal(await cells.page.locator("#b").innerText(), 'print("from a pre")');
});
