// Cells without a mouse, for those who do not see them, and on narrow screens.

import assert from "node:assert/strict";

import { assertAccessible, scenario, stage } from "../support/browser.js";
import { Cells, PHONE, assertFits } from "../support/cells.js";

const shared = stage({ env: { SAGE_CELL: "on" } });
const open = (context) => Cells.open(context, `${shared.runner.url}/cell/`);

const SHOWN = `# What there is to see
print("\\x1b[31mred\\x1b[0m \\x1b[32mgreen\\x1b[0m \\x1b[33myellow\\x1b[0m \\x1b[34mblue\\x1b[0m \\x1b[35mpurple\\x1b[0m \\x1b[36mteal\\x1b[0m \\x1b[90mgrey\\x1b[0m")
for i in range(60): print(i, "a line of text")
import sys
print("a warning", file=sys.stderr)
html("<table><tr><th>a</th><td>1</td></tr></table>")
open("new.txt", "w").write("new")
raise ValueError("wrong")`;

for (const colorScheme of ["light", "dark"]) {
  for (const [device, options] of [["desk", {}], ["phone", PHONE]]) {
    scenario(shared, `axe finds nothing wrong with cells (${colorScheme}, ${device})`, { colorScheme, ...options }, async ({ context }) => {
      const cells = await open(context);
      await assertAccessible(cells.page);
      const cell = cells.cell(1);
      await cell.run(SHOWN, "failed");
      await cell.output.getByRole("link", { name: "new.txt" }).waitFor();
      await cell.section.getByLabel("Add files").setInputFiles({ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("a") });
      await assertAccessible(cells.page);
      await assertFits(cells.page);
      await cell.start('input("Well? ")');
      await cell.section.getByRole("textbox", { name: "Well?" }).waitFor();
      await assertAccessible(cells.page);
      await cell.button("Stop").click();
      await cell.ended("failed");
      await cell.button("Share").click();
      await cells.page.getByRole("dialog").waitFor();
      await assertAccessible(cells.page);
      await assertFits(cells.page);
    });
  }
}

scenario(shared, "everything can be done with the keyboard", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  const { keyboard } = cells.page;
  await cell.field.focus();
  // A block is indented by itself, and Tab indents.
  await keyboard.type("def double(number):\nreturn 2 * number\n");
  await keyboard.press("Shift+Tab");
  await keyboard.type("if True:\n");
  await keyboard.press("Shift+Tab");
  await keyboard.press("Tab");
  await keyboard.type("print(double(21))");
  assert.equal(await cell.field.inputValue(), "def double(number):\n    return 2 * number\nif True:\n    print(double(21))");
  await keyboard.press("Shift+Enter");
  assert.equal(await cell.ended(), "42");
  // What was typed can be undone, also what Tab did.
  await keyboard.press("Control+z");
  assert.notEqual(await cell.field.inputValue(), "def double(number):\n    return 2 * number\nif True:\n    print(double(21))");
  // Escape, then Tab leaves the code.
  await keyboard.press("Escape");
  const order = [];
  for (let count = 0; count < 12; count += 1) {
    await keyboard.press("Tab");
    const name = await cells.page.evaluate(() => {
      let element = document.activeElement;
      while (element.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
      const style = getComputedStyle(element);
      const shown = element.type === "file" ? getComputedStyle(element.nextElementSibling) : style;
      if (element !== document.body && shown.outlineStyle === "none") throw new Error(`no focus is shown: ${element.outerHTML}`);
      return element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
    });
    order.push(name.trim());
    if (name === "Begin anew") break;
  }
  assert.deepEqual(order, ["Run", "Language", "Add files", "Share", "Remove Cell 1", "Add a cell", "Cells share their variables", "Begin anew"]);
});

scenario(shared, "Tab completes, from a list where there are several", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  const { keyboard } = cells.page;
  await cell.run("some_long_name = 1\nsome_list = [1]");
  await cell.field.fill('"🐍"; some_lo');
  await keyboard.press("End");
  await keyboard.press("Tab");
  await cells.page.waitForFunction(() => document.querySelector("#cells > div").shadowRoot.querySelector("textarea").value === '"🐍"; some_long_name');
  await cell.field.fill("some_l");
  await keyboard.press("Tab");
  const list = cell.section.getByRole("listbox", { name: "Completions" });
  await list.getByRole("option", { name: "some_list" }).waitFor();
  await assertAccessible(cells.page);
  const options = await list.getByRole("option").allInnerTexts();
  assert.deepEqual(options, ["some_list", "some_long_name"]);
  const active = await cell.field.getAttribute("aria-activedescendant");
  assert.equal(await list.locator(`#${active}`).innerText(), "some_list");
  await keyboard.press("ArrowDown");
  await keyboard.press("Enter");
  assert.equal(await cell.field.inputValue(), "some_long_name");
  assert.equal(await list.count(), 0);
  await cell.field.fill("some_l");
  await keyboard.press("Tab");
  await list.waitFor();
  await keyboard.press("Escape");
  await list.waitFor({ state: "detached" });
  assert.equal(await cell.field.inputValue(), "some_l");
});

scenario(shared, "what comes of a cell is said", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.run('print("to be heard")');
  await cell.section.getByRole("status").getByText("Done. to be heard").waitFor();
  await cell.run("1 / 0", "failed");
  await cell.section.getByRole("status").getByText("Failed. ZeroDivisionError: division by zero").waitFor();
});
