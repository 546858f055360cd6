// Cells as somebody uses them.

import assert from "node:assert/strict";

export const PHONE = { viewport: { width: 375, height: 700 }, hasTouch: true };

/** A page with cells. */
export class Cells {
  static async open(context, url) {
    const page = await context.newPage();
    await page.goto(url);
    const cells = new Cells(page);
    await cells.cell(1).field.waitFor();
    return cells;
  }

  constructor(page) {
    this.page = page;
  }

  cell(number) {
    return new Cell(this.page, this.page.getByRole("region", { name: `Cell ${number}`, exact: true }));
  }

  async add() {
    await this.page.getByRole("button", { name: "Add a cell" }).click();
    const count = await this.page.getByRole("region", { name: /^Cell \d+$/ }).count();
    return this.cell(count);
  }
}

export class Cell {
  constructor(page, section) {
    this.page = page;
    this.section = section;
    this.field = section.getByRole("textbox", { name: /^Code of/ });
    this.output = section.getByRole("region", { name: /^Output of/ });
  }

  button(name) {
    return this.section.getByRole("button", { name, exact: true });
  }

  /** Starts the code. */
  async start(code) {
    if (code !== undefined) await this.field.fill(code);
    await this.button("Run").click();
  }

  /** Runs the code until it is done, or has failed; gives the text of its output. */
  async run(code, state = "done") {
    await this.start(code);
    return this.ended(state);
  }

  async ended(state = "done") {
    const ended = this.section.and(this.page.locator(':is([data-state="done"], [data-state="failed"])'));
    await ended.waitFor().catch(async ({ message }) => {
      throw new Error(`${message}\nThe cell: ${await this.section.innerText()}`);
    });
    const text = await this.text();
    assert.equal(await this.section.getAttribute("data-state"), state, text);
    return text;
  }

  /** What stands in the output. */
  async text() {
    return (await this.output.locator(".output").innerText()).trim();
  }

  /** Waits until the output has this text. */
  says(text) {
    return this.output.getByText(text).first().waitFor();
  }

  choose(language) {
    return this.section.getByRole("combobox", { name: "Language" }).selectOption({ label: language });
  }
}

/** Fails if something lies outside of the screen. */
export async function assertFits(page) {
  const beyond = await page.evaluate(() => {
    const { clientWidth, scrollWidth } = document.documentElement;
    return scrollWidth - clientWidth;
  });
  assert.ok(beyond <= 0, `${beyond} pixels beyond the screen`);
}
