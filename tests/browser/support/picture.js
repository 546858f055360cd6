// Takes the picture of a form for the README.

import { statSync } from "node:fs";
import { resolve } from "node:path";

import { launch, Host } from "./browser.js";
import { Runner } from "./runner.js";
import { HostServer } from "./servers.js";

const LIMIT = 60_000; // bytes

const path = resolve(process.argv[2]);
const runner = await Runner.start();
const server = await HostServer.start();
const browser = await launch(["--disable-lcd-text"]);
try {
  const context = await browser.newContext({
    viewport: { width: 640, height: 1000 },
    deviceScaleFactor: 1,
    colorScheme: "light",
  });
  const host = await Host.open(context, { host: server }, runner.form("picture@v1-0-0"));
  await host.form.locator("summary").click();
  await host.send({
    type: "data-url-response",
    inputKey: "paints",
    href: "https://example.org/paints.csv",
    filename: "paints.csv",
    dataType: "entity/list",
    contentType: "text/csv",
  });
  await host.settle();
  await host.field("rows").fill("0");
  await host.frame.evaluate(() => { document.querySelector("form").noValidate = true; });
  await host.button("submit").click();
  await host.next("form-error");
  await host.field("rows").blur();
  await host.form.locator("summary").hover(); // and not the button
  await host.page.evaluate(() => {
    for (const button of document.querySelectorAll("body > button")) button.remove();
    document.body.style.margin = 0;
  });
  await host.frame.waitForFunction(() => document.scrollingElement.scrollHeight <= innerHeight);
  await host.page.locator("iframe").screenshot({ path, animations: "disabled" });
} finally {
  await browser.close();
  await server.stop();
  await runner.stop();
}
const { size } = statSync(path);
console.log(`${path}: ${size} bytes`);
if (size > LIMIT) throw new Error(`the picture is larger than ${LIMIT} bytes`);
