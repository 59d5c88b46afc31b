/**
 * CPU time of networks in onnxruntime-web, and of the package's own code: `node web.mjs FOLDER`, as web.py calls it.
 *
 * CPU time, not the clock: other processes on the machine change it little, and one thread runs.
 */

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const require = createRequire(join(folder, "package.json"));
const ort = await import(pathToFileURL(require.resolve("onnxruntime-web")));
const { Localizer, Network, sample } = await import(pathToFileURL(require.resolve("cunet-deploy-web")));
const { decode } = await import(pathToFileURL(join(folder, "node_modules", "cunet-deploy-web", "src", "heatmaps.js")));
ort.env.wasm.numThreads = 1;
const WARM_UP = 30;

const { jobs, crops, videos, turns, calls } = JSON.parse(await readFile(join(folder, "task.json"), "utf8"));
const bytes = async (name) => new Uint8Array(await readFile(join(folder, name)));

async function cpuMs(work) {
  const begun = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(begun);
  return (user + system) / 1000;
}

const networks = [];
for (const { name, size, level } of jobs) {
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: level, logSeverityLevel: 3 };
  const session = await ort.InferenceSession.create(await bytes(`${name}.onnx`), options);
  const image = new ort.Tensor("uint8", (await bytes(`${name}.images`)).slice(0, size * size * 3), [1, size, size, 3]);
  const expected = new Float32Array((await bytes(`${name}.heatmaps`)).buffer);
  const run = async () => (await session.run({ image }, ["heatmaps"])).heatmaps.data;
  const found = await run();
  for (let call = 0; call < WARM_UP; call++) await run(); // the engine compiles what runs often once more
  let differing = 0;
  for (let index = 0; index < found.length; index++) differing += found[index] !== expected[index];
  networks.push({ name, run, differing, ms: [] });
}
for (let turn = 0; turn < turns; turn++) {
  for (const { run, ms } of networks) {
    for (let call = 0; call < calls; call++) ms.push(await cpuMs(run));
  }
}

const bundle = async (path) => ({
  model: await readFile(join(path, "model.onnx")),
  manifest: JSON.parse(await readFile(join(path, "manifest.json"), "utf8")),
});

const stages = [];
for (const { name, model, width, height, crop } of crops) {
  const network = await Network.open(ort, await bundle(model));
  const { manifest } = network;
  const image = { data: await bytes("frame"), width, height };
  const target = new Uint8Array(crop.size ** 2 * 3);
  sample(image, crop, target);
  const maps = await network.run(target, 1);
  const side = network.mapSize;
  const decoded = () => {
    for (let start = 0; start < maps.length; start += side * side) decode(maps, start, side, manifest.decoder);
  };
  const row = { name, crop: [], decode: [] };
  for (let call = 0; call < 10 * WARM_UP; call++) (sample(image, crop, target), decoded());
  for (let turn = 0; turn < turns * calls; turn++) {
    row.crop.push(await cpuMs(() => sample(image, crop, target)));
    row.decode.push(await cpuMs(decoded));
  }
  stages.push(row);
}

const frames = [];
for (const { name, model, detector, width, height, count } of videos) {
  const localizer = await Localizer.open(ort, { model: await bundle(model), detector: await bundle(detector) });
  const data = await bytes("clip");
  const size = width * height * 4;
  const row = { name, ms: [] };
  for (let turn = 0; turn < calls; turn++) {
    const step = localizer.video();
    for (let index = 0; index < count; index++) {
      const image = { data: data.subarray(index * size, (index + 1) * size), width, height };
      const ms = await cpuMs(() => step.update(image, 33 * index, index));
      if (turn) row.ms.push(ms); // the first turn warms up
    }
  }
  frames.push(row);
}
const result = { networks: networks.map(({ name, differing, ms }) => ({ name, differing, ms })), stages, frames };
await writeFile(join(folder, "result.json"), JSON.stringify({ ...result, node: process.version }));
