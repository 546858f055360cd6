// Interacts: their controls, and what comes of changing them.

import assert from "node:assert/strict";

import { assertAccessible, scenario, stage } from "../support/browser.js";
import { Cells, PHONE, assertFits } from "../support/cells.js";

const shared = stage({ env: { SAGE_CELL: "on" } });
const open = (context) => Cells.open(context, `${shared.runner.url}/cell/`);

const EVERY = `
@interact
def f(n=slider(0, 10, 1, default=3), ab=range_slider(0, 10, 1, default=(2, 5)), text="abc", many=["x", "y", "z"],
      long=selector(list(range(9))), on=True, color=color_selector("#0000ff"), press=button_bar(["up", "down"])):
    print("got", n, ab, text, many, long, on, color, press)
`;

for (const [device, options] of [["desk", {}], ["phone", PHONE]]) {
  scenario(shared, `every kind of control changes the output (${device})`, options, async ({ context }) => {
    const cells = await open(context);
    const cell = cells.cell(1);
    await cell.run(EVERY);
    await cell.says(/^got 3 \(2, 5\) abc x 0 True/);
    const { output } = cell;
    await output.getByRole("slider", { name: "n", exact: true }).fill("7");
    await cell.says(/got 7 \(2, 5\)/);
    await output.getByRole("slider", { name: "ab to" }).fill("9");
    await cell.says(/got 7 \(2, 9\)/);
    // The ends do not cross.
    await output.getByRole("slider", { name: "ab from" }).fill("10");
    await cell.says(/got 7 \(9, 9\)/);
    await output.getByRole("textbox", { name: "text" }).fill("<b>");
    await output.getByRole("textbox", { name: "text" }).press("Enter");
    await cell.says(/\(9, 9\) <b> x/);
    await output.getByRole("radio", { name: "z" }).check({ force: true });
    await cell.says(/<b> z 0/);
    await output.getByRole("combobox", { name: "long" }).selectOption({ label: "5" });
    await cell.says(/<b> z 5 True/);
    await output.getByRole("checkbox", { name: "on" }).uncheck();
    await cell.says(/<b> z 5 False/);
    await output.getByLabel("color").fill("#ff0000");
    await cell.says(/False (#ff0000|\S+)/);
    await output.getByRole("button", { name: "down" }).click();
    await cell.says(/^got .* down$/);
    assert.equal(await output.getByText(/^got/).count(), 1, "the output is replaced");
    await assertFits(cells.page);
    await assertAccessible(cells.page);
  });
}

scenario(shared, "of what changes fast, the last counts, and only one update is on its way", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  let most = 0;
  let open_ = 0;
  let sent = 0;
  cells.page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => {
      if (!payload.includes('"sagenb.interact.update_interact"')) return;
      open_ += 1;
      sent += 1;
      most = Math.max(most, open_);
    });
    socket.on("framereceived", ({ payload }) => {
      if (/"msg_type":\s*"sagenb.interact.update_interact_reply"/.test(payload) && /"channel":\s*"shell"/.test(payload)) open_ -= 1;
    });
  });
  await cell.run("import time\n@interact\ndef f(n=slider(0, 100, 1, default=0)):\n    time.sleep(0.05)\n    print('n is', n)");
  await cell.says("n is 0");
  await cell.output.getByRole("slider", { name: "n" }).evaluate((slider) => {
    for (let value = 1; value <= 100; value += 1) {
      slider.value = value;
      slider.dispatchEvent(new Event("input"));
    }
  });
  await cell.says("n is 100");
  assert.equal(most, 1);
  assert.ok(sent <= 3, `${sent} updates`);
});

scenario(shared, "waits for its button, shows errors in its place, and tells values that code sets", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.run("@interact\ndef f(n=slider(0, 5, 1, default=1), auto_update=False):\n    print('inverse', 1 / n)");
  const slider = cell.output.getByRole("slider", { name: "n" });
  await slider.fill("0");
  await cell.output.getByRole("button", { name: "Update" }).click();
  await cell.says(/ZeroDivisionError/);
  await slider.fill("2");
  await cell.output.getByRole("button", { name: "Update" }).click();
  await cell.says("inverse 0.5");
  assert.equal(await cell.output.getByText(/ZeroDivisionError/).count(), 0);
  await cell.run("@interact\ndef g(self, n=slider(0, 5, 1, default=1)):\n    print('g of', n)\n    if n == 2: self.n = 4");
  await cell.output.getByRole("slider", { name: "n" }).fill("2");
  await cell.output.getByText("4", { exact: true }).waitFor();
});

scenario(shared, "interacts in interacts, and those of a kernel that has ended", {}, async ({ context }) => {
  const cells = await open(context);
  const cell = cells.cell(1);
  await cell.run("@interact\ndef outer(a=slider(0, 5, 1, default=1)):\n    @interact\n    def inner(b=slider(0, 5, 1, default=2)):\n        print('sum', a + b)");
  await cell.says("sum 3");
  await cell.output.getByRole("slider", { name: "b" }).fill("4");
  await cell.says("sum 5");
  await cell.output.getByRole("slider", { name: "a" }).fill("4");
  await cell.says("sum 6");
  assert.equal(await cell.output.getByRole("slider").count(), 2);
  await cells.page.getByRole("button", { name: "Begin anew" }).click();
  await cell.output.locator("fieldset.interact").first().and(cells.page.locator(":disabled")).waitFor();
});
