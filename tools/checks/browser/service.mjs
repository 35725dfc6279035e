// Starts `vggt serve --demo` in a folder of its own, ends it, and starts it again.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";

export const USER = "ann";
export const PASSWORD = "correct horse";

/** Longest wait for the service's answer, in milliseconds: it loads the demo's weights before. */
const START = 30_000;

export class Service {
  /** Makes a user and starts. */
  static async start(program) {
    const service = new Service();
    service.program = resolve(program);
    service.folder = mkdtempSync(join(tmpdir(), "vggt-web-"));
    const made = spawnSync(service.program, ["user", "add", USER, "--password-stdin"], { cwd: service.folder, input: `${PASSWORD}\n`, encoding: "utf8" });
    if (made.status !== 0) throw new Error(`cannot make a user: ${made.stderr ?? made.error}`);
    // The port stays the same after a restart, as a real one does.
    service.port = await freePort();
    service.url = `http://127.0.0.1:${service.port}`;
    service.log = "";
    try {
      await service.run();
    } catch (e) {
      await service.stop();
      throw e;
    }
    return service;
  }

  /** Starts the program; returns when it answers. */
  async run() {
    const args = ["serve", "--demo", "--device", "cpu", "--host", "127.0.0.1", "--port", "0", "--http", `127.0.0.1:${this.port}`];
    this.process = spawn(this.program, args, { cwd: this.folder, stdio: ["ignore", "ignore", "pipe"] });
    this.process.stderr.on("data", (text) => (this.log += text));
    const until = Date.now() + START;
    while (Date.now() < until && this.process.exitCode === null) {
      const answer = await fetch(`${this.url}/health`).catch(() => null);
      if (answer?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`the service does not answer:\n${this.log}`);
  }

  /** Asks the API as the user; throws where that says no. */
  async ask(path, options = {}) {
    const headers = { ...(this.token && { Authorization: `Bearer ${this.token}` }) };
    if (typeof options.body === "string") headers["Content-Type"] = "application/json";
    const answer = await fetch(`${this.url}/api/v1${path}`, { ...options, headers });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** Makes a scene of files over the API; returns the path of its page once it is done. */
  async make(name, files, options = {}) {
    if (!this.token) {
      const body = JSON.stringify({ username: USER, password: PASSWORD });
      this.token = (await this.ask("/sessions", { method: "POST", body })).token;
    }
    const form = new FormData();
    for (const file of files) form.append("files", new Blob([readFileSync(file)]), basename(file));
    form.append("options", JSON.stringify({ ...options, name }));
    const { id } = await this.ask("/jobs", { method: "POST", body: form });
    for (;;) {
      const { state, reason } = await this.ask(`/jobs/${id}`);
      if (state === "done") return `/jobs/${id}`;
      if (state === "failed" || state === "cancelled") throw new Error(`the job ${name} ${state}: ${reason}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Ends it as a loss of power does. */
  async kill() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGKILL");
    await ended;
  }

  async stop() {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
