/**
 * Opens the page in headless Chromium: `node browse.mjs FOLDER`. FOLDER/task.json says what to do, FOLDER/result.json is
 * what was seen; playwright-core is in FOLDER/node_modules.
 */

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join } from "node:path";

const folder = process.argv[2];
const require = createRequire(join(folder, "package.json"));
const { chromium } = require("playwright-core");
const task = JSON.parse(await readFile(join(folder, "task.json"), "utf8"));

/** Start sources one after the other before any of them runs: files, or "camera"; then stop, or wait for the last. */
async function drop(page, names, stop) {
  const files = [];
  for (const path of names.filter((name) => name !== "camera")) {
    const type = path.endsWith(".mp4") ? "video/mp4" : "image/png";
    files.push({ name: basename(path), type, content: (await readFile(path)).toString("base64") });
  }
  const sources = names.map((name) => (name === "camera" ? null : files.shift()));
  await page.evaluate(([sources, stop]) => {
    for (const source of sources) {
      if (!source) {
        document.querySelector("#camera").click();
        continue;
      }
      const dataTransfer = new DataTransfer();
      const bytes = Uint8Array.from(atob(source.content), (letter) => letter.charCodeAt(0));
      dataTransfer.items.add(new File([bytes], source.name, { type: source.type }));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer }));
    }
    if (stop) document.querySelector("#stop").click();
  }, [sources, stop]);
  // a failure of a superseded source comes within this time
  await page.waitForTimeout(1000);
  await page.waitForFunction(
    () => /^(Done|Stopped)/.test(document.querySelector("#status").textContent) || !document.querySelector("#error").hidden,
  );
}

const browser = await chromium.launch({
  executablePath: task.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", ...task.flags],
});
try {
  const context = await browser.newContext({ permissions: task.grant ? ["camera"] : [], acceptDownloads: true });
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("requestfailed", (request) => problems.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.setDefaultTimeout(120_000);
  const text = (id) => page.locator(`#${id}`).textContent();
  const begun = performance.now();
  await page.goto(task.url);
  await page.waitForFunction(() => document.querySelector("#status").textContent.startsWith("Ready"));
  const result = { ready_ms: performance.now() - begun, title: await page.title() };
  if (task.offline) {
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.waitForFunction(() => navigator.serviceWorker.controller);
    await context.setOffline(true);
    await page.reload();
    await page.waitForFunction(() => document.querySelector("#status").textContent.startsWith("Ready"));
  }
  if (task.drops) await drop(page, task.drops, task.stop ?? false);
  for (const file of task.files ?? []) {
    await page.setInputFiles("#file", file);
    await page.waitForFunction(
      () => document.querySelector("#status").textContent.startsWith("Done") || !document.querySelector("#error").hidden,
    );
    result.first_ms ??= performance.now() - begun;
  }
  if (task.camera) {
    await page.keyboard.press("Tab");
    result.focused = await page.evaluate(() => document.activeElement.id);
    await page.keyboard.press("Enter");
    await page.waitForTimeout(task.camera * 1000);
    result.fps = await text("fps");
    result.objects = await text("objects");
    await page.screenshot({ path: join(folder, "camera.png"), fullPage: true });
    if (await page.locator("#stop").isEnabled()) await page.click("#stop");
  }
  result.error = (await page.locator("#error").isHidden()) ? "" : await text("error");
  result.status = await text("status");
  result.threads = await text("threads");
  if (await page.locator("#save").isEnabled()) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
    result.records = (await readFile(await download.path(), "utf8")).trim().split("\n").map((line) => JSON.parse(line));
  }
  await page.screenshot({ path: join(folder, "page.png"), fullPage: true });
  await writeFile(join(folder, "result.json"), JSON.stringify({ ...result, problems }));
} finally {
  await browser.close();
}
