// What cells put out: much of it, pictures, HTML, files.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { scenario, stage } from "../support/browser.js";
import { Cells } from "../support/cells.js";

const shared = stage({ env: { SAGE_CELL: "on" } });
const open = (context) => Cells.open(context, `${shared.runner.url}/cell/`);

/** Milliseconds for which a page may not answer, on a machine that does much else. */
const LONGEST_PAUSE = 500;
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==";

scenario(shared, "ten thousand lines leave the page responsive", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.run("1");
  await cells.page.evaluate(() => {
    window.longest = 0;
    let last = performance.now();
    const look = () => {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - last);
      last = now;
      setTimeout(look, 0);
    };
    look();
  });
  // What else the machine does may hold up a page as well: the best of some counts.
  let longest;
  for (let turn = 0; turn < 5 && !(longest < LONGEST_PAUSE); turn++) {
    await cells.page.evaluate(() => { window.longest = 0; });
    const text = await cell.run('for i in range(10_000): print("line", i)');
    assert.match(text, /^line 0\nline 1\n[^]*\nline 9998\nline 9999$/);
    assert.equal(text.split("\n").length, 10_000);
    longest = await cells.page.evaluate(() => window.longest);
  }
  assert.ok(longest < LONGEST_PAUSE, `the page did not answer for ${longest} ms`);
});

scenario(shared, "more than a page can bear is shown when it is asked for", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.run('for i in range(8_000): print(i, "x" * 60)\nprint("the end")');
  assert.equal(await cell.output.getByText("the end").count(), 0);
  await cell.section.getByRole("button", { name: /^Show more \(\d+ kB\)/ }).click();
  await cell.says("the end");
});

scenario(shared, "what overwrites itself is one line, and colours are colours", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  const code = 'for i in range(101): print(f"\\r{i:3} %", end="")\nprint("\\nab\\b\\bAB \\x1b[1;31mred\\x1b[0m \\x1b[38;5;208morange\\x1b[m")\nprint("\\x1b]0;title\\x07plain\\n\\nend")';
  assert.equal(await cell.run(code), "100 %\nAB red orange\nplain\n\nend");
  const red = cell.output.getByText("red", { exact: true });
  assert.equal(await red.getAttribute("class"), "bold fg1");
  const orange = cell.output.getByText("orange", { exact: true });
  assert.match(await orange.getAttribute("style"), /rgb\(255,\s?135,\s?0\)/);
});

scenario(shared, "shows pictures of each kind", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.run(`
import base64, sys
png = "${PNG}"
svg = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><script>alert(1)</script><rect width="40" height="20"/></svg>'
show = sys._sage_.display_message
show({"image/png": png, "text/plain": "two by three"})
show({"image/svg+xml": svg, "text/plain": "a box"})
open("a picture.png", "wb").write(base64.b64decode(png))
show({"text/image-filename": "a%20picture.png?m=1", "text/plain": "from a file"})
show({"text/latex": "$\\\\frac{1}{2}$", "text/plain": "1/2"})
show({"application/x-unknown": "?"})`);
  for (const [name, width] of [["two by three", 2], ["a box", 40], ["from a file", 2]]) {
    const picture = cell.output.getByRole("img", { name, exact: true });
    await picture.evaluate((image) => image.decode());
    assert.equal(await picture.evaluate(({ naturalWidth }) => naturalWidth), width, name);
  }
  await cell.says("\\frac{1}{2}");
  await cell.says(/a kind that is not shown here: application\/x-unknown/);
});

scenario(shared, "HTML stands in the page, what runs scripts in a frame that reaches nothing", { expected: [/inline event handler/] }, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.run(`
html("<table><tr><th>a</th></tr><tr><td>1</td></tr></table><img src=x:y onerror='parent.reached = 1'>")
html("<p style='position: fixed; inset: 0; z-index: 99'>a lid</p>")
html("<p id=told>not yet</p><div style='height: 300px'></div><script>let is = 'no'; try { parent.document.title = 'reached'; is = 'yes' } catch {} ; told.textContent = 'reached: ' + is</script>")`);
  await cell.output.getByRole("cell", { name: "1" }).waitFor();
  const [lid, section] = await Promise.all([cell.output.getByText("a lid").boundingBox(), cell.section.boundingBox()]);
  assert.ok(lid.height < section.height && lid.y > section.y, "it covers nothing");
  const frame = cell.output.frameLocator("iframe");
  await frame.getByText("reached: no").waitFor();
  assert.equal(await cells.page.title(), "Cells");
  assert.equal(await cells.page.evaluate(() => window.reached), undefined);
  const host = cells.page.locator("iframe");
  await cells.page.waitForFunction((element) => element.clientHeight > 300 && element.clientHeight < 500, await host.elementHandle());
});

scenario(shared, "output is cleared and changed", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  const code = `
from IPython.display import clear_output, display, HTML
handle = display(HTML("<b>first</b>"), display_id=True)
handle.update(HTML("<b>second</b>"))
`;
  assert.equal(await cell.run(code), "second");
  await cell.run('print("gone")\nclear_output(wait=True)\nprint("kept")');
  assert.equal(await cell.text(), "kept");
  assert.equal(await cell.run('print("gone")\nclear_output()'), "");
  const second = await cells.add();
  await cell.run('handle = display(HTML("<b>third</b>"), display_id=True)');
  await second.run('handle.update(HTML("<b>fourth</b>"))');
  await cell.says("fourth");
});

scenario(shared, "files go in and come out", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cells.page.getByLabel("Cells share their variables").uncheck();
  await cell.section.getByLabel("Add files").setInputFiles([
    { name: "ü data.txt", mimeType: "text/plain", buffer: Buffer.from("one\ntwo\n") },
    { name: "other.txt", mimeType: "text/plain", buffer: Buffer.from("other") },
  ]);
  const code = 'import os\nos.makedirs("below", exist_ok=True)\nopen("below/ö & new.txt", "w").write(open("ü data.txt").read().upper())\nsorted(name for name in os.listdir() if name[0] != ".")';
  assert.match(await cell.run(code), /\['below', 'other.txt', 'ü data.txt'\]/);
  const link = cell.output.getByRole("link", { name: "below/ö & new.txt" });
  const [download] = await Promise.all([cells.page.waitForEvent("download"), link.click()]);
  assert.equal(await readFile(await download.path(), "utf8"), "ONE\nTWO\n");
  // A new kernel gets them too, but not what was taken back.
  await cell.section.getByRole("button", { name: "Remove other.txt" }).click();
  assert.match(await cell.run("import os\nsorted(name for name in os.listdir() if name[0] != \".\")"), /\['ü data.txt'\]/);
});
