/**
 * Where to look: a network that finds boxes, confirmed by landmarks where it is not confident itself. The counterpart of
 * `cunet_deploy/detection/network.py` and `confirmation.py`.
 */

import { decodeBoxes, distinct, tight } from "./boxmaps.js";
import { boxIou, landmarkBox, shareInside, toImage, wholeImage, wholePixels } from "./geometry.js";
import { meanHeight } from "./network.js";

/** @typedef {import("./boxmaps.js").Detection} Detection */
/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {import("./geometry.js").Crop} Crop */
/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./network.js").Network} Network */
/** @typedef {import("./pixels.js").Pixels} Pixels */

const TILE_SIDE = 0.6;
const MAX_SIDE_IN_TILE = 0.5;
const SMALL_SIDE_PX = 32;
const MAX_FOLLOWED_TILES = 2;
const CONFIDENT_SHARE = 0.5;
const HYSTERESIS_RATIO = 0.5;
const MIN_OVERLAP = 0.3;
const PART_MIN_OVERLAP = 0.7;
const SURE_RATIO = 0.5;
const VIEW_OFFSETS = [
  [0, 0, 1],
  [0.06, -0.06, 0.88],
  [-0.06, 0.06, 1.15],
];

/** A detection that overlaps a followed box by this much is that object. */
export const SAME_OBJECT_IOU = 0.3;

export class Detector {
  /** @param {Network} network */
  constructor(network) {
    if (!network.manifest.boxes) {
      throw new Error(`${network.manifest.name} finds landmarks, not boxes; give it as model, beside a detector`);
    }
    this.network = network;
    this.code = network.manifest.boxes;
    /** Frames between looks while objects are followed, and while something is missing. */
    this.every = 15;
    this.retry = 2;
  }

  /** From which score a box is believed before landmarks confirm it. */
  get confidentScore() {
    const least = this.network.manifest.min_score;
    return least + CONFIDENT_SHARE * (1 - least);
  }

  /**
   * Tight boxes, best first.
   * @param {Pixels} image
   * @param {number} index of the frame in its video
   * @param {Box[] | null} known boxes of what is followed; `null` for single images
   * @returns {Promise<Detection[]>}
   */
  async detect(image, index = 0, known = null) {
    const { size } = this.network.manifest.crop;
    const whole = wholeImage(image.width, image.height, size);
    let tiles = whole.side > size ? tilesOf(image.width, image.height, size) : [];
    const followed = known?.length ? known : null;
    if (known && tiles.length) {
      const scale = size / whole.side;
      const turn = turnOf(Math.floor(index / (followed ? this.every : this.retry)), tiles.length);
      const small = known.filter((box) => Math.max(box[2] - box[0], box[3] - box[1]) * scale < SMALL_SIDE_PX);
      const chosen = new Set([turn, ...small.slice(0, MAX_FOLLOWED_TILES).map((box) => nearest(box, tiles))]);
      tiles = tiles.filter((_, place) => chosen.has(place));
    }
    const least = this.network.manifest.min_score;
    const found = await this.#look(image, [whole, ...tiles], (followed ? HYSTERESIS_RATIO : 1) * least);
    return found
      .map(({ box, score }) => ({ box: tight(box, this.code), score }))
      .filter(({ box, score }) => score >= least || followed?.some((other) => boxIou(box, other) >= MIN_OVERLAP));
  }

  /** @param {Pixels} image @param {Crop[]} crops @param {number} minScore */
  async #look(image, crops, minScore) {
    const { stride } = this.network.manifest;
    const size = this.network.mapSize;
    const maps = await this.network.runCrops(image, crops);
    /** @type {Detection[]} */
    const all = [];
    crops.forEach((crop, place) => {
      let found = decodeBoxes(maps, place * 3 * size * size, size, stride, this.code, minScore);
      if (place > 0) {
        found = found.filter(
          ({ box }) =>
            Math.max(box[2] - box[0], box[3] - box[1]) < MAX_SIDE_IN_TILE * crop.size &&
            box.every((value) => value > 1 && value < crop.size - 2),
        );
      }
      for (const { box, score } of found) {
        all.push({ box: /** @type {Box} */ ([...toImage(crop, box[0], box[1]), ...toImage(crop, box[2], box[3])]), score });
      }
    });
    all.sort((a, b) => b.score - a.score);
    return crops.length > 1 ? distinct(all, this.code.overlap) : all;
  }
}

