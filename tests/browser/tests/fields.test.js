// The fields of a form: what they begin with, what they refuse, and that markup in texts is text.

import assert from "node:assert/strict";

import { scenario, stage } from "../support/browser.js";

const shared = stage();
const form = (query = "") => shared.runner.form("every-kind@v1-2-3") + query;

scenario(shared, "has a field of every kind, with its default", {}, async ({ open }) => {
  const host = await open(form());
  const fields = await host.form.locator(".qhana-form-input").evaluateAll((inputs) => inputs.map((input) => [
    input.id, input.name, input.type, input.type === "checkbox" ? input.checked : input.value, input.required,
  ]));
  assert.deepEqual(fields, [
    ["word", "word", "text", "", true],
    ["lines", "lines", "textarea", "", false],
    ["secret", "secret", "password", "", true],
    ["secret_lines", "secretLines", "textarea", "", false],
    ["count", "count", "number", "3", false],
    ["ratio", "ratio", "number", "0.5", false],
    ["flag", "flag", "checkbox", true, false],
    ["choice", "choice", "select-one", "a", false],
    ["choices", "choices", "select-multiple", "a", false],
    ["words", "words", "text", "", false],
    ["address", "address", "url", "", false],
    ["data", "data", "text", "", false],
    ["labels", "labels", "text", "", false],
    ["helper", "helper", "text", "", false],
    ["upload", "upload", "file", "", false],
    ["settings", "settings", "textarea", "{}", false],
  ]);
  assert.equal(await host.field("word").evaluate(({ labels }) => labels[0].textContent), "Word");
  assert.equal(await host.description("word").locator("em").textContent(), "five");
  assert.deepEqual(await host.field("choice").locator("option").allTextContents().then((texts) => texts.filter(Boolean)), ["The first", "The second"]);
  assert.equal(await host.field("upload").getAttribute("accept"), "text/plain");
});

scenario(shared, "fills in example values", {}, async ({ open }) => {
  const host = await open(form());
  await host.form.locator("summary").click();
  assert.equal(await host.form.getByRole("link", { name: "link" }).getAttribute("href"), "https://example.org/");
  await host.form.getByRole("link", { name: "Fill in example values." }).click();
  await host.next("ui-loaded");
  assert.equal(await host.field("word").inputValue(), "abc");
  assert.equal(await host.field("count").inputValue(), "7");
});

scenario(shared, "lets the browser refuse what it can", {}, async ({ open }) => {
  const host = await open(form());
  await host.fill();
  let posts = 0;
  host.page.on("request", (request) => { posts += request.method() === "POST" ? 1 : 0; });
  const refused = async (id, value, good) => {
    await host.field(id).fill(value);
    await host.button("submit").click();
    assert.equal(await host.frame.evaluate(() => document.activeElement.id), id);
    assert.equal(await host.field(id).evaluate((input) => input.validity.valid), false, `${id}: ${value}`);
    await host.field(id).fill(good);
  };
  await refused("word", "", "abc");
  await refused("word", "ab", "abc");
  await refused("word", "ABC", "abc");
  await refused("word", "abcdef", "abc");
  await refused("count", "10", "9");
  await refused("count", "1.5", "1");
  await refused("ratio", "-1", "0.001");
  await refused("address", "nothing", "");
  await refused("secret", "", "x");
  assert.equal(posts, 0);
  await host.button("submit").click();
  await host.next("form-submit");
});

scenario(shared, "counts characters as the server does, and cuts nothing", {}, async ({ open }) => {
  const host = await open(form());
  await host.field("word").fill("abcdefgh");
  assert.equal(await host.field("word").inputValue(), "abcdefgh");
  assert.match(await host.field("word").evaluate((input) => input.validationMessage), /At most 5 characters, these are 8/);
  await host.field("word").fill("abc");
  assert.equal(await host.field("word").evaluate((input) => input.validationMessage), "");
});

