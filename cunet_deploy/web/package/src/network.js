/**
 * A network of a bundle, opened in onnxruntime-web: crops in, heatmaps out.
 */

import { cropOf, toImage } from "./geometry.js";
import { decode, mapToInput } from "./heatmaps.js";
import { sample } from "./pixels.js";

/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {import("./geometry.js").Crop} Crop */
/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./pixels.js").Pixels} Pixels */

/**
 * What this package reads of `manifest.json`.
 * @typedef {object} Manifest
 * @property {number} format
 * @property {string} name
 * @property {{size: number, padding: number}} crop
 * @property {number} stride
 * @property {import("./heatmaps.js").Decoder} decoder
 * @property {number} min_score
 * @property {number} [keep_score]
 * @property {ScoreCurve} [score_curve]
 * @property {string} licence
 * @property {Skeleton} skeleton
 * @property {import("./boxmaps.js").BoxCode} [boxes]
 */

/**
 * @typedef {object} Skeleton
 * @property {string} name
 * @property {string[]} landmarks
 * @property {[number, number][]} edges
 * @property {[number, number][]} flip_pairs indices of left and right landmarks
 * @property {Record<string, unknown>} normalizers
 */

/** @typedef {{heights: number[], shares: number[]}} ScoreCurve */
/** @typedef {{points: Point[], heights: number[], box: Box}} Located landmarks with the heights of their peaks */
/** @typedef {Record<string, any> & {freeDimensionOverrides?: {batch?: number}}} SessionOptions */

const FORMAT = 1;

export class Network {
  /**
   * @param {any} ort the module onnxruntime-web
   * @param {any} session an open InferenceSession
   * @param {Manifest} manifest
   * @param {boolean} [single] it takes one crop at a time
   */
  constructor(ort, session, manifest, single = false) {
    this.ort = ort;
    this.session = session;
    this.manifest = manifest;
    this.single = single;
    /** As in the manifest, half of it where the detector is confident; it can be changed at any time. */
    this.minScore = manifest.min_score;
    /** Milliseconds that the network took when it last ran. */
    this.lastMs = 0;
  }

  /**
   * @param {any} ort the module onnxruntime-web
   * @param {string | {model: ArrayBuffer | Uint8Array, manifest: Manifest}} bundle URL of its folder, or its content
   * @param {SessionOptions} [options] of the runtime's session, such as its execution providers
   */
  static async open(ort, bundle, options = {}) {
    const { model, manifest } = await loadBundle(bundle);
    if (manifest.format > FORMAT) {
      throw new Error(`the manifest of ${manifest.name} has format ${manifest.format}; update cunet-deploy-web`);
    }
    const all = { executionProviders: ["wasm"], ...options };
    const session = await ort.InferenceSession.create(new Uint8Array(model), all);
    return new Network(ort, session, manifest, options.freeDimensionOverrides?.batch === 1);
  }

  /** The same for an object that was found in the frame before: as large a share of it as in the manifest. */
  get keepScore() {
    const { min_score: least, keep_score: keep = least } = this.manifest;
    return least > 0 ? this.minScore * (keep / least) : this.minScore;
  }

  /** Side of the heatmaps in cells. */
  get mapSize() {
    return Math.floor(this.manifest.crop.size / this.manifest.stride);
  }

  /**
   * Heatmaps of crops that are already bytes: (B, size, size, 3) BGR to (B, K, H, W).
   * @param {Uint8Array} images @param {number} count
   * @returns {Promise<Float32Array>}
   */
  async run(images, count) {
    const { size } = this.manifest.crop;
    const begun = performance.now();
    const parts = [];
    const batch = this.single ? 1 : count;
    for (let start = 0; start < count; start += batch) {
      const bytes = images.subarray(start * size ** 2 * 3, (start + batch) * size ** 2 * 3);
      const input = new this.ort.Tensor("uint8", bytes, [batch, size, size, 3]);
      parts.push((await this.session.run({ image: input }, ["heatmaps"])).heatmaps.data);
    }
    this.lastMs = performance.now() - begun;
    return parts.length === 1 ? parts[0] : joined(parts);
  }

  /** Heatmaps of crops of an image. @param {Pixels} image @param {Crop[]} crops */
  async runCrops(image, crops) {
    const bytes = this.manifest.crop.size ** 2 * 3;
    const images = new Uint8Array(crops.length * bytes);
    crops.forEach((crop, index) => sample(image, crop, images.subarray(index * bytes, (index + 1) * bytes)));
    return this.run(images, crops.length);
  }

  /**
   * The landmarks of the object in each tight box, in pixels of the image.
   * @param {Pixels} image @param {Box[]} boxes
   * @returns {Promise<Located[]>}
   */
  async locate(image, boxes) {
    if (!boxes.length) return [];
    const { crop: rule, decoder, stride, skeleton } = this.manifest;
    const crops = boxes.map((box) => cropOf(box, rule));
    const maps = await this.runCrops(image, crops);
    const size = this.mapSize;
    const count = skeleton.landmarks.length;
    return crops.map((crop, index) => {
      /** @type {Located} */
      const located = { points: [], heights: [], box: boxes[index] };
      for (let landmark = 0; landmark < count; landmark++) {
        const { x, y, score } = decode(maps, (index * count + landmark) * size * size, size, decoder);
        located.points.push(toImage(crop, mapToInput(x, stride), mapToInput(y, stride)));
        located.heights.push(score);
      }
      return located;
    });
  }
}

/**
 * The content of a bundle. Networks open one after the other, but their files can be fetched at once.
 * @param {string | {model: ArrayBuffer | Uint8Array, manifest: Manifest}} bundle URL of its folder, or its content
 */
export async function loadBundle(bundle) {
  if (typeof bundle !== "string") return bundle;
  const folder = bundle.endsWith("/") ? bundle : `${bundle}/`;
  const [model, manifest] = await Promise.all(["model.onnx", "manifest.json"].map((name) => fetch(folder + name)));
  for (const response of [model, manifest]) {
    if (!response.ok) throw new Error(`${response.url} cannot be loaded (${response.status} ${response.statusText})`);
  }
  return { model: await model.arrayBuffer(), manifest: /** @type {Manifest} */ (await manifest.json()) };
}

/** One array of several. @param {Float32Array[]} parts */
function joined(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let start = 0;
  for (const part of parts) {
    whole.set(part, start);
    start += part.length;
  }
  return whole;
}

/** Mean height of the landmarks' peaks, which thresholds apply to. @param {{heights: number[]}} located */
export function meanHeight({ heights }) {
  return mean(heights);
}

/** @param {number[]} values */
export function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * Heights of peaks as the scores that people see: by the manifest's curve, linear between its knots, or as they are.
 * @param {number[]} heights
 * @param {ScoreCurve} [curve]
 */
export function scoresOf(heights, curve) {
  if (!curve) return heights;
  const { heights: knots, shares } = curve;
  const last = knots.length - 1;
  return heights.map((height) => {
    if (height <= knots[0]) return shares[0];
    if (height >= knots[last]) return shares[last];
    const above = knots.findIndex((knot) => knot > height);
    const slope = (shares[above] - shares[above - 1]) / (knots[above] - knots[above - 1]);
    return shares[above - 1] + slope * (height - knots[above - 1]);
  });
}
