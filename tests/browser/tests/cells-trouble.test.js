// What goes wrong around cells: kernels that end, connections that break, servers that refuse.

import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "node:test";

import { scenario, stage } from "../support/browser.js";
import { Cells, PHONE } from "../support/cells.js";

describe("with a proxy between", () => {
  const shared = stage({ env: { SAGE_CELL: "on" }, proxy: true });
  const open = (context) => Cells.open(context, `${shared.proxy.url}/cell/`);

  scenario(shared, "a broken connection comes back, and nothing is lost", { expected: [/WebSocket|failed/i] }, async ({ context, proxy }) => {
    const cells = await open(context);
    const cell = cells.cell(1);
    await cell.start('import time\nprint("begun", flush=True)\nfor i in range(20):\n    time.sleep(0.1)\n    print("step", i, flush=True)\nprint("ended")');
    await cell.says("step 2");
    const refused = context.waitForEvent("requestfailed");
    proxy.cut();
    await cell.section.getByText(/connection is broken/).waitFor();
    await refused;
    proxy.mend();
    await cell.section.getByText("Connected again.").waitFor();
    const text = await cell.ended();
    const expected = ["begun", ...Array.from({ length: 20 }, (_, at) => `step ${at}`), "ended"].join("\n");
    assert.equal(text, expected);
    assert.equal(await cell.run("i"), "19", "the kernel is the same");
  });

  scenario(shared, "what is sent while the connection is broken is done when it is back", { expected: [/WebSocket|failed/i] }, async ({ context, proxy }) => {
    const cells = await open(context);
    const cell = cells.cell(1);
    await cell.run("x = 1");
    const refused = context.waitForEvent("requestfailed");
    proxy.cut();
    await cell.section.getByText(/connection is broken/).waitFor();
    await refused;
    await cell.start("x + 1");
    proxy.mend();
    assert.equal(await cell.ended(), "2");
  });

  scenario(shared, "who cannot reach the server is told", { expected: [/failed/i] }, async ({ context, proxy }) => {
    const cells = await open(context);
    proxy.cut();
    assert.match(await cells.cell(1).run("1", "failed"), /cannot be reached/);
    proxy.mend();
    assert.equal(await cells.cell(1).run("1"), "1");
  });
});

describe("with kernels that end", () => {
  const shared = stage({ env: { SAGE_CELL: "on" } });

  scenario(shared, "a kernel that dies is told, and the next run has a new one", {}, async ({ context }) => {
    const cells = await Cells.open(context, `${shared.runner.url}/cell/`);
    const cell = cells.cell(1);
    await cell.run("x = 1");
    await cell.run('print("last words", flush=True)\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)', "failed");
    await cell.section.getByText(/kernel has ended.*next run begins a new one/).waitFor();
    assert.match(await cell.run("x", "failed"), /NameError/);
    assert.equal(await cell.run("2"), "2");
  });
});

describe("with limits", () => {
  const shared = stage({ env: { SAGE_CELL: "on", SAGE_CELL_MAX_PER_CLIENT: "2" } });
  const open = (context) => Cells.open(context, `${shared.runner.url}/cell/`);

  scenario(shared, "a server that is full says when to try again", { expected: [/503/, /503/] }, async ({ context }) => {
    const first = await open(context);
    const second = await open(context);
    const third = await open(context);
    await first.cell(1).run("1");
    await second.cell(1).run("1");
    const text = await third.cell(1).run("1", "failed");
    assert.match(text, /ry again in \d+ s/);
    await first.page.getByRole("button", { name: "Begin anew" }).click();
    await first.page.getByText("begins anew").waitFor();
    assert.equal(await third.cell(1).run("1"), "1");
  });
});

describe("with terms", () => {
  const terms = join(mkdtempSync(join(tmpdir(), "runner-terms-")), "terms.html");
  writeFileSync(terms, "<h2>Be nice</h2><p>Do no harm.</p><script>document.title = 'no'</script>");
  const shared = stage({ env: { SAGE_CELL: "on", SAGE_CELL_TERMS: terms } });

  for (const [device, options] of [["desk", {}], ["phone", PHONE]]) {
    scenario(shared, `terms are accepted once (${device})`, options, async ({ context }) => {
      const cells = await Cells.open(context, `${shared.runner.url}/cell/`);
      const cell = cells.cell(1);
      await cell.start("6 * 7");
      const dialog = cells.page.getByRole("dialog", { name: "Terms of service" });
      // Until they are there, their frame would be broken off.
      const terms = dialog.frameLocator("iframe").getByText("Do no harm.");
      await terms.waitFor();
      await dialog.getByText("Decline").click();
      await cell.section.getByText("Nothing runs without accepting the terms.").first().waitFor();
      await cell.ended("failed");
      await cell.start();
      await terms.waitFor();
      await dialog.getByRole("button", { name: "Accept" }).click();
      assert.equal(await cell.ended(), "42");
      const other = await Cells.open(context, `${shared.runner.url}/cell/`);
      assert.equal(await other.cell(1).run("43"), "43");
    });
  }
});