/**
 * Which of some tiles is searched in a look: all in every block of looks, in a shifted order.
 *
 * Without the shift, a random number of the block, frames at regular distances, such as every fourth while a camera
 * drops frames, would be searched in one tile alone.
 * @param {number} look @param {number} count
 */
export function turnOf(look, count) {
  let block = Math.floor(look / count);
  for (const factor of [0x7feb352d, 0x846ca68b]) block = Math.imul(block ^ (block >>> 16), factor) >>> 0;
  return (look + ((block ^ (block >>> 16)) >>> 0)) % count;
}

/** @typedef {{box: Box, sure: boolean}} Found a box to localize in, and whether the detector is confident of it */

/** Mean landmark score from which something new is believed. @param {number} minScore @param {boolean} sure */
export const leastScore = (minScore, sure) => (sure ? SURE_RATIO : 1) * minScore;

/**
 * Boxes of objects; landmarks have to confirm new ones that the detector is not confident of.
 * @param {Detector} detector @param {Network} network @param {Pixels} image @param {number} index
 * @param {Box[] | null} known boxes of what is followed; `null` for single images
 * @returns {Promise<Found[]>}
 */
export async function detectConfirmed(detector, network, image, index = 0, known = null) {
  const detections = await detector.detect(image, index, known);
  const followed = known ?? [];
  /** @type {Found[]} */
  const found = [];
  const seen = new Set();
  for (const { box, score } of detections) {
    const sure = score >= detector.confidentScore;
    if (sure || followed.some((other) => boxIou(box, other) >= SAME_OBJECT_IOU)) {
      found.push({ box, sure });
      continue;
    }
    const owners = followed.flatMap((other, place) => (shareInside(box, other) >= PART_MIN_OVERLAP ? [place] : []));
    owners.forEach((place) => seen.add(place));
    if (!owners.length && (await confirmed(network, image, box))) found.push({ box, sure });
  }
  const again = followed.filter((_, place) => seen.has(place));
  return [...found, ...again.map((box) => ({ box, sure: false }))];
}

/**
 * Whether landmarks spread about as much as the box that they were looked for in.
 * @param {Point[]} points @param {Box} box
 */
export function plausible(points, box) {
  const [x0, y0, x1, y1] = landmarkBox(points);
  const [longer, shorter] = [Math.max(x1 - x0, y1 - y0), Math.min(x1 - x0, y1 - y0)];
  return longer > 0.25 * Math.max(box[2] - box[0], box[3] - box[1]) && shorter > 0.2 * longer;
}

/** @param {Network} network @param {Pixels} image @param {Box} box */
async function confirmed(network, image, box) {
  const [first] = await network.locate(image, [box]);
  if (!plausible(first.points, box)) return false;
  const views = await network.locate(image, viewsOf(landmarkBox(first.points)));
  return Math.min(...views.map(meanHeight)) >= network.minScore;
}

/** Boxes around and beside a box, to look at what is in it again. @param {Box} box @returns {Box[]} */
function viewsOf([x0, y0, x1, y1]) {
  const longer = Math.max(x1 - x0, y1 - y0);
  return VIEW_OFFSETS.map(([right, down, scale]) => {
    const [x, y] = [(x0 + x1) / 2 + right * longer, (y0 + y1) / 2 + down * longer];
    const [w, h] = [(scale * (x1 - x0)) / 2, (scale * (y1 - y0)) / 2];
    return [x - w, y - h, x + w, y + h];
  });
}

/** @param {number} width @param {number} height @param {number} size */
function tilesOf(width, height, size) {
  const side = TILE_SIDE * Math.max(width, height);
  const places = (/** @type {number} */ length) => [
    ...new Set([Math.min(side, length) / 2, length - Math.min(side, length) / 2].sort((a, b) => a - b)),
  ];
  return places(height).flatMap((y) => places(width).map((x) => wholePixels(x - 0.5, y - 0.5, side, size)));
}

/** @param {Box} box @param {Crop[]} tiles */
function nearest([x0, y0, x1, y1], tiles) {
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const far = tiles.map((tile) => Math.max(Math.abs(x - tile.x), Math.abs(y - tile.y)));
  return far.indexOf(Math.min(...far));
}
