// `vggt view`: a local server that ends with its tab.
import { spawn, spawnSync } from "node:child_process";
import { check, noProblems, step, wait } from "./steps.mjs";
import { DESKTOP } from "./launch.mjs";

/** Longest wait for the program to end after its tab, in milliseconds: it waits 3 s for a reload. */
const END = 20_000;

export async function localView(world) {
  await step("vggt view shows a GLB until its tab is closed, and survives a reload", async () => {
    const [program, cwd] = [world.service.program, world.scratch];
    const made = spawnSync(program, ["export", "--demo", "--device", "cpu", "--no-cache", "--out", "demo.glb"], { cwd, encoding: "utf8" });
    check(made.status === 0, `export failed: ${made.stderr}`);
    const viewing = spawn(program, ["view", "demo.glb", "--no-browser"], { cwd, stdio: ["ignore", "ignore", "pipe"] });
    const ended = new Promise((resolve) => viewing.once("exit", resolve));
    try {
      const address = await new Promise((resolve, reject) => {
        let told = "";
        viewing.stderr.on("data", (text) => {
          told += text;
          const [found] = told.match(/http:\/\/127\.0\.0\.1:\S+/) ?? [];
          if (found) resolve(found);
        });
        ended.then(() => reject(new Error(`vggt view ended: ${told}`)));
      });
      const page = await world.openPage(DESKTOP);
      const shown = () => wait(page, "viewer", () => document.querySelector(".vggt-viewer[data-shown]")?.dataset.shown > 10_000);
      await page.goto(address);
      await shown();
      await page.reload();
      await shown();
      check(viewing.exitCode === null, "it ended at a reload");
      noProblems(page);
      await page.close();
      const code = await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, END, "still running"))]);
      check(code === 0, `after its tab was closed it is ${code}`);
    } finally {
      viewing.kill("SIGKILL");
    }
  });
}
