/**
 * From a box in an image to the network's input, and points back; the counterpart of `cunet_deploy/geometry.py`.
 *
 * Coordinates are pixels, x then y, and (0, 0) is the centre of the top-left pixel.
 */

/** @typedef {[number, number, number, number]} Box x0, y0, x1, y1 in pixels. */
/** @typedef {[number, number]} Point x, y in pixels. */

/**
 * A square of whole pixels of an image, sampled to the network's input.
 * @typedef {object} Crop
 * @property {number} x column of its centre
 * @property {number} y row of its centre
 * @property {number} side image pixels that it covers in each direction
 * @property {number} size side of the network's input in pixels
 */

const WEIGHT_STEPS = 128;
const ROUGHEST = 16;

/** @param {number} a @param {number} b @returns {number} */
function gcd(a, b) {
  return b ? gcd(b, a % b) : a;
}

/**
 * How often a square is halved before it is interpolated to a size that is at most twice smaller.
 * @param {number} side @param {number} size
 */
export function halvings(side, size) {
  let times = 0;
  while (side / size >= 2 ** (times + 1)) times++;
  return times;
}

/**
 * The crop of whole pixels next to a square.
 * @param {number} x middle of the square
 * @param {number} y middle of the square
 * @param {number} side of the square, in image pixels
 * @param {number} size side of the network's input
 * @param {boolean} cover whether the crop must not be smaller than the square
 * @returns {Crop}
 */
export function wholePixels(x, y, side, size, cover = false) {
  const block = 2 ** halvings(side, size);
  let unit = block * (size / gcd(size, WEIGHT_STEPS));
  if (unit * ROUGHEST > side) unit = block;
  const whole = Math.max(cover ? Math.ceil(side / unit) : Math.floor(side / unit + 0.5), 1) * unit;
  const half = (whole - 1) / 2;
  return { x: Math.floor(x - half + 0.5) + half, y: Math.floor(y - half + 0.5) + half, side: whole, size };
}

/**
 * The crop that shows all of an image, in the middle.
 * @param {number} width @param {number} height @param {number} size
 */
export function wholeImage(width, height, size) {
  return wholePixels((width - 1) / 2, (height - 1) / 2, Math.max(width, height), size, true);
}

/**
 * The crop of a tight box by a model's rule.
 * @param {Box} box @param {{size: number, padding: number}} rule
 * @returns {Crop}
 */
export function cropOf([x0, y0, x1, y1], { size, padding }) {
  if (![x0, y0, x1, y1].every(Number.isFinite) || x1 <= x0 || y1 <= y0) {
    throw new RangeError(`a box is x0 < x1, y0 < y1 in pixels, got [${[x0, y0, x1, y1].join(", ")}]`);
  }
  return wholePixels((x0 + x1) / 2, (y0 + y1) / 2, Math.max(x1 - x0, y1 - y0) * padding, size);
}

/**
 * A point of the network's input in the image.
 * @param {Crop} crop @param {number} x @param {number} y
 * @returns {Point}
 */
export function toImage(crop, x, y) {
  const scale = crop.side / crop.size;
  const middle = (crop.size - 1) / 2;
  return [(x - middle) * scale + crop.x, (y - middle) * scale + crop.y];
}

/** The tight box around points. @param {Point[]} points @returns {Box} */
export function landmarkBox(points) {
  /** @type {Box} */
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of points) {
    box[0] = Math.min(box[0], x);
    box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x);
    box[3] = Math.max(box[3], y);
  }
  return box;
}

/** @param {Box} box */
export function area([x0, y0, x1, y1]) {
  return (x1 - x0) * (y1 - y0);
}

/** @param {Box} a @param {Box} b */
function shared(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return width > 0 && height > 0 ? width * height : 0;
}

/** Intersection over union. @param {Box} a @param {Box} b */
export function boxIou(a, b) {
  const both = shared(a, b);
  return both / Math.max(area(a) + area(b) - both, 1e-12);
}

/** The share of the area of a box that lies in another. @param {Box} a @param {Box} b */
export function shareInside(a, b) {
  return shared(a, b) / Math.max(area(a), 1e-12);
}

/** The diagonal of the box around points. @param {Point[]} points */
export function diagonal(points) {
  const range = (/** @type {0 | 1} */ axis) => {
    const values = points.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  };
  return Math.hypot(range(0), range(1));
}
