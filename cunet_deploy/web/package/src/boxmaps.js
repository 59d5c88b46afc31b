/**
 * Boxes from the maps of a network that finds objects; the counterpart of `cunet_deploy/boxmaps.py`.
 */

import { boxIou } from "./geometry.js";
import { decode, mapToInput } from "./heatmaps.js";

/** @typedef {import("./geometry.js").Box} Box */

/**
 * How boxes are read from maps, as the manifest states it.
 * @typedef {object} BoxCode
 * @property {number} smallest @property {number} octaves @property {number} overlap
 * @property {number} tight_down @property {number} tight_width @property {number} tight_height
 */

/** @typedef {{box: Box, score: number}} Detection */

const MAX_BOXES = 300;

/**
 * Boxes in the maps of one image, best first, in pixels of the network's input.
 * @param {Float32Array} maps
 * @param {number} offset where the image's three maps begin
 * @param {number} size side of a map in cells
 * @param {number} stride input pixels per cell
 * @param {BoxCode} code
 * @param {number} minScore
 * @returns {Detection[]}
 */
export function decodeBoxes(maps, offset, size, stride, code, minScore) {
  const center = maps.subarray(offset, offset + size * size);
  const least = Math.max(minScore, 1e-6);
  const peaks = [];
  for (let index = 0; index < center.length; index++) {
    if (center[index] >= least && isPeak(center, index, size)) peaks.push(index);
  }
  // the order of equal ones is that of a stable sort, reversed
  peaks.sort((a, b) => center[b] - center[a] || b - a);
  const found = peaks.slice(0, MAX_BOXES).map((index) => ({
    box: boxAt(maps, offset, index, size, stride, code),
    score: Math.min(center[index], 1),
  }));
  return distinct(found, code.overlap);
}

/**
 * Those that overlap no better one by more than a share.
 * @param {Detection[]} found best first
 * @param {number} overlap
 */
export function distinct(found, overlap) {
  /** @type {Detection[]} */
  const kept = [];
  for (const one of found) if (!kept.some((other) => boxIou(one.box, other.box) > overlap)) kept.push(one);
  return kept;
}

/**
 * The box that crops are made from, around the landmarks.
 * @param {Box} box @param {BoxCode} code
 * @returns {Box}
 */
export function tight([x0, y0, x1, y1], code) {
  const width = x1 - x0;
  const height = y1 - y0;
  const x = (x0 + x1) / 2;
  const y = (y0 + y1) / 2 + height * code.tight_down;
  const [w, h] = [(width * code.tight_width) / 2, (height * code.tight_height) / 2];
  return [x - w, y - h, x + w, y + h];
}

/** @param {Float32Array} map @param {number} index @param {number} size */
function isPeak(map, index, size) {
  const column = index % size;
  const row = (index - column) / size;
  for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, size - 1); y++) {
    for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, size - 1); x++) {
      if (map[y * size + x] > map[index]) return false;
    }
  }
  return true;
}

/**
 * @param {Float32Array} maps @param {number} offset @param {number} index @param {number} size @param {number} stride
 * @param {BoxCode} code
 * @returns {Box}
 */
function boxAt(maps, offset, index, size, stride, code) {
  const column = index % size;
  const row = (index - column) / size;
  const window = new Float32Array(9);
  const sums = [0, 0, 0];
  for (let y = 0; y < 3; y++) {
    for (let x = 0; x < 3; x++) {
      const inside = column + x >= 1 && column + x <= size && row + y >= 1 && row + y <= size;
      const cell = offset + (row + y - 1) * size + column + x - 1;
      window[3 * y + x] = inside ? maps[cell] : 0;
      const weight = Math.max(window[3 * y + x], 1e-6);
      sums[0] += weight;
      sums[1] += inside ? weight * maps[cell + size * size] : 0;
      sums[2] += inside ? weight * maps[cell + 2 * size * size] : 0;
    }
  }
  const place = decode(window, 0, 3, { radius: 1 });
  const [x, y] = [mapToInput(place.x - 1 + column, stride), mapToInput(place.y - 1 + row, stride)];
  const [w, h] = [1, 2].map((map) => (code.smallest * 2 ** (code.octaves * (sums[map] / sums[0]))) / 2);
  return [x - w, y - h, x + w, y + h];
}
