// What the host fills in: data, plugins, values of earlier submissions.

import assert from "node:assert/strict";

import { scenario, stage } from "../support/browser.js";

const shared = stage();
const form = (query = "") => shared.runner.form("every-kind@v1-2-3") + query;
const DATA = "https://data.example/experiments/1/data/a.csv/download?version=2";

scenario(shared, "asks for data, and shows what was chosen", {}, async ({ open }) => {
  const host = await open(form());
  await host.button("choose file for Data").click();
  assert.deepEqual(await host.next("request-data-url"), {
    type: "request-data-url",
    inputKey: "data",
    acceptedInputType: "entity/list",
    acceptedContentTypes: ["text/csv", "application/json"],
  });
  const hint = host.description("data").locator(".selected-file-hint");
  assert.equal(await hint.isVisible(), false);
  await host.send({
    type: "data-url-response",
    inputKey: "data",
    href: DATA,
    dataType: "entity/list",
    contentType: "text/csv",
    filename: "a<b>.csv",
    version: "2",
  });
  await hint.waitFor();
  assert.equal(await host.field("data").inputValue(), DATA);
  assert.equal(await hint.locator(".selected-file-name").textContent(), "a<b>.csv (v2), entity/list, text/csv");

  // Another value is not the chosen file.
  await host.field("data").fill("https://data.example/other");
  await hint.waitFor({ state: "hidden" });
  await host.field("data").blur();
  assert.deepEqual(await host.next("request-data-url-info"), {
    type: "request-data-url-info",
    inputKey: "data",
    dataUrl: "https://data.example/other",
  });
  // What the host knows of a typed URL is shown as well, even if it knows little.
  await host.send({ type: "data-url-response", inputKey: "data", href: "https://data.example/other" });
  await hint.getByText("unknown").waitFor();
});

scenario(shared, "asks for a preview", {}, async ({ open }) => {
  const host = await open(form());
  await host.send({ type: "data-url-response", inputKey: "data", href: DATA, filename: "a.csv" });
  await host.description("data").getByRole("button", { name: "show preview" }).click();
  assert.deepEqual(await host.next("request-data-preview"), { type: "request-data-preview", dataUrl: DATA });
});

scenario(shared, "asks for data related to other data", {}, async ({ open }) => {
  const host = await open(form());
  const related = host.button("choose related file for Labels");
  assert.equal(await related.isDisabled(), true, "there is nothing yet to be related to");
  await host.send({ type: "data-url-response", inputKey: "data", href: DATA });
  await related.click();
  assert.deepEqual(await host.next("request-related-data-url"), {
    type: "request-related-data-url",
    inputKey: "labels",
    dataUrl: DATA,
    relation: "pre",
    includeSelf: true,
    acceptedInputType: "entity/label",
    acceptedContentType: "application/json",
    userInteraction: true,
  });
  await host.field("data").fill("");
  assert.equal(await related.isDisabled(), true);
});

scenario(shared, "asks for a plugin, and shows which was chosen", {}, async ({ open, runner }) => {
  const host = await open(form());
  const url = `${runner.url}/plugins/hello-world-python@v0-2-1/`;
  await host.button("select plugin for Helper").click();
  assert.deepEqual(await host.next("request-plugin-url"), {
    type: "request-plugin-url",
    inputKey: "helper",
    pluginTags: ["demo", "!broken"],
    pluginName: "hello-world-python",
  });
  await host.send({
    type: "plugin-url-response",
    inputKey: "helper",
    pluginUrl: url,
    pluginName: "hello <world>",
    pluginVersion: "v0.2.1",
  });
  await host.description("helper").getByText("hello <world> (v0.2.1)").waitFor();
  assert.equal(await host.field("helper").inputValue(), url);

  await host.field("helper").fill(`${url}?`);
  await host.field("helper").blur();
  assert.deepEqual(await host.next("request-plugin-url-info"), {
    type: "request-plugin-url-info",
    inputKey: "helper",
    pluginUrl: `${url}?`,
  });
});

scenario(shared, "asks about URLs that are in the form from the beginning", {}, async ({ open }) => {
  const host = await open(form(`?data=${encodeURIComponent(DATA)}&word=xyz`));
  assert.equal(await host.field("word").inputValue(), "xyz");
  assert.equal((await host.next("request-data-url-info")).dataUrl, DATA);
  assert.equal(await host.button("choose related file for Labels").isDisabled(), false);
});

for (const [encoding, encode] of [
  ["application/x-www-form-urlencoded", (values) => new URLSearchParams(values).toString()],
  ["application/json", (values) => JSON.stringify(Object.fromEntries([...new Set(values.map(([key]) => key))].map((key) => {
    const entries = values.filter(([other]) => other === key).map(([, value]) => value);
    return [key, entries.length > 1 ? entries : entries[0]];
  })))],
]) {
  scenario(shared, `fills in an earlier submission (${encoding})`, {}, async ({ open }) => {
    const host = await open(form());
    const value = encode([
      ["word", "abcd"], ["lines", "a\nb"], ["secret", "***"], ["secretLines", "***"], ["count", "8"], ["ratio", "0.25"],
      ["flag", "false"], ["choice", "b"], ["choices", "b"], ["choices", "c"], ["words", "x,y"],
      ["data", DATA], ["upload", "Uploaded file: a.txt"], ["settings", '{"a":1}'], ["unknown", "x"], ["__proto__", "x"],
    ]);
    await host.field("secret").fill("kept");
    await host.send({ type: "autofill-response", value, encoding });
    assert.equal((await host.next("request-data-url-info")).dataUrl, DATA);
    const expected = { word: "abcd", lines: "a\nb", secret: "kept", secret_lines: "", count: "8", ratio: "0.25", choice: "b", words: "x,y", data: DATA, settings: '{"a":1}' };
    for (const [id, value] of Object.entries(expected)) assert.equal(await host.field(id).inputValue(), value, id);
    assert.equal(await host.field("flag").isChecked(), false);
    assert.deepEqual(await host.field("choices").evaluate(({ selectedOptions }) => [...selectedOptions].map(({ value }) => value)), ["b", "c"]);
    await host.button("submit").click();
    assert.match((await host.next("form-submit")).resultUrl, /tasks/);
  });
}

scenario(shared, "fills in what was just submitted", {}, async ({ open }) => {
  const host = await open(form());
  await host.fill();
  await host.field("flag").uncheck();
  await host.field("choices").selectOption(["a", "b"]);
  await host.button("submit").click();
  const { formData: value, formDataType: encoding } = await host.next("form-submit");
  const again = await open(form());
  await again.send({ type: "autofill-response", value, encoding });
  await again.field("secret").fill("x");
  await again.button("submit").click();
  const second = await again.next("form-submit");
  assert.equal(second.formData, value);
});

scenario(shared, "warns of values that it cannot read", { expected: [/unknown encoding/, /no JSON/] }, async ({ open }) => {
  const host = await open(form());
  await host.send({ type: "autofill-response", value: "word=x", encoding: "text/csv" });
  await host.send({ type: "autofill-response", value: "{", encoding: "application/json" });
  await host.settle();
  assert.equal(await host.field("word").inputValue(), "");
});
