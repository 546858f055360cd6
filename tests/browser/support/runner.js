// A started `runner up`.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const ROOT = resolve(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "../../..");
const PLUGINS = [
  "tests/browser/plugins",
  "stable_plugins/demo",
  "stable_plugins/data_preparation",
  "stable_plugins/file_utils",
];
const READY = "runner is ready at ";

export class Runner {
  /** Starts a runner with the stable plugins and those of the tests; `env` has settings. */
  static async start({ args = [], env = {} } = {}) {
    const home = mkdtempSync(join(tmpdir(), "runner-browser-"));
    const folders = PLUGINS.map((folder) => join(ROOT, folder)).join(":");
    const child = spawn(
      process.env.RUNNER_BIN,
      ["up", "--port", "0", "--instance-folder", join(home, "instance"), "--plugin-folders", folders, ...args],
      {
        cwd: home,
        env: { PATH: process.env.PATH, HOME: process.env.HOME, SHUTDOWN_GRACE: "1", DISK_FLOOR: "0", ...env },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    const runner = new Runner(child, home);
    process.on("exit", runner.#kill);
    let log = "";
    child.stderr.on("data", (text) => { log = (log + text).slice(-20_000); });
    for await (const line of createInterface({ input: child.stdout })) {
      if (!line.startsWith(READY)) continue;
      runner.url = line.slice(READY.length).replace(/\/$/, "");
      child.stdout.resume();
      return runner;
    }
    throw new Error(`the runner did not start:\n${log}`);
  }

  constructor(child, home) {
    this.child = child;
    this.home = home;
    this.ended = new Promise((done) => child.once("exit", done));
  }

  #kill = () => this.child.kill("SIGKILL");

  /** The form of a plugin. */
  form(identifier) {
    return `${this.url}/plugins/${identifier}/ui/`;
  }

  /** Ends it as a failing machine would. */
  async kill() {
    this.#kill();
    await this.ended;
  }

  async stop() {
    this.child.kill("SIGTERM");
    await this.ended;
    process.off("exit", this.#kill);
    rmSync(this.home, { recursive: true, force: true });
  }

  /** Changes the database behind the runner's back. */
  sql(statement) {
    const script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    const database = join(this.home, "instance", "runner.sqlite");
    const { status, stderr } = spawnSync("python3", ["-c", script, database, statement], { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  }

  /** Runs a plugin and gives its task when it has finished. */
  async run(identifier, values) {
    const response = await fetch(`${this.url}/plugins/${identifier}/process/`, {
      method: "POST",
      body: new URLSearchParams(values),
    });
    if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
    return this.finished(response.url);
  }

  /** The task when it has finished, or waits for a step. */
  async finished(url) {
    for (;;) {
      const response = await fetch(`${url}?wait=5`);
      const task = await response.json();
      if (task.status !== "PENDING" || task.steps?.some((step) => !step.cleared)) return task;
    }
  }

  /** What the plugin `every-kind` got. */
  async values(resultUrl) {
    const task = await this.finished(resultUrl);
    if (task.status !== "SUCCESS") throw new Error(task.log);
    return (await fetch(task.outputs[0].href)).json();
  }
}
