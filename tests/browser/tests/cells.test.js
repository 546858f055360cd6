// Cells: what is written, run, answered and stopped.

import assert from "node:assert/strict";

import { scenario, stage } from "../support/browser.js";
import { Cells, PHONE, assertFits } from "../support/cells.js";

const shared = stage({ env: { SAGE_CELL: "on" } });
const open = (context) => Cells.open(context, `${shared.runner.url}/cell/`);

for (const [device, options] of [["desk", {}], ["phone", PHONE]]) {
  scenario(shared, `runs code and shows what comes of it (${device})`, options, async ({ context }) => {
    const cells = await open(context);
    const cell = cells.cell(1);
    assert.equal(await cell.run('print("hello")\n6 * 7'), "hello\n42");
    assert.equal(await cell.run("'again'"), "'again'");
    await assertFits(cells.page);
  });

  scenario(shared, `shows errors, and goes on after them (${device})`, options, async ({ context }) => {
    const cells = await open(context);
    const cell = cells.cell(1);
    assert.match(await cell.run('print("before")\n1 / 0', "failed"), /^before\n[^]*ZeroDivisionError: division by zero/);
    assert.ok(!(await cell.text()).includes("\x1b"), "no sequences are left");
    await cell.section.getByText("Failed", { exact: true }).waitFor();
    await assertFits(cells.page);
    assert.equal(await cell.run("x = 5\nx"), "5");
  });
}

scenario(shared, "answers what a program asks", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.start('name = input("Name? ")\nprint("Hello", name)\nimport getpass\nprint(len(getpass.getpass("Secret? ")))');
  const question = cell.section.getByRole("textbox", { name: "Name?" });
  await question.waitFor();
  await cells.page.waitForFunction(() => document.querySelector("#cells > div").shadowRoot.activeElement?.closest(".question"));
  await cells.page.keyboard.type("Ada");
  await cells.page.keyboard.press("Enter");
  await cell.section.getByLabel("Secret?").fill("12345");
  await cells.page.keyboard.press("Enter");
  const text = await cell.ended();
  assert.match(text, /Name\? Ada\s+Hello Ada\s+Secret\? …\s+5$/);
  assert.ok(!text.includes("12345"));
});

scenario(shared, "stops what runs, and goes on", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  assert.equal(await cell.button("Stop").isDisabled(), true);
  await cell.start('import time\nx = 1\nprint("on", flush=True)\ntime.sleep(60)');
  await cell.says("on");
  await cell.button("Stop").click();
  assert.match(await cell.ended("failed"), /KeyboardInterrupt/);
  await cell.section.getByText("Interrupted", { exact: true }).waitFor();
  assert.equal(await cell.run("x"), "1", "the variables are there");
  // Also while it asks.
  await cell.start('input("Well? ")');
  await cell.section.getByRole("textbox", { name: "Well?" }).waitFor();
  await cell.button("Stop").click();
  assert.match(await cell.ended("failed"), /KeyboardInterrupt/);
  assert.equal(await cell.section.getByRole("textbox", { name: "Well?" }).count(), 0);
});

scenario(shared, "linked cells share their variables, others do not", {}, async ({ context }) => {
  const cells = await open(context);
  await cells.cell(1).run("x = 7");
  const second = await cells.add();
  assert.equal(await second.run("x"), "7");
  await cells.page.getByRole("button", { name: "Begin anew" }).click();
  assert.match(await second.run("x", "failed"), /NameError/);
  await cells.page.getByLabel("Cells share their variables").uncheck();
  assert.equal(await cells.cell(1).run("x = 8\nx"), "8");
  assert.match(await second.run("x", "failed"), /NameError/);
  assert.match(await cells.cell(1).run("x += 1", "failed"), /NameError/, "each run begins anew");
});

scenario(shared, "a page gives up kernels that it needs no more", { expected: [/429/, /429/] }, async ({ context }) => {
  const cells = await open(context);
  await cells.page.getByLabel("Cells share their variables").uncheck();
  await cells.cell(1).run("1");
  for (let number = 2; number <= 11; number += 1) {
    const cell = await cells.add();
    assert.equal(await cell.run(String(number)), String(number));
  }
});

scenario(shared, "runs other languages", { expected: [/inline event handler/] }, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.choose("HTML");
  await cell.run('<h3 onclick="alert(1)">A "title" \\ of its own</h3><a href="javascript:alert(1)">no</a>');
  const title = cell.output.getByRole("heading", { name: 'A "title" \\ of its own' });
  await title.click();
  assert.equal(await cell.output.getByText("no", { exact: true }).getAttribute("href"), null);
  await cell.choose("Shell");
  assert.equal(await cell.run('x="a b"; echo "$x" \'\\\\\''), "a b \\\\");
  await cell.choose("GAP");
  assert.match(await cell.run("1 + 1;", "failed"), /gap is not installed here/);
});

scenario(shared, "keeps what was written over a reload, and takes cells away", {}, async ({ context }) => {
  const cells = await open(context);
  await cells.cell(1).field.fill("first = 1");
  const second = await cells.add();
  await second.field.fill("<b>second</b>");
  await second.choose("HTML");
  await cells.page.waitForFunction(() => sessionStorage.getItem("runner.cells")?.includes('"html"'));
  await cells.page.reload();
  assert.equal(await cells.cell(1).field.inputValue(), "first = 1");
  assert.equal(await cells.cell(2).field.inputValue(), "<b>second</b>");
  await cells.page.getByRole("button", { name: "Remove Cell 1" }).click();
  await cells.cell(1).section.waitFor({ state: "detached" });
  assert.equal(await cells.cell(2).field.inputValue(), "<b>second</b>");
});
