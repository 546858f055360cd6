// Submissions that fail, in every way: the host always hears of it, with a code and a status.

import assert from "node:assert/strict";
import { describe } from "node:test";

import { STRICT, scenario, stage } from "../support/browser.js";

/** What a failed submission leaves behind: a message that a host can show, and a form that can be used. */
async function assertFailed(host, code, status) {
  const message = await host.next("form-error");
  assert.equal(message.status, code);
  assert.equal(message.error.code, code);
  assert.equal(message.error.status, status);
  assert.deepEqual(await host.rest("form-submit"), []);
  await host.form.locator(".qhana-error-message").first().waitFor();
  assert.equal(await host.form.locator("form").getAttribute("aria-busy"), null);
  assert.equal(await host.field("word").inputValue(), "abc", "what was typed is still there");
  return message.error;
}

async function submit(host) {
  await host.fill();
  await host.button("submit").click();
}

const FORM = "every-kind@v1-2-3";

describe("by the runner", () => {
  const shared = stage({ env: { MAX_UPLOAD_SIZE: "1000" } });

  scenario(shared, "422: at the fields, with the focus at the first", { expected: [/422/, /422/] }, async ({ open, runner }) => {
    const host = await open(runner.form(FORM));
    await host.field("settings").fill("[1");
    await host.field("data").fill("no url");
    await submit(host);
    const { errors, message } = await assertFailed(host, 422, "Unprocessable Entity");
    assert.deepEqual(Object.keys(errors.form).sort(), ["data", "settings"]);
    assert.equal(message, undefined);
    assert.equal(await host.frame.evaluate(() => document.activeElement.id), "data");
    for (const id of ["data", "settings"]) {
      assert.equal(await host.field(id).getAttribute("aria-invalid"), "true");
      assert.equal(await host.description(id).locator(".qhana-error-message").textContent().then((text) => text.trim()), errors.form[id].join(" "));
    }
    // The next attempt begins without them.
    await host.field("data").fill("");
    await host.field("settings").fill("{}");
    await host.button("submit").click();
    await host.next("form-submit");
    assert.equal(await host.form.locator("[aria-invalid]").count(), 0);
    assert.equal(await host.form.locator(".qhana-error-message").count(), 0);
  });

  scenario(shared, "413: a file that is too large", { expected: [/413/, /413/] }, async ({ open, runner }) => {
    const host = await open(runner.form(FORM));
    await host.field("upload").setInputFiles({ name: "a.txt", mimeType: "text/plain", buffer: Buffer.alloc(5000) });
    await submit(host);
    const { message } = await assertFailed(host, 413, "Request Entity Too Large");
    await host.form.getByRole("alert").getByText(message).waitFor();
  });
});

describe("by a runner whose disk is full", () => {
  const shared = stage({ env: { DISK_FLOOR: String(2 ** 60) } });

  scenario(shared, "507", { expected: [/507/, /507/] }, async ({ open, runner }) => {
    const host = await open(runner.form(FORM));
    await submit(host);
    await assertFailed(host, 507, "Insufficient Storage");
  });
});

describe("by a runner whose database is broken", () => {
  const shared = stage();

  scenario(shared, "500 as JSON", { expected: [/500/, /500/] }, async ({ open, runner }) => {
    const host = await open(runner.form(FORM));
    runner.sql("ALTER TABLE tasks RENAME TO lost");
    await submit(host);
    await assertFailed(host, 500, "Internal Server Error");
  });
});

for (const [kind, sandbox] of [["usual", undefined], ["strict", STRICT]]) {
  describe(`by a runner that is gone, in a ${kind} sandbox`, () => {
    const shared = stage();

    scenario(shared, "connection refused", { expected: [/ERR_CONNECTION_REFUSED/, /console/] }, async ({ open, runner }) => {
      const host = await open(runner.form(FORM), sandbox);
      await runner.kill();
      await submit(host);
      const { message } = await assertFailed(host, 503, "Service Unavailable");
      await host.form.getByText(message).waitFor();
    });
  });
}

