// The client of JupyterLab, unchanged, with kernels and sessions of a server in SESSIONS_URL.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, test } from "node:test";
import services from "@jupyterlab/services";

const { KernelManager, KernelSpecManager, ServerConnection, SessionManager } = services;
const { SESSIONS_URL: baseUrl, SESSIONS_TOKEN: token, SESSIONS_TARGET: target } = process.env;
const V1 = "v1.kernel.websocket.jupyter.org";

// The default client takes the form that the server chooses of those it knows; without subprotocols it is the plain one.
class PlainSocket extends ServerConnection.makeSettings().WebSocket {
  constructor(url, _subprotocols, ...more) {
    super(url, ...more);
  }
}

const settingsOf = (form) =>
  ServerConnection.makeSettings({ baseUrl: `${baseUrl}/`, token, ...(form === "plain" && { WebSocket: PlainSocket }) });

const patience = { timeout: 60_000 };

/** Waits for a signal whose value passes. */
const heard = (signal, wanted, what) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not heard: ${what}`)), 30_000);
    const slot = (_, value) => {
      if (!wanted(value)) return;
      clearTimeout(timer);
      signal.disconnect(slot);
      resolve(value);
    };
    signal.connect(slot);
  });

/** Executes a cell; what was told, and the reply. */
async function run(kernel, code, { onStdin, onMessage, ...content } = {}) {
  const future = kernel.requestExecute({ code, allow_stdin: Boolean(onStdin), ...content }, false);
  const told = [];
  future.onIOPub = (message) => {
    told.push(message);
    onMessage?.(message);
  };
  if (onStdin) future.onStdin = (message) => onStdin(message, future);
  const reply = await future.done;
  const of = (kind) => told.filter(({ header }) => header.msg_type === kind).map(({ content }) => content);
  const text = of("stream").filter(({ name }) => name === "stdout").map(({ text }) => text).join("");
  return { reply: reply.content, told, of, text };
}

for (const form of ["v1", "plain"]) {
  describe(`a kernel in the form ${form}`, () => {
    let manager, kernel;

    beforeEach(async () => {
      manager = new KernelManager({ serverSettings: settingsOf(form) });
      await manager.ready;
      kernel = await manager.startNew({ name: "python3" });
      // Comms would ask ipykernel for threads of their own, and leave requests behind that nobody waits for.
      kernel.commsOverSubshells = "disabled";
    }, patience);

    afterEach(async () => {
      const { id } = kernel.model;
      kernel.dispose();
      await manager.shutdown(id).catch(() => {});
      manager.dispose();
    }, patience);

    test("takes that form", patience, async () => {
      await kernel.info;
      assert.equal(kernel._ws.protocol, form === "v1" ? V1 : "");
      assert.equal(kernel.connectionStatus, "connected");
    });

    test("tells of itself", patience, async () => {
      const info = await kernel.info;
      assert.equal(info.language_info.name, "python");
      assert.equal(info.status, "ok");
      assert.equal((await kernel.spec).language, "python");
    });

    test("runs a cell in order", patience, async () => {
      const { reply, told, text, of } = await run(kernel, "print('one')\ndisplay('two')\n'three'");
      assert.equal(reply.status, "ok");
      assert.equal(reply.execution_count, 1);
      assert.equal(text, "one\n");
      assert.equal(of("execute_result")[0].data["text/plain"], "'three'");
      assert.deepEqual(
        told.map(({ header, content }) => content.execution_state ?? header.msg_type),
        ["busy", "execute_input", "stream", "display_data", "execute_result", "idle"],
      );
    });

    test("tells of errors", patience, async () => {
      const { reply, of } = await run(kernel, "1/0");
      assert.equal(reply.status, "error");
      assert.equal(reply.ename, "ZeroDivisionError");
      assert.ok(of("error")[0].traceback.length > 0);
    });

    test("asks and takes answers", patience, async () => {
      const { text } = await run(kernel, "print('hello', input('name? '))", {
        onStdin: ({ content, header }, future) => {
          assert.equal(content.prompt, "name? ");
          future.sendInputReply({ status: "ok", value: "Ada" }, header);
        },
      });
      assert.equal(text, "hello Ada\n");
    });

    test("updates what it displayed", patience, async () => {
      const displays = [];
      const future = kernel.requestExecute({ code: "h = display('one', display_id='here')\nh.update('two')" });
      future.registerMessageHook((message) => {
        if (message.content.transient?.display_id === "here") displays.push([message.header.msg_type, message.content.data["text/plain"]]);
        return true;
      });
      await future.done;
      assert.deepEqual(displays, [["display_data", "'one'"], ["update_display_data", "'two'"]]);
    });

    test("is interrupted", patience, async () => {
      let interrupted;
      const { reply } = await run(kernel, "print('on', flush=True)\nwhile True: pass", {
        onMessage: ({ header }) => {
          if (header.msg_type === "stream") interrupted ??= kernel.interrupt();
        },
      });
      await interrupted;
      assert.equal(reply.ename, "KeyboardInterrupt");
      assert.equal((await run(kernel, "print('goes on')")).text, "goes on\n");
    });

    test("is restarted", patience, async () => {
      await run(kernel, "x = 1");
      await kernel.restart();
      const { reply } = await run(kernel, "x");
      assert.equal(reply.ename, "NameError");
    });

    test("completes, inspects, and judges code", patience, async () => {
      await run(kernel, "import math");
      const completed = await kernel.requestComplete({ code: "math.sq", cursor_pos: 7 });
      assert.ok(completed.content.matches.some((match) => match.endsWith("sqrt")));
      const inspected = await kernel.requestInspect({ code: "math.sqrt", cursor_pos: 9, detail_level: 0 });
      assert.match(inspected.content.data["text/plain"], /square root/);
      assert.equal((await kernel.requestIsComplete({ code: "for x in y:" })).content.status, "incomplete");
      const history = await kernel.requestHistory({ output: false, raw: true, hist_access_type: "tail", n: 1 });
      assert.equal(history.content.history[0][2], "import math");
    });

    test("speaks over comms, with buffers", patience, async () => {
      await run(kernel, `
