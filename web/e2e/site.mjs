// A whole site for the browser tests: bin/usher dev on free ports and a data folder of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const binary = process.env.USHER_BINARY || fileURLToPath(new URL("../../bin/usher", import.meta.url)); // `make e2e` builds it
const key = "usher_e2e_" + "k".repeat(40);

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

export async function startSite() {
  const folder = await mkdtemp(join(tmpdir(), "usher-e2e-"));
  await chmod(folder, 0o755); // as root, Postgres runs as someone else and must pass through
  const data = join(folder, "data");
  const args = ["dev", "--listen", `127.0.0.1:${await freePort()}`, "--admin-listen", `127.0.0.1:${await freePort()}`, "--data-dir", data];
  const child = spawn(binary, args, { env: { ...process.env, USHER_OPERATOR_KEY: key }, stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(child, "exit");
  let log = "";
  child.stderr.on("data", (text) => (log = (log + text).slice(-20_000)));
  const ready = new Promise((resolve) => {
    createInterface(child.stdout).on("line", (line) => {
      const found = /^ready (http\S+)/.exec(line);
      if (found) resolve(found[1]);
    });
  });
  const base = await Promise.race([
    ready,
    ended.then(([code]) => {
      throw new Error(`usher dev ended with ${code}:\n${log}`);
    }),
  ]);

  /** Asks the site, again after the time it names while it is busy. */
  const ask = async (method, path, body, headers = {}) => {
    for (;;) {
      const answer = await fetch(base + path, {
        method,
        headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await answer.text();
      if (answer.ok) return text ? JSON.parse(text) : undefined;
      if (answer.status !== 429 && answer.status !== 503) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
      await setTimeout(Number(answer.headers.get("retry-after") ?? 1) * 1000);
    }
  };
  return {
    base,
    ask,
    operate: (method, path, body) => ask(method, "/api/v1/operate/" + path, body, { authorization: `Bearer ${key}` }),
    /** The demo's operators: [{email, password, role}]. */
    operators: async () => JSON.parse(await readFile(join(data, "operators.json"), "utf8")),
    /** A shopper without a browser, already inside: {post(path, body)}. */
    async fan(room) {
      const { token } = await ask("POST", `/api/v1/rooms/${room}/places`);
      for (;;) {
        const answer = await fetch(`${base}/api/v1/rooms/${room}/place`, { headers: { authorization: `Place ${token}` } });
        if ((await answer.json()).state === "called") break;
        await setTimeout(Number(answer.headers.get("retry-after") ?? 1) * 1000);
      }
      const { pass } = await ask("POST", `/api/v1/rooms/${room}/pass`, undefined, { authorization: `Place ${token}` });
      return { post: (path, body) => ask("POST", path, body, { "usher-pass": pass }) };
    },
    /** Visitors who join by the API and stay in line for their presence time. */
    crowd: (room, n) => Promise.all(Array.from({ length: n }, () => ask("POST", `/api/v1/rooms/${room}/places`))),
    async stop() {
      child.kill("SIGTERM");
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
