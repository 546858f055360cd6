// Takes the picture of cells for their document.

import { statSync } from "node:fs";
import { resolve } from "node:path";

import { launch } from "./browser.js";
import { Cells } from "./cells.js";
import { Runner } from "./runner.js";

const LIMIT = 60_000; // bytes
const TABLE = `with open("squares.txt", "w") as file:
    for n in range(8, 11):
        print(n, "\\x1b[32m", n * n, "\\x1b[0m")
        print(n * n, file=file)`;
const INTERACT = `@interact
def powers(n=slider(1, 10, 1, default=3), between=range_slider(0, 9, 1, default=(2, 6))):
    print([n ** power for power in range(between[0], between[1] + 1)])`;

const path = resolve(process.argv[2]);
const runner = await Runner.start({ env: { SAGE_CELL: "on" } });
const browser = await launch(["--disable-lcd-text"]);
try {
  const context = await browser.newContext({
    viewport: { width: 860, height: 1000 },
    deviceScaleFactor: 1,
    colorScheme: "light",
  });
  const cells = await Cells.open(context, `${runner.url}/cell/`);
  await cells.cell(1).run(TABLE);
  const second = await cells.add();
  await second.run(INTERACT);
  await second.says(/^\[9, 27/);
  await cells.page.evaluate(() => {
    document.querySelector("#tools").hidden = true;
    document.activeElement.blur();
  });
  await cells.page.locator("#cells").screenshot({ path, animations: "disabled" });
} finally {
  await browser.close();
  await runner.stop();
}
const { size } = statSync(path);
console.log(`${path}: ${size} bytes`);
if (size > LIMIT) throw new Error(`the picture is larger than ${LIMIT} bytes`);
