/**
 * Networks on the execution providers of onnxruntime-web in a browser: `node web_providers.mjs FOLDER`, as web.py calls it.
 *
 * FOLDER/task.json names the page, the browser and the jobs; FOLDER/result.json says what each provider runs on, how many
 * heatmap values of the golden inputs differ there, and for one crop, in turns over all jobs of a model, the wall times and
 * the CPU time of all processes of the browser.
 */

import { readFile, readdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const folder = process.argv[2];
const require = createRequire(join(folder, "package.json"));
const { chromium } = require("playwright-core");
const task = JSON.parse(await readFile(join(folder, "task.json"), "utf8"));
const MS_PER_TICK = 10;

const server = await chromium.launchServer({
  executablePath: task.chromium,
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", ...task.flags],
});
const browser = await chromium.connect(server.wsEndpoint());

/** CPU time of a process and all that came from it. @param {number} root */
async function cpuMs(root) {
  const parents = new Map();
  const ticks = new Map();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, "utf8").catch(() => "");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    parents.set(Number(name), Number(fields[1]));
    ticks.set(Number(name), Number(fields[11]) + Number(fields[12]));
  }
  let sum = 0;
  for (const [pid, used] of ticks) {
    let above = pid;
    while (above && above !== root) above = parents.get(above) ?? 0;
    if (above === root) sum += used;
  }
  return sum * MS_PER_TICK;
}

/** What WebGPU and WebNN run on here, or why they do not. */
async function describe() {
  const adapter = await navigator.gpu?.requestAdapter();
  const { vendor, architecture, isFallbackAdapter } = adapter?.info ?? {};
  const gpu = adapter ? `${vendor} ${architecture}${isFallbackAdapter ? ", in software" : ""}` : "no adapter";
  const context = await navigator.ml?.createContext({ deviceType: "cpu" }).catch(String);
  return { webgpu: gpu, webnn: context === undefined ? "no navigator.ml" : typeof context === "string" ? context : "cpu" };
}

/** Open all jobs of one model and compare their heatmaps. */
async function open(jobs) {
  const base = new URL("node_modules/onnxruntime-web/dist/", document.baseURI).href;
  const load = async (name) => {
    const ort = await import(base + name);
    Object.assign(ort.env.wasm, { wasmPaths: base, numThreads: 1 });
    return ort;
  };
  const [plain, full] = [await load("ort.wasm.min.mjs"), await load("ort.webgpu.min.mjs")];
  const content = async (name) => (await fetch(encodeURIComponent(name))).arrayBuffer();
  const cases = [];
  for (const { name, provider, size, level } of jobs) {
    const one = { name, provider, ms: [], cpu_ms: 0 };
    cases.push(one);
    try {
      const ort = provider === "wasm" ? plain : full;
      const session = await ort.InferenceSession.create(new Uint8Array(await content(`${name}.onnx`)), {
        executionProviders: [provider === "webnn" ? { name: provider, deviceType: "cpu" } : provider],
        graphOptimizationLevel: level,
        freeDimensionOverrides: { batch: 1 }, // WebNN takes no other graphs
        logSeverityLevel: 3,
      });
      const images = new Uint8Array(await content(`${name}.images`));
      const expected = new Float32Array(await content(`${name}.heatmaps`));
      const bytes = size * size * 3;
      one.run = async (/** @type {number} */ index) => {
        const image = new ort.Tensor("uint8", images.slice(index * bytes, (index + 1) * bytes), [1, size, size, 3]);
        return (await session.run({ image }, ["heatmaps"])).heatmaps.data;
      };
      Object.assign(one, { differing: 0, largest: 0 });
      for (let index = 0, start = 0; start < expected.length; index++) {
        for (const value of await one.run(index)) {
          const off = Math.abs(value - expected[start++]);
          one.differing += off > 0;
          one.largest = Math.max(one.largest, off);
        }
      }
    } catch (error) {
      one.error = String(error);
    }
  }
  Object.assign(globalThis, { cases });
  return cases.map(({ run: _, ...rest }) => rest);
}

/** Run one crop some times, or until a time is over; its wall times. */
async function repeat({ index, calls, limitMs }) {
  const times = [];
  const begun = performance.now();
  while (times.length < calls && performance.now() < begun + limitMs) {
    const start = performance.now();
    await globalThis.cases[index].run(0);
    times.push(performance.now() - start);
  }
  return times;
}

try {
  const page = await (await browser.newContext()).newPage();
  await page.goto(task.url);
  const result = { browser: browser.version(), devices: await page.evaluate(describe), cases: [] };
  for (const jobs of task.models) {
    const cases = await page.evaluate(open, jobs);
    for (let turn = 0; turn <= task.turns; turn++) {
      for (const [index, one] of cases.entries()) {
        if (one.error) continue;
        const begun = await cpuMs(server.process().pid);
        const times = await page.evaluate(repeat, { index, calls: task.calls, limitMs: task.limit_ms });
        if (!turn) continue; // the engine compiles what runs often once more
        one.ms.push(...times);
        one.cpu_ms += (await cpuMs(server.process().pid)) - begun;
      }
    }
    result.cases.push(...cases);
  }
  await writeFile(join(folder, "result.json"), JSON.stringify(result));
} finally {
  await browser.close();
  await server.close();
}
