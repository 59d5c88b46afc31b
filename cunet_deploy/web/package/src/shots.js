/**
 * Boundaries between shots; the counterpart of `cunet_deploy/tracking/shot_boundary.py`.
 */

/** @typedef {import("./pixels.js").Pixels} Pixels */

const GRID_SIDE = 24;
const MIN_CHANGE = 0.07;
const MIN_CHANGE_RATIO = 3;
const MIN_RECOLOURED_SHARE = 0.12;
const LEVELS = 24;
const CHANGE_MEMORY = 0.8;

export class ShotBoundaryDetector {
  constructor() {
    /** @type {{values: Float32Array, columns: number} | null} */
    this.last = null;
    /** @type {number | null} */
    this.usual = null;
  }

  /** Whether this frame begins another shot than the one before. @param {Pixels} image */
  update(image) {
    const small = thumbnail(image);
    const last = this.last;
    this.last = small;
    if (!last) return false;
    if (last.columns !== small.columns || last.values.length !== small.values.length) {
      this.usual = null;
      return true;
    }
    let change = 0;
    for (let index = 0; index < small.values.length; index++) change += Math.abs(small.values[index] - last.values[index]);
    change /= small.values.length;
    const usual = this.usual ?? change;
    this.usual = CHANGE_MEMORY * usual + (1 - CHANGE_MEMORY) * change;
    const least = Math.max(MIN_CHANGE, MIN_CHANGE_RATIO * usual);
    return change > least && recoloured(last.values, small.values) > MIN_RECOLOURED_SHARE;
  }
}

/** Grey levels of pixels on a grid, in [0, 1]. @param {Pixels} image */
function thumbnail({ data, width, height }) {
  const step = Math.max(1, Math.floor(Math.min(width, height) / GRID_SIDE));
  const values = [];
  let columns = 0;
  for (let y = Math.floor(step / 2); y < height; y += step) {
    columns = 0;
    for (let x = Math.floor(step / 2); x < width; x += step, columns++) {
      const place = (y * width + x) * 4;
      values.push((data[place] + data[place + 1] + data[place + 2]) / 765);
    }
  }
  return { values: Float32Array.from(values), columns };
}

/** @param {Float32Array} before @param {Float32Array} after */
function recoloured(before, after) {
  const counts = new Int32Array(LEVELS);
  const level = (/** @type {number} */ value) => Math.min(Math.floor(value * LEVELS), LEVELS - 1);
  for (const value of before) counts[level(value)]--;
  for (const value of after) counts[level(value)]++;
  return counts.reduce((sum, count) => sum + Math.abs(count), 0) / (2 * after.length);
}