from comm import get_comm_manager
def opened(comm, message):
    comm.on_msg(lambda said: comm.send({"twice": said["content"]["data"]["n"] * 2}, buffers=[bytes(said["buffers"][0])[::-1]]))
get_comm_manager().register_target("double", opened)`);
      const comm = kernel.createComm("double");
      const answer = new Promise((resolve) => { comm.onMsg = resolve; });
      await comm.open({}).done;
      await comm.send({ n: 21 }, {}, [new Uint8Array([1, 2, 3]).buffer]).done;
      const { content, buffers } = await answer;
      assert.deepEqual(content.data, { twice: 42 });
      const [buffer] = buffers;
      const bytes = new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset ?? 0, buffer.byteLength);
      assert.deepEqual([...bytes], [3, 2, 1]);
      assert.equal(Object.keys((await kernel.requestCommInfo({ target_name: "double" })).content.comms).length, 1);
      await comm.close().done;
    });

    test("opens comms by itself", patience, async () => {
      const opened = new Promise((resolve) => kernel.registerCommTarget("mine", (comm, message) => resolve([comm, message])));
      await run(kernel, "from comm import create_comm\nc = create_comm(target_name='mine', data={'a': 1})");
      const [comm, message] = await opened;
      assert.deepEqual(message.content.data, { a: 1 });
      const closed = new Promise((resolve) => { comm.onClose = resolve; });
      await run(kernel, "c.close()");
      await closed;
    });

    test("tells its state", patience, async () => {
      await kernel.info;
      const states = [];
      const isDone = (status) => states.push(status) > 1 && states.at(-2) === "busy" && status === "idle";
      const done = heard(kernel.statusChanged, isDone, "busy, idle");
      await run(kernel, "1");
      await done;
    });

    test("is shared by two", patience, async () => {
      const other = kernel.clone();
      await run(other, "shared = 'between both'");
      assert.equal((await run(kernel, "print(shared)")).text, "between both\n");
      const all = heard(other.anyMessage, ({ msg }) => msg.content.text === "for all\n", "the output of the other's cell");
      await run(kernel, "print('for all')");
      await all;
      other.dispose();
    });

    test("gives what was missed to one that reconnects", patience, async () => {
      let cut;
      const { text, reply } = await run(
        kernel,
        // Until the server knows that the client is gone, what it says is on its way to nobody: the pause is for that.
        "import time\nprint('before', flush=True)\ntime.sleep(1)\nfor n in range(100): print(n, flush=True); time.sleep(0.03)",
        {
          onMessage: ({ content }) => {
            if (cut || !content.text?.startsWith("before")) return;
            cut = true;
            // The client comes back within some seconds, and not at once.
            kernel._reconnectAttempt = 2;
            // The connection fails as it does with a network.
            kernel._ws.terminate();
          },
        },
      );
      assert.equal(reply.status, "ok");
      assert.deepEqual(text.trim().split("\n"), ["before", ...Array(100).keys()].map(String));
    });

    test("goes on after reconnect()", patience, async () => {
      await run(kernel, "x = 1");
      await kernel.reconnect();
      assert.equal((await run(kernel, "print(x)")).text, "1\n");
    });

    test("is dead when it has been shut down", patience, async () => {
      await kernel.info;
      await kernel.shutdown();
      assert.equal(kernel.status, "dead");
      assert.ok(kernel.isDisposed);
    });

    test("delivers ten thousand flushed lines", { ...patience, skip: target !== "runner" && "only the runner promises it" }, async () => {
      const { text } = await run(kernel, "for n in range(10_000): print(n, flush=True)");
      assert.equal(text.split("\n").length, 10_001);
      assert.ok(text.startsWith("0\n1\n") && text.endsWith("9999\n"));
    });

    test("tells when it has ended itself, and is there again", { ...patience, skip: target !== "runner" && "Jupyter's restart it" }, async () => {
      await kernel.info;
      await run(kernel, "x = 1");
      const ended = heard(kernel.statusChanged, (status) => ["dead", "autorestarting"].includes(status), "its end");
      const connected = heard(kernel.connectionStatusChanged, (status) => status === "connected", "a new connection");
      kernel.requestExecute({ code: "import os; os._exit(1)" }).done.catch(() => {});
      await ended;
      // The client connects again where the server says that it restarts.
      await connected;
      assert.equal((await run(kernel, "x")).reply.ename, "NameError");
    });
  });
}

describe("the managers", () => {
  test("kernelspecs", patience, async () => {
    const manager = new KernelSpecManager({ serverSettings: settingsOf("v1") });
    await manager.ready;
    assert.equal(manager.specs.default, "python3");
    assert.equal(manager.specs.kernelspecs.python3.language, "python");
    manager.dispose();
  });

  test("kernels that run", patience, async () => {
    const manager = new KernelManager({ serverSettings: settingsOf("v1") });
    await manager.ready;
    const kernel = await manager.startNew();
    await manager.refreshRunning();
    assert.ok([...manager.running()].some(({ id }) => id === kernel.id));
    assert.equal((await manager.findById(kernel.id)).id, kernel.id);
    assert.equal(await manager.findById(randomUUID()), undefined);
    const again = manager.connectTo({ model: kernel.model });
    assert.equal((await run(again, "print('again')")).text, "again\n");
    again.dispose();
    await manager.shutdown(kernel.id);
    // A list that the client asked for when `again` was disposed may come last.
    while (await manager.findById(kernel.id)) await manager.refreshRunning();
    manager.dispose();
  });

  test("sessions", { ...patience, skip: target === "gateway" && "its sessions fail with the Jupyter Server it comes with" }, async () => {
    const serverSettings = settingsOf("v1");
    const kernelManager = new KernelManager({ serverSettings });
    const manager = new SessionManager({ serverSettings, kernelManager });
    await manager.ready;
    const path = `${randomUUID()}.ipynb`;
    const session = await manager.startNew({ path, type: "notebook", name: "book", kernel: { name: "python3" } });
    assert.equal((await run(session.kernel, "print('in a session')")).text, "in a session\n");
    assert.equal((await manager.findByPath(path)).id, session.id);
    await session.setPath(`other-${path}`);
    await manager.refreshRunning();
    assert.equal((await manager.findById(session.id)).path, `other-${path}`);
    const old = session.kernel.id;
    await session.changeKernel({ name: "python3" });
    assert.notEqual(session.kernel.id, old);
    assert.equal((await run(session.kernel, "print('another')")).text, "another\n");
    await session.shutdown();
    await manager.refreshRunning();
    assert.equal(await manager.findById(session.id), undefined);
    manager.dispose();
    kernelManager.dispose();
  });

  test("a wrong token", patience, async () => {
    const serverSettings = ServerConnection.makeSettings({ baseUrl: `${baseUrl}/`, token: "wrong" });
    const answer = await ServerConnection.makeRequest(`${baseUrl}/api/kernels`, {}, serverSettings);
    assert.ok([401, 403].includes(answer.status));
  });

  test("an unknown kernelspec", { ...patience, skip: target !== "runner" && "Jupyter's answer 500" }, async () => {
    const manager = new KernelManager({ serverSettings: settingsOf("v1") });
    await assert.rejects(manager.startNew({ name: "no-such-language" }), ({ response }) => response.status === 404);
    manager.dispose();
  });
});
