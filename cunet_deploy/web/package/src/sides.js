/**
 * Temporal consistency of left and right joints in video; the counterpart of `cunet_deploy/tracking/sides.py`.
 */

import { diagonal } from "./geometry.js";

/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./network.js").Manifest} Manifest */

const APART_RATIO = 0.06;
const CLOSING_RATIO = 0.5;
const MEMORY_SECONDS = 0.5;
const EXCHANGED = -0.5;

/** Whether the landmarks are joints of a body. @param {Manifest["skeleton"]} skeleton */
export function hasSides(skeleton) {
  return "torso" in (skeleton.normalizers ?? {}) && (skeleton.flip_pairs ?? []).length > 0;
}

export class SideConsistency {
  /** @param {[number, number][]} pairs indices of left and right joints */
  constructor(pairs) {
    this.pairs = pairs;
    /** @type {Point[] | null} */
    this.shown = null;
    /** @type {Point[]} */
    this.velocity = [];
    this.agreement = pairs.map(() => 1);
  }

  /**
   * Which of the points to show in each place.
   * @param {Point[]} points as they were found
   * @param {number} seconds since the frame before
   */
  update(points, seconds) {
    const order = points.map((_, index) => index);
    const { shown } = this;
    if (!shown) {
      this.shown = points;
      this.velocity = points.map(() => [0, 0]);
      return order;
    }
    const least = APART_RATIO * diagonal(points);
    const share = 1 - Math.exp(-seconds / MEMORY_SECONDS);
    this.pairs.forEach(([left, right], place) => {
      const apart = Math.min(distance(points[left], points[right]), distance(shown[left], shown[right]));
      if (apart < least || this.#closing(left, right, seconds)) {
        this.agreement[place] = 1;
        return;
      }
      const exchanged =
        distance(points[left], shown[right]) < distance(points[left], shown[left]) &&
        distance(points[right], shown[left]) < distance(points[right], shown[right]);
      this.agreement[place] += share * ((exchanged ? -1 : 1) - this.agreement[place]);
      if (exchanged && this.agreement[place] < EXCHANGED) {
        this.agreement[place] = 1;
      } else if (exchanged) [order[left], order[right]] = [right, left];
    });
    this.velocity = order.map((from, index) => [
      (points[from][0] - shown[index][0]) / seconds,
      (points[from][1] - shown[index][1]) / seconds,
    ]);
    this.shown = order.map((index) => points[index]);
    return order;
  }

  /**
   * Whether two joints approach each other so fast that they may have passed each other.
   * @param {number} left
   * @param {number} right
   * @param {number} seconds
   */
  #closing(left, right, seconds) {
    const shown = /** @type {Point[]} */ (this.shown);
    let [approach, square] = [0, 0];
    for (const axis of [0, 1]) {
      const between = shown[left][axis] - shown[right][axis];
      approach -= between * seconds * (this.velocity[left][axis] - this.velocity[right][axis]);
      square += between ** 2;
    }
    return approach >= CLOSING_RATIO * square;
  }
}

/** @param {Point} a @param {Point} b */
function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}