describe("by what stands between", () => {
  const shared = stage({ proxy: true });
  const PAGE = "<html><h1>502 Bad Gateway</h1><img src=x onerror='hacked()'></html>";

  /** Opens the form behind the proxy, fails, and succeeds when the proxy is well again. */
  function fails(name, { code, status, expected, sandbox, prepare }, answer, check) {
    scenario(shared, name, { expected }, async ({ context, open, proxy }) => {
      await prepare?.(context);
      const host = await open(`${proxy.url}/plugins/${FORM}/ui/`, sandbox);
      // Each time: a browser tries again by itself where a connection just ends.
      proxy.misbehave = (request, response) => {
        request.resume().on("end", () => answer(response));
        return true;
      };
      await submit(host);
      const error = await assertFailed(host, code, status);
      proxy.misbehave = null;
      await check?.(host, error);
      await host.button("submit").click();
      assert.match((await host.next("form-submit")).resultUrl, new RegExp(`^${proxy.url}/tasks/`));
    });
  }

  const html = (status) => (response) => {
    response.writeHead(status, { "Content-Type": "text/html" }).end(PAGE);
  };
  const answered = (status) => [new RegExp(`answer: ${status}`), new RegExp(`console: .*${status}`)];

  fails("500 as HTML", { code: 500, status: "Internal Server Error", expected: answered(500) }, html(500), async (host, { message }) => {
    assert.equal(message, "The server answered 500 Internal Server Error.");
  });
  fails("502 as HTML", { code: 502, status: "Bad Gateway", expected: answered(502) }, html(502), async (host) => {
    assert.equal(await host.form.locator("img").count(), 0);
  });
  // A frame without an origin may not read what a proxy says for itself.
  fails(
    "502 as HTML, unreadable",
    { code: 503, status: "Service Unavailable", expected: [/CORS/, /console/, /ERR_FAILED/], sandbox: STRICT },
    html(502),
  );
  fails("500 without a body", { code: 500, status: "Internal Server Error", expected: answered(500) }, (response) => {
    response.writeHead(500).end();
  });
  fails("JSON that is no object", { code: 500, status: "Internal Server Error", expected: answered(500) }, (response) => {
    response.writeHead(500, { "Content-Type": "application/json" }).end('["a"]');
  });
  fails("errors of another shape", { code: 400, status: "Bad Request", expected: answered(400) }, (response) => {
    const errors = { json: { word: { 0: ["odd"], deep: { deeper: 7 } }, gone: ["x"] }, none: null, text: "y" };
    response.writeHead(400, { "Content-Type": "application/json" }).end(JSON.stringify({ errors }));
  }, async (host) => {
    await host.description("word").getByText("odd").waitFor();
    await host.form.getByRole("alert").getByText("gone: x").waitFor();
  });
  fails("another success than 200", { code: 202, status: "Accepted", expected: [] }, (response) => {
    response.writeHead(202).end();
  });
  fails("a redirect to nothing", { code: 404, status: "Not Found", expected: answered(404) }, (response) => {
    response.writeHead(303, { Location: `${shared.proxy.url}/tasks/999999999/` }).end();
  }, async (host) => {
    await host.form.getByText("Task not found.").waitFor();
  });
  fails("redirects without end", { code: 503, status: "Service Unavailable", expected: [/REDIRECTS/, /console/] }, (response) => {
    response.writeHead(307, { Location: `${shared.proxy.url}/plugins/${FORM}/process/` }).end();
  });
  fails("closed without an answer", { code: 503, status: "Service Unavailable", expected: [/ERR_EMPTY_RESPONSE/, /console/] }, (response) => {
    response.destroy();
  });
  fails("an error that breaks off", { code: 500, status: "Internal Server Error", expected: [/answer: 500/, /console/, /ERR_CONTENT_LENGTH_MISMATCH/] }, (response) => {
    response.writeHead(500, { "Content-Type": "application/json", "Content-Length": "1000" });
    response.write('{"code": 500, "sta', () => response.destroy());
  });
  fails("no HTTP at all", { code: 503, status: "Service Unavailable", expected: [/ERR_INVALID_HTTP_RESPONSE/, /console/] }, (response) => {
    response.socket.end("SSH-2.0-OpenSSH_9.2\r\n\r\n");
  });

  const impatient = (context) => context.addInitScript(() => {
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = (milliseconds) => {
      if (milliseconds < 60_000) throw new Error("a form has to be more patient");
      return timeout(300);
    };
  });
  fails("no answer in time", { code: 504, status: "Gateway Timeout", expected: [/ERR_ABORTED/, /console/], prepare: impatient }, () => {}, async (host) => {
    await host.frame.evaluate(() => { AbortSignal.timeout = () => new AbortController().signal; });
  });
  fails("half an answer, and then nothing", { code: 504, status: "Gateway Timeout", expected: [/answer: 500/, /console/, /ERR_ABORTED/], prepare: impatient }, (response) => {
    response.writeHead(500, { "Content-Type": "application/json" }).write('{"code": 500');
  }, async (host) => {
    await host.frame.evaluate(() => { AbortSignal.timeout = () => new AbortController().signal; });
  });
});
