/**
 * Steady landmarks: the One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) for each object; the counterpart of
 * `cunet_deploy/tracking/one_euro.py`.
 */

import { diagonal } from "./geometry.js";
import { SideConsistency, hasSides } from "./sides.js";

/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./network.js").Manifest} Manifest */

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
      const seconds = secondsBetween(this.timeMs, timeMs);
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

/** Filters for all objects of a video, told apart by their ids; joints of bodies first keep the sides that they were on. */
export class Smoother {
  /** @param {Manifest["skeleton"]} skeleton @param {Smoothing} smoothing */
  constructor(skeleton, smoothing = DEFAULT_SMOOTHING) {
    this.pairs = hasSides(skeleton) ? skeleton.flip_pairs : [];
    this.smoothing = smoothing;
    /** @type {Map<number, {filter: OneEuro, sides: SideConsistency, timeMs: number}>} */
    this.objects = new Map();
  }

  /**
   * The steady points of an object, each with its score.
   * @param {number} id
   * @param {{points: Point[], scores: number[]}} found
   * @param {number} timeMs
   */
  update(id, { points, scores }, timeMs) {
    let known = this.objects.get(id);
    if (!known || !recent(timeMs - known.timeMs)) {
      known = { filter: new OneEuro(this.smoothing), sides: new SideConsistency(this.pairs), timeMs };
    }
    const order = known.sides.update(points, secondsBetween(known.timeMs, timeMs));
    known.timeMs = timeMs;
    this.objects.set(id, known);
    const steady = known.filter.update(order.map((index) => points[index]), timeMs);
    return { points: steady, scores: order.map((index) => scores[index]) };
  }

  /** Forget objects that have left. @param {number} timeMs */
  prune(timeMs) {
    for (const [id, known] of this.objects) if (!recent(timeMs - known.timeMs)) this.objects.delete(id);
  }
}

/** @param {number} beforeMs @param {number} nowMs */
function secondsBetween(beforeMs, nowMs) {
  return (nowMs - beforeMs || STEP_MS) / 1000;
}

/** @param {number} gap in ms */
function recent(gap) {
  return gap >= 0 && gap <= GAP_MS;
}

/** @param {number} cutoff in Hz @param {number} seconds */
function takes(cutoff, seconds) {
  return 1 / (1 + 1 / (2 * Math.PI * cutoff * seconds));
}