scenario(shared, "shows at each field what the server says of it", {}, async ({ open }) => {
  const host = await open(form());
  await host.fill();
  await host.field("data").fill("no url");
  await host.field("settings").fill("{");
  await host.field("words").fill("a,b,c,d");
  await host.button("validate").click();
  assert.equal(await host.next("ui-loading"), "ui-loading");
  assert.equal(await host.next("ui-loaded"), "ui-loaded");
  const invalid = host.form.locator('[aria-invalid="true"]');
  assert.deepEqual(await invalid.evaluateAll((inputs) => inputs.map(({ id }) => id)), ["words", "data", "settings"]);
  assert.match(await host.description("data").locator(".qhana-error-message").textContent(), /Not a valid URL\./);
  assert.equal(await host.field("data").inputValue(), "no url");
  assert.equal(await host.field("settings").inputValue(), "{");
  assert.equal(await host.field("word").inputValue(), "abc");
  assert.equal(await host.field("secret").inputValue(), "");
  assert.equal(await host.form.getByText("Validation successful!").count(), 0);

  await host.field("secret").fill("x");
  await host.field("data").fill("");
  await host.field("settings").fill("{}");
  await host.field("words").fill("a,b");
  await host.button("validate").click();
  await host.next("ui-loaded");
  await host.form.getByText("Validation successful!").waitFor();
  assert.equal(await invalid.count(), 0);
  assert.equal(await host.field("words").inputValue(), "a,b");
});

scenario(shared, "takes values from the query, and says what is wrong with them", {}, async ({ open }) => {
  const host = await open(form("?count=99&word=abcd&choices=b&choices=c&flag=false&unknown=1&lines=%0Aa"));
  assert.equal(await host.field("count").inputValue(), "99");
  assert.equal(await host.field("count").getAttribute("aria-invalid"), "true");
  assert.equal(await host.field("word").inputValue(), "abcd");
  assert.equal(await host.field("lines").inputValue(), "\na");
  assert.equal(await host.field("flag").isChecked(), false);
  assert.equal(await host.field("secret").getAttribute("aria-invalid"), null, "what was not given is not wrong");
});

for (const suffix of ["", "?text=%22%3E%3Cimg%20src%3Dx%20onerror%3Dhacked%281%29%3E&count=0&choice=%22%3E%3Cscript%3Ehacked(2)%3C/script%3E"]) {
  scenario(shared, `shows markup of plugins and queries as text${suffix && ", also where it is wrong"}`, {}, async ({ context, open, runner, host: { url } }) => {
    await context.exposeBinding("hacked", (_, place) => { throw new Error(`markup acted: ${place}`); });
    const host = await open(runner.form("markup@v0-0-1") + suffix);
    await host.form.locator("summary").click();
    await host.form.locator(".qhana-help").getByText("click", { exact: true }).click();
    assert.equal(new URL(host.page.url()).origin, new URL(url).origin);
    assert.match(await host.form.locator(".qhana-help").textContent(), /\{\{ 7 \* 7 \}\}/);
    const markup = host.form.locator("img, script:not([src]), [onfocus], [onerror], [autofocus]");
    assert.equal(await markup.count(), 0);
    assert.match(await host.form.locator("label").first().textContent(), /^label" onfocus=hacked/);
    assert.equal((await host.field("lines").inputValue()).slice(0, 8), "\ndefault");
    await host.form.locator('button[data-input-id="data"]').first().click();
    const { acceptedInputType, acceptedContentTypes } = await host.next("request-data-url");
    assert.match(acceptedInputType, /^type" onfocus=/);
    assert.ok(acceptedContentTypes.length > 0);
    const evil = '<img src=x onerror="hacked(3)">';
    await host.send({ type: "data-url-response", inputKey: "data", href: evil, filename: evil, dataType: evil, version: evil });
    await host.send({ type: "plugin-url-response", inputKey: "other", pluginUrl: evil, pluginName: evil, pluginVersion: evil });
    await host.settle();
    assert.equal(await markup.count(), 0);
  });
}

scenario(shared, "shows markup in errors as text", { expected: [/422/, /422/] }, async ({ context, open, runner }) => {
  await context.exposeBinding("hacked", (_, place) => { throw new Error(`markup acted: ${place}`); });
  const host = await open(runner.form("markup@v0-0-1"));
  await host.frame.evaluate(() => { document.querySelector("form").noValidate = true; });
  await host.field("text").fill("a");
  await host.field("count").fill("0");
  await host.button("submit").click();
  const { status } = await host.next("form-error");
  assert.equal(status, 422);
  await host.description("count").getByText('message" onfocus=').waitFor();
  await host.button("validate").click();
  await host.next("ui-loaded");
  await host.description("count").getByText('message" onfocus=').waitFor();
  assert.equal(await host.form.locator("img, script:not([src]), [onfocus]").count(), 0);
});

scenario(shared, "shows markup on the page of the runner as text", {}, async ({ context, runner }) => {
  await context.exposeBinding("hacked", (_, place) => { throw new Error(`markup acted: ${place}`); });
  const page = await context.newPage();
  await page.goto(`${runner.url}/`);
  await page.getByText('title" onfocus=').waitFor();
  assert.equal(await page.locator("img, script:not([src]), [onfocus]").count(), 0);
});
