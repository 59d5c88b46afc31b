/**
 * Runs the browser package in Node on files that the Python test wrote: `node run.mjs FOLDER`.
 *
 * FOLDER/task.json says what to do; FOLDER/result.json is the answer. The package and onnxruntime-web are found in
 * FOLDER/node_modules.
 */

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const require = createRequire(join(folder, "package.json"));
const ort = await import(pathToFileURL(require.resolve("onnxruntime-web")));
const { Detector, Localizer, Network, Smoother, jsonLines, sample } = await import(pathToFileURL(require.resolve("cunet-deploy-web")));
ort.env.wasm.numThreads = 1;

const bytes = async (name) => new Uint8Array(await readFile(join(folder, name)));
const bundle = async (path) => ({
  model: await readFile(join(path, "model.onnx")),
  manifest: JSON.parse(await readFile(join(path, "manifest.json"), "utf8")),
});
const pixels = async ({ file, width, height }) => ({ data: await bytes(file), width, height });

const tasks = {
  /** Heatmap values that differ from those of the golden inputs. */
  async golden({ model, images, heatmaps, count, options }) {
    const network = await Network.open(ort, await bundle(model), options);
    const expected = new Float32Array((await bytes(heatmaps)).buffer);
    const found = await network.run(await bytes(images), count);
    let differing = found.length === expected.length ? 0 : Infinity;
    for (let index = 0; index < expected.length; index++) differing += found[index] !== expected[index];
    return { differing, values: expected.length };
  },

  /** Crops as bytes, one behind the other. */
  async crops({ image, crops, out }) {
    const source = await pixels(image);
    const parts = crops.map((crop) => {
      const target = new Uint8Array(crop.size ** 2 * 3);
      sample(source, crop, target);
      return target;
    });
    await writeFile(join(folder, out), Buffer.concat(parts));
    return {};
  },

  /** One object in frames that follow each other, steady. */
  async smooth({ skeleton, frames }) {
    const smoother = new Smoother(skeleton);
    return { results: frames.map(({ points, scores, time_ms }) => smoother.update(0, { points, scores }, time_ms)) };
  },

  /** Tiles that are searched, look by look. */
  async turns({ looks, count }) {
    const { turnOf } = await import(new URL("./detector.js", pathToFileURL(require.resolve("cunet-deploy-web"))));
    return { turns: looks.map((look) => turnOf(look, count)) };
  },

  /** The lines of frames. */
  async lines({ frames }) {
    return { lines: frames.flatMap(({ found, skeleton, of }) => jsonLines(found, skeleton, of)) };
  },

  /** From which score a followed object is kept, by that from which one is found. */
  async thresholds({ model, min_scores }) {
    const network = await Network.open(ort, await bundle(model));
    return { keep_scores: min_scores.map((least) => Object.assign(network, { minScore: least }).keepScore) };
  },

  /** What is found in an image, or in frames that follow each other. */
  async localize({ model, detector, frames, video }) {
    const boxDetector = new Detector(await Network.open(ort, await bundle(detector)));
    const localizer = new Localizer(await Network.open(ort, await bundle(model)), boxDetector);
    const step = video ? localizer.video() : null;
    const results = [];
    for (const [index, frame] of frames.entries()) {
      const image = await pixels(frame);
      localizer.minScore = frame.min_score ?? localizer.minScore;
      results.push(await (step ? step.update(image, frame.time_ms, index) : localizer.predict(image, frame.boxes)));
    }
    return { results };
  },
};

const task = JSON.parse(await readFile(join(folder, "task.json"), "utf8"));
await writeFile(join(folder, "result.json"), JSON.stringify(await tasks[task.kind](task)));
