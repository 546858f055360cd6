// What a submission sends to the server, and what it tells the host.

import assert from "node:assert/strict";

import { STRICT, scenario, stage } from "../support/browser.js";

const shared = stage();
const form = () => shared.runner.form("every-kind@v1-2-3");

scenario(shared, "posts, follows the redirect, and tells the host of it", {}, async ({ open, runner }) => {
  const { outputs } = await runner.run("small@v1-0-0", { text: "ID,x\na,1\n" });
  const data = outputs[0].href;
  const host = await open(form());
  await host.fill();
  await host.field("lines").fill("two\nlines & more = ü");
  await host.field("secret_lines").fill("a\nkey");
  await host.field("count").fill("9");
  await host.field("ratio").fill("1.25");
  await host.field("flag").uncheck();
  await host.field("choice").selectOption("b");
  await host.field("choices").selectOption(["a", "c"]);
  await host.field("words").fill("x, y");
  await host.field("address").fill("https://example.org/?a=b");
  await host.field("data").fill(data);
  await host.field("labels").fill("https://example.org/labels.json");
  await host.field("helper").fill(`${runner.url}/plugins/hello-world-python@v0-2-1/`);
  await host.field("upload").setInputFiles({ name: "ü note.txt", mimeType: "text/plain", buffer: Buffer.from("noted") });
  await host.field("settings").fill('{"a": [1]}');
  await host.button("submit").click();

  assert.equal(await host.next("ui-loading"), "ui-loading");
  const message = await host.next("form-submit");
  const keys = ["type", "formData", "formDataType", "dataInputs", "submitUrl", "resultUrl"];
  assert.deepEqual(Object.keys(message).sort(), keys.sort());
  assert.equal(message.formDataType, "application/x-www-form-urlencoded");
  assert.deepEqual(message.dataInputs.sort(), [data, "https://example.org/labels.json"].sort());
  assert.equal(new URL(message.submitUrl).pathname.replace("%40", "@"), "/plugins/every-kind@v1-2-3/process/");
  assert.match(message.resultUrl, new RegExp(`^${runner.url}/tasks/\\d+/$`));

  const told = new URLSearchParams(message.formData);
  assert.equal(told.get("secret"), "***");
  assert.equal(told.get("secretLines"), "***");
  assert.equal(told.get("upload"), "Uploaded file: ü note.txt");
  assert.equal(told.get("word"), "abc");
  assert.deepEqual(told.getAll("flag"), ["false"]);
  assert.deepEqual(told.getAll("choices"), ["a", "c"]);
  assert.equal(told.get("lines").replaceAll("\r", ""), "two\nlines & more = ü");
  const all = JSON.stringify(message);
  for (const secret of ["hunter2", "a\\nkey", "noted"]) assert.ok(!all.includes(secret), secret);

  assert.deepEqual(await runner.values(message.resultUrl), {
    word: "abc",
    lines: "two\r\nlines & more = ü",
    secret: 7,
    secretLines: 6,
    count: 9,
    ratio: 1.25,
    flag: false,
    choice: "b",
    choices: ["a", "c"],
    words: ["x", "y"],
    address: "https://example.org/?a=b",
    data: "ID,x\na,1\n",
    labels: "https://example.org/labels.json",
    helper: `${runner.url}/plugins/hello-world-python@v0-2-1/`,
    upload: ["ü note.txt", "noted"],
    settings: { a: [1] },
  });
  assert.deepEqual(await host.rest("form-error"), []);
});

scenario(shared, "submits from a frame without an origin", {}, async ({ open, runner }) => {
  const host = await open(form(), STRICT);
  await host.fill();
  await host.field("flag").check();
  await host.button("submit").click();
  const { resultUrl } = await host.next("form-submit");
  const { word, flag, upload, data, choices } = await runner.values(resultUrl);
  assert.deepEqual({ word, flag, upload, data, choices }, { word: "abc", flag: true, upload: null, data: null, choices: ["a"] });
});

scenario(shared, "makes one task, however often somebody clicks", {}, async ({ open }) => {
  const host = await open(form());
  let posts = 0;
  host.page.on("request", (request) => { posts += request.method() === "POST" ? 1 : 0; });
  await host.fill();
  await host.frame.evaluate(() => {
    const submit = document.querySelector('[data-target="api"]');
    for (let clicks = 0; clicks < 5; clicks += 1) submit.click();
  });
  await host.next("form-submit");
  assert.equal(posts, 1);
  await host.button("submit").click();
  await host.next("form-submit");
  assert.equal(posts, 2, "and another one when the first has ended");
});

