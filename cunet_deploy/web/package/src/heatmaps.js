/**
 * Landmarks from heatmaps; the counterpart of `cunet_deploy/heatmaps.py`.
 */

/** @typedef {{radius: number, blur?: number}} Decoder */

/** Map coordinate to network input coordinate. @param {number} cell @param {number} stride */
export function mapToInput(cell, stride) {
  return (cell + 0.5) * stride - 0.5;
}

/**
 * The landmark of one map: the highest cell, moved to the top of the Gaussian around it.
 * @param {Float32Array} maps
 * @param {number} offset where the map begins
 * @param {number} size side of the map in cells
 * @param {Decoder} decoder
 * @returns {{x: number, y: number, score: number}} map coordinates, and the highest value in [0, 1]
 */
export function decode(maps, offset, size, { radius, blur = 0 }) {
  let map = maps.subarray(offset, offset + size * size);
  let highest = argmax(map);
  const score = Math.min(Math.max(map[highest], 0), 1);
  if (blur) {
    map = blurred(map, size, blur);
    highest = argmax(map);
  }
  if (score <= 0) return { x: (size - 1) / 2, y: (size - 1) / 2, score };
  const column = highest % size;
  const row = (highest - column) / size;
  const left = Math.min(Math.max(column, radius), size - 1 - radius) - radius;
  const top = Math.min(Math.max(row, radius), size - 1 - radius) - radius;
  const reach = 2 * radius + 1;
  const columns = new Float32Array(reach);
  const rows = new Float32Array(reach);
  for (let y = 0; y < reach; y++) {
    for (let x = 0; x < reach; x++) {
      const value = Math.max(map[(top + y) * size + left + x], 0);
      columns[x] += value;
      rows[y] += value;
    }
  }
  return { x: refine(columns, column, left, radius), y: refine(rows, row, top, radius), score };
}

/** @param {Float32Array} values */
function argmax(values) {
  let best = 0;
  for (let index = 1; index < values.length; index++) if (values[index] > values[best]) best = index;
  return best;
}

/**
 * @param {Float32Array} profile sums over the window's rows or columns
 * @param {number} peak the highest cell
 * @param {number} start the window's first cell
 * @param {number} radius
 */
function refine(profile, peak, start, radius) {
  const middle = Math.min(Math.max(peak - start, 1), 2 * radius - 1);
  const found = start + middle + topOfLogParabola(profile, middle);
  return Math.min(Math.max(found, peak - 0.5), peak + 0.5);
}

/** @param {Float32Array} profile @param {number} middle */
function topOfLogParabola(profile, middle) {
  const values = [profile[middle - 1], profile[middle], profile[middle + 1]];
  const floor = Math.max(Math.max(...values) * 0.01, 1e-12);
  const [left, top, right] = values.map((value) => Math.log(Math.max(value, floor)));
  const curvature = 2 * top - left - right;
  if (curvature > 1e-6) return (right - left) / (2 * curvature);
  return values.indexOf(Math.max(...values)) - 1;
}

/** @param {Float32Array} map @param {number} size @param {number} blur */
function blurred(map, size, blur) {
  const reach = 8 * Math.ceil(blur);
  const kernel = Float64Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * blur ** 2)));
  const sum = kernel.reduce((total, value) => total + value, 0);
  const pass = (/** @type {Float32Array} */ source, /** @type {number} */ along, /** @type {number} */ across) => {
    const out = new Float32Array(size * size);
    for (let line = 0; line < size; line++) {
      for (let place = 0; place < size; place++) {
        let total = 0;
        for (let other = Math.max(0, place - reach); other <= Math.min(size - 1, place + reach); other++) {
          total += Math.max(source[line * across + other * along], 0) * kernel[other - place + reach];
        }
        out[line * across + place * along] = total / sum;
      }
    }
    return out;
  };
  return pass(pass(map, 1, size), size, 1);
}
