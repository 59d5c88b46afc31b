/**
 * Steady landmarks: the One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) for each object; the counterpart of
 * `cunet_deploy/tracking/one_euro.py`.
 */

/** @typedef {import("./geometry.js").Point} Point */

/**
 * How strong the filter is.
 * @typedef {object} Smoothing
 * @property {number} minCutoff cutoff in Hz of what stands still; lower is steadier
 * @property {number} beta by how many Hz it rises where a landmark moves by one size of its object a second
 */

/** @type {Smoothing} */
export const DEFAULT_SMOOTHING = { minCutoff: 1, beta: 15 };

const SPEED_CUTOFF = 4;
const GAP_MS = 500;
const STEP_MS = 1000 / 30;

export class OneEuro {
  /** @param {Smoothing} smoothing */
  constructor(smoothing = DEFAULT_SMOOTHING) {
    this.smoothing = smoothing;
    /** @type {Point[] | null} */
    this.value = null;
    /** @type {Point[]} */
    this.last = [];
    /** @type {Point[]} */
    this.velocity = [];
    this.timeMs = 0;
  }

  /** Take a measurement and return the steady points. @param {Point[]} points @param {number} timeMs */
  update(points, timeMs) {
    if (!this.value) {
      this.value = points.map(([x, y]) => [x, y]);
      this.velocity = points.map(() => [0, 0]);
    } else {
      const seconds = (timeMs - this.timeMs || STEP_MS) / 1000;
      const size = diagonal(points) || 1;
      const share = takes(SPEED_CUTOFF, seconds);
      for (let index = 0; index < points.length; index++) {
        const [point, last, velocity, value] = [points[index], this.last[index], this.velocity[index], this.value[index]];
        for (const axis of [0, 1]) {
          velocity[axis] += share * ((point[axis] - last[axis]) / (seconds * size) - velocity[axis]);
        }
        const cutoff = this.smoothing.minCutoff + this.smoothing.beta * Math.hypot(velocity[0], velocity[1]);
        const own = takes(cutoff, seconds);
        for (const axis of [0, 1]) value[axis] += own * (point[axis] - value[axis]);
      }
    }
    this.last = points.map(([x, y]) => [x, y]);
    this.timeMs = timeMs;
    return this.value.map(([x, y]) => /** @type {Point} */ ([x, y]));
  }
}

/** Filters for all objects of a video, told apart by their ids. */
export class Smoother {
  /** @param {Smoothing} smoothing */
  constructor(smoothing = DEFAULT_SMOOTHING) {
    this.smoothing = smoothing;
    /** @type {Map<number, {filter: OneEuro, timeMs: number}>} */
    this.filters = new Map();
  }

  /** @param {number} id @param {Point[]} points @param {number} timeMs */
  update(id, points, timeMs) {
    let known = this.filters.get(id);
    if (!known || !recent(timeMs - known.timeMs)) known = { filter: new OneEuro(this.smoothing), timeMs };
    known.timeMs = timeMs;
    this.filters.set(id, known);
    return known.filter.update(points, timeMs);
  }

  /** Forget objects that have left. @param {number} timeMs */
  prune(timeMs) {
    for (const [id, known] of this.filters) if (!recent(timeMs - known.timeMs)) this.filters.delete(id);
  }
}

/** @param {number} gap in ms */
function recent(gap) {
  return gap >= 0 && gap <= GAP_MS;
}

/** @param {number} cutoff in Hz @param {number} seconds */
function takes(cutoff, seconds) {
  return 1 / (1 + 1 / (2 * Math.PI * cutoff * seconds));
}

/** @param {Point[]} points */
function diagonal(points) {
  const range = (/** @type {0 | 1} */ axis) => {
    const values = points.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  };
  return Math.hypot(range(0), range(1));
}
