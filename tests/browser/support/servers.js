// Servers around the runner: the host's own, and a proxy that may misbehave.

import { readFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { connect } from "node:net";

async function listen(server, name) {
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return `http://${name}:${server.address().port}`;
}

async function close(server) {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
}

/** Serves the host page, its style sheet, and a stranger, from an origin of its own. */
export class HostServer {
  static async start() {
    const read = (name) => readFileSync(new URL(name, import.meta.url));
    const files = {
      "/": ["text/html", read("host.html")],
      "/host.css": ["text/css", read("host.css")],
      "/stranger": ["text/html", "<!doctype html><title>Stranger</title>"],
    };
    const host = new HostServer();
    host.files = files;
    host.server = createServer(({ url }, response) => {
      const [type, body] = files[url] ?? ["text/plain", null];
      response.writeHead(body === null ? 404 : 200, { "Content-Type": `${type}; charset=utf-8` });
      response.end(body);
    });
    // Another name than the runner's, so that it is another site too.
    host.url = await listen(host.server, "localhost");
    return host;
  }

  /** Serves a page that a test has written; gives its URL. */
  page(path, html) {
    this.files[path] = ["text/html", `<!doctype html><html lang="en"><title>Page</title><link rel="icon" href="data:,">${html}`];
    return this.url + path;
  }

  stop() {
    return close(this.server);
  }
}

/** A reverse proxy that shows the runner below `/some/where`. `misbehave` may answer instead of it. */
export class Proxy {
  static PREFIX = "/some/where";

  static async start(target) {
    const proxy = new Proxy();
    proxy.target = new URL(target);
    proxy.server = createServer((request, response) => proxy.#answer(request, response));
    proxy.server.on("upgrade", (request, socket, head) => proxy.#upgrade(request, socket, head));
    proxy.origin = await listen(proxy.server, "127.0.0.1");
    proxy.url = proxy.origin + Proxy.PREFIX;
    return proxy;
  }

  /** Is asked for each POST to a `process/`: (request, response) => whether it answers. */
  misbehave = null;

  /** Whether nothing gets through. */
  #isCut = false;
  #lines = new Set();

  /** Breaks all WebSockets, and lets nothing through until `mend`. */
  cut() {
    this.#isCut = true;
    for (const socket of this.#lines) socket.destroy();
  }

  mend() {
    this.#isCut = false;
  }

  #headers(request) {
    return {
      ...request.headers,
      "x-forwarded-host": new URL(this.origin).host,
      "x-forwarded-proto": "http",
      "x-forwarded-prefix": Proxy.PREFIX,
    };
  }

  #upgrade(request, socket, head) {
    if (this.#isCut) {
      socket.destroy();
      return;
    }
    const { hostname, port } = this.target;
    const behind = connect(port, hostname, () => {
      const lines = Object.entries(this.#headers(request)).map(([name, value]) => `${name}: ${value}\r\n`);
      behind.write(`GET ${request.url.slice(Proxy.PREFIX.length)} HTTP/1.1\r\n${lines.join("")}\r\n`);
      behind.write(head);
      behind.pipe(socket).pipe(behind);
    });
    for (const [one, other] of [[socket, behind], [behind, socket]]) {
      this.#lines.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#lines.delete(one);
        other.destroy();
      });
    }
  }

  #answer(request, response) {
    if (this.#isCut) {
      response.destroy();
      return;
    }
    if (!request.url.startsWith(`${Proxy.PREFIX}/`)) {
      response.writeHead(404).end("outside of the prefix");
      return;
    }
    const isSubmission = request.method === "POST" && request.url.includes("process/");
    if (isSubmission && this.misbehave?.(request, response)) return;
    const headers = this.#headers(request);
    const { hostname, port } = this.target;
    const path = request.url.slice(Proxy.PREFIX.length);
    const forwarded = httpRequest({ hostname, port, path, method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    forwarded.on("error", () => response.destroy());
    request.pipe(forwarded);
  }

  stop() {
    return close(this.server);
  }
}
