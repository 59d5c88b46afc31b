/**
 * Image to network input, in integers, with the same pixels as `cunet_deploy/preprocess.py`.
 */

import { halvings } from "./geometry.js";

/** @typedef {import("./geometry.js").Crop} Crop */

/**
 * Pixels as a canvas gives them: RGBA bytes, row by row.
 * @typedef {object} Pixels
 * @property {Uint8ClampedArray | Uint8Array} data
 * @property {number} width
 * @property {number} height
 */

const BORDER = 128;

/**
 * Write a crop as the network reads it: BGR bytes, row by row.
 * @param {Pixels} image
 * @param {Crop} crop
 * @param {Uint8Array} out size * size * 3 bytes
 */
export function sample(image, crop, out) {
  const times = halvings(crop.side, crop.size);
  const left = Math.round(crop.x - (crop.side - 1) / 2);
  const top = Math.round(crop.y - (crop.side - 1) / 2);
  let side = crop.side;
  let piece = cut(image, left, top, side);
  for (let time = 0; time < times; time++) {
    piece = halve(piece, side, time % 2 === 1);
    side /= 2;
  }
  if (side === crop.size) {
    out.set(piece);
  } else if (((128 * side) / crop.size) % 1 === 0) {
    bilinear(piece, side, crop.size, out, roundHalfToEven);
  } else {
    bilinear(piece, side, crop.size, out, roundHalfUp);
  }
}

/**
 * A square of an image as BGR; grey where it lies outside.
 * @param {Pixels} image @param {number} left @param {number} top @param {number} side
 */
function cut({ data, width, height }, left, top, side) {
  const piece = new Uint8Array(side * side * 3);
  const from = Math.max(0, -left);
  const to = Math.min(side, width - left);
  if (from > 0 || to < side || top < 0 || top + side > height) piece.fill(BORDER);
  for (let row = Math.max(0, -top); row < Math.min(side, height - top); row++) {
    let source = ((row + top) * width + left + from) * 4;
    let target = (row * side + from) * 3;
    for (let column = from; column < to; column++, source += 4, target += 3) {
      piece[target] = data[source + 2];
      piece[target + 1] = data[source + 1];
      piece[target + 2] = data[source];
    }
  }
  return piece;
}

/**
 * Averages of blocks of 2 x 2 pixels, halves rounded up, or down every second time so that nothing becomes brighter.
 * @param {Uint8Array} piece @param {number} side @param {boolean} down
 */
function halve(piece, side, down) {
  const half = side / 2;
  const more = down ? 1 : 2;
  const out = new Uint8Array(half * half * 3);
  let target = 0;
  for (let row = 0; row < half; row++) {
    let a = 2 * row * side * 3;
    let b = a + side * 3;
    for (let column = 0; column < half; column++, a += 6, b += 6) {
      for (let channel = 0; channel < 3; channel++) {
        const sum = piece[a + channel] + piece[a + 3 + channel] + piece[b + channel] + piece[b + 3 + channel];
        out[target++] = (sum + more) >> 2;
      }
    }
  }
  return out;
}

/** @param {number} value in 1/65536 */
function roundHalfToEven(value) {
  const whole = value >> 16;
  const rest = value & 0xffff;
  return rest > 0x8000 || (rest === 0x8000 && whole & 1) ? whole + 1 : whole;
}

/** @param {number} value in 1/65536 */
function roundHalfUp(value) {
  return (value + 0x8000) >> 16;
}

/**
 * First pixel and weight, in 1/256, of the second one, for each place of the output.
 * @param {number} side @param {number} size
 */
function weights(side, size) {
  const first = new Int32Array(size);
  const second = new Int32Array(size);
  for (let index = 0; index < size; index++) {
    const place = ((index + 0.5) * side) / size - 0.5;
    const whole = Math.floor(place);
    if (whole < 0) continue; // the first pixel alone
    if (whole >= side - 1) {
      first[index] = side - 1;
    } else {
      first[index] = whole;
      second[index] = roundToEven((place - whole) * 256);
    }
  }
  return { first, second };
}

/** @param {number} value */
function roundToEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/**
 * @param {Uint8Array} piece @param {number} side @param {number} size @param {Uint8Array} out
 * @param {(value: number) => number} round
 */
function bilinear(piece, side, size, out, round) {
  const { first, second } = weights(side, size);
  const last = side - 1;
  let target = 0;
  for (let row = 0; row < size; row++) {
    const down = second[row];
    const above = first[row] * side * 3;
    const below = Math.min(first[row] + 1, last) * side * 3;
    for (let column = 0; column < size; column++) {
      const right = second[column];
      const a = first[column] * 3;
      const b = Math.min(first[column] + 1, last) * 3;
      for (let channel = 0; channel < 3; channel++) {
        const upper = piece[above + a + channel] * (256 - right) + piece[above + b + channel] * right;
        const lower = piece[below + a + channel] * (256 - right) + piece[below + b + channel] * right;
        out[target++] = round(upper * (256 - down) + lower * down);
      }
    }
  }
}