scenario(shared, "goes through the steps of a task", {}, async ({ open, runner }) => {
  let host = await open(runner.form("hello-world-multi-step@v0-2-1"));
  await host.field("input_str").fill("first");
  await host.button("submit").click();
  const { resultUrl } = await host.next("form-submit");
  const { steps } = await runner.finished(resultUrl);
  assert.equal(steps.length, 1);

  host = await open(steps[0].uiHref);
  assert.equal(await host.field("input_str").inputValue(), "Input from preprocessing: first");
  await host.field("input_str").fill("second");
  await host.button("submit").click();
  const second = await host.next("form-submit");
  assert.equal(second.resultUrl, resultUrl);
  assert.equal(second.submitUrl, steps[0].href);
  const task = await runner.finished(resultUrl);
  assert.equal(task.status, "SUCCESS");
  assert.equal(task.outputs.length, 2);
});

scenario(shared, "answers 409 to a step that was done before", { expected: [/409/, /409/] }, async ({ open, runner }) => {
  const { uiHref } = await runner
    .run("hello-world-multi-step@v0-2-1", { inputStr: "first" })
    .then(({ steps }) => steps[0]);
  const host = await open(uiHref);
  await host.button("submit").click();
  const { resultUrl } = await host.next("form-submit");
  assert.equal((await runner.finished(resultUrl)).status, "SUCCESS");
  await host.button("submit").click();
  const { status, error } = await host.next("form-error");
  assert.deepEqual([status, error.code, error.status], [409, 409, "Conflict"]);
  await host.form.getByRole("alert").getByText(error.message).waitFor();
});

scenario(shared, "works without a host", {}, async ({ context, runner }) => {
  const page = await context.newPage();
  await page.goto(form());
  for (const name of ["choose file for Data", "select plugin for Helper", "show preview"]) {
    assert.equal(await page.getByRole("button", { name }).count(), 0, name);
  }
  await page.getByLabel("Word", { exact: true }).fill("abc");
  await page.getByLabel("Secret", { exact: true }).fill("hunter2");
  await page.getByRole("button", { name: "validate" }).click();
  await page.getByText("Validation successful!").waitFor();
  assert.equal(await page.getByLabel("Word", { exact: true }).inputValue(), "abc");
  assert.equal(await page.getByLabel("Secret", { exact: true }).inputValue(), "", "secrets are not sent back");
  await page.getByLabel("Secret", { exact: true }).fill("hunter2");
  await page.getByRole("button", { name: "submit" }).click();
  await page.waitForURL(/\/tasks\/\d+\/$/);
  assert.equal((await runner.values(page.url())).word, "abc");
  await page.goBack();
  await page.getByLabel("Word", { exact: true }).fill("again");
  await page.getByLabel("Secret", { exact: true }).fill("hunter2");
  await page.getByRole("button", { name: "submit" }).click();
  await page.waitForURL(/\/tasks\/\d+\/$/);
  assert.equal((await runner.values(page.url())).word, "again");
});

scenario(shared, "shows errors without a host", { expected: [/422/, /422/] }, async ({ context }) => {
  const page = await context.newPage();
  await page.goto(form());
  await page.getByLabel("Word", { exact: true }).fill("abc");
  await page.getByLabel("Secret", { exact: true }).fill("x");
  await page.getByLabel("Data", { exact: true }).fill("no url");
  await page.getByRole("button", { name: "submit" }).click();
  await page.getByText("Not a valid URL.").waitFor();
});

scenario(shared, "leaves the decision to a handler of the page", {}, async ({ open }) => {
  const host = await open(form());
  await host.frame.evaluate(() => {
    window._qhana_microfrontend_state.formSubmitHandler = (event, dataInputs, privateInputs) => {
      event.preventDefault();
      sendMessage({ type: "seen", data: [...dataInputs].sort(), secrets: [...privateInputs].sort() });
      return true;
    };
    window._qhana_microfrontend_state.messageHandler = (event) => {
      if (event.data?.type !== "own") return false;
      sendMessage({ type: "own-answer" });
      return true;
    };
  });
  await host.fill();
  await host.button("submit").click();
  assert.deepEqual(await host.next("seen"), { type: "seen", data: ["data", "labels"], secrets: ["secret", "secretLines"] });
  await host.send({ type: "own" });
  await host.next("own-answer");
  assert.deepEqual(await host.rest("form-submit"), []);
});
