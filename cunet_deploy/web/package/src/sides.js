/**
 * Left and right joints that keep their places in video; the counterpart of `cunet_deploy/tracking/sides.py`.
 */

import { diagonal } from "./geometry.js";

/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./network.js").Manifest} Manifest */

const APART_RATIO = 0.06;
const MEMORY_SECONDS = 0.5;
const EXCHANGED = -0.5;

/** Whether the landmarks are joints of a body. @param {Manifest["skeleton"]} skeleton */
export function hasSides(skeleton) {
  return "torso" in skeleton.normalizers && skeleton.flip_pairs.length > 0;
}

export class SideConsistency {
  /** @param {[number, number][]} pairs indices of left and right joints */
  constructor(pairs) {
    this.pairs = pairs;
    /** @type {Point[] | null} */
    this.shown = null;
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
    if (shown) {
      const least = APART_RATIO * diagonal(points);
      const share = 1 - Math.exp(-seconds / MEMORY_SECONDS);
      this.pairs.forEach(([left, right], place) => {
        if (distance(points[left], points[right]) < least || distance(shown[left], shown[right]) < least) return;
        const exchanged =
          distance(points[left], shown[right]) < distance(points[left], shown[left]) &&
          distance(points[right], shown[left]) < distance(points[right], shown[right]);
        this.agreement[place] += share * ((exchanged ? -1 : 1) - this.agreement[place]);
        if (!exchanged) return;
        if (this.agreement[place] < EXCHANGED) this.agreement[place] = 1;
        else [order[left], order[right]] = [right, left];
      });
    }
    this.shown = order.map((index) => points[index]);
    return order;
  }
}

/** @param {Point} a @param {Point} b */
function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}
