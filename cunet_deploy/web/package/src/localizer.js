/**
 * Images and frames in, landmarks out; the counterpart of `cunet_deploy/localizer.py` and `tracking/step.py`.
 */

import { Detector, detectConfirmed, leastScore, plausible } from "./detector.js";
import { Network, loadBundle, mean, meanHeight, scoresOf } from "./network.js";
import { ShotBoundaryDetector } from "./shots.js";
import { DEFAULT_SMOOTHING, Smoother } from "./smoothing.js";
import { Tracker } from "./tracker.js";

/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./network.js").Located} Located */
/** @typedef {import("./pixels.js").Pixels} Pixels */
/** @typedef {import("./smoothing.js").Smoothing} Smoothing */

/**
 * The landmarks of one object.
 * @typedef {object} Landmarks
 * @property {number} id the track id in video; the place in the result of a single image
 * @property {Point[]} points in pixels of the image
 * @property {number[]} scores of each landmark, in [0, 1]; by the curve of the model where it has one
 * @property {number} confidence their mean
 * @property {Box} box where it was looked for
 */

const LATE_CADENCE_RATIO = 4;

export class Localizer {
  /** @param {Network} network of landmarks @param {Detector | null} detector where to look when no boxes are given */
  constructor(network, detector = null) {
    if (network.manifest.boxes) {
      throw new Error(`${network.manifest.name} finds boxes, not landmarks; give it as detector, beside a model`);
    }
    this.network = network;
    this.detector = detector;
  }

  /**
   * Load a model of landmarks and, unless boxes will be given, the detector of its objects.
   * @param {any} ort the module onnxruntime-web
   * @param {{model: Parameters<typeof Network.open>[1], detector?: Parameters<typeof Network.open>[1]}} bundles
   * @param {import("./network.js").SessionOptions} [options] of the runtime's sessions, such as their execution providers
   */
  static async open(ort, { model, detector }, options) {
    const bundles = await Promise.all([model, ...(detector ? [detector] : [])].map(loadBundle));
    const network = await Network.open(ort, bundles[0], options);
    return new Localizer(network, detector ? new Detector(await Network.open(ort, bundles[1], options)) : null);
  }

  get manifest() {
    return this.network.manifest;
  }

  /** Mean height of peaks from which an object counts as found, half of it where the detector is confident. */
  get minScore() {
    return this.network.minScore;
  }

  set minScore(value) {
    this.network.minScore = value;
  }

  /**
   * The landmarks of every object in an image.
   * @param {Pixels} image RGBA, as a canvas gives it
   * @param {Box[]} [boxes] tight boxes; the result then has an object for each, however low its score
   * @returns {Promise<Landmarks[]>}
   */
  async predict(image, boxes) {
    if (boxes) return (await this.network.locate(image, boxes)).map((one, place) => landmarks(this.network, one, place));
    const found = await detectConfirmed(this.#requireDetector(), this.network, image);
    const located = await this.network.locate(image, found.map(({ box }) => box));
    const good = located.filter(
      (one, place) => meanHeight(one) >= leastScore(this.minScore, found[place].sure) && plausible(one.points, one.box),
    );
    return good.map((one, place) => landmarks(this.network, one, place));
  }

  /** One video, given one frame at a time. @param {{smooth?: boolean | Smoothing}} [options] */
  video({ smooth = true } = {}) {
    return new VideoStep(this.network, this.#requireDetector(), smooth);
  }

  #requireDetector() {
    if (!this.detector) throw new Error("there is no detector: open the Localizer with one, or give boxes");
    return this.detector;
  }
}

export class VideoStep {
  /** @param {Network} network @param {Detector} detector @param {boolean | Smoothing} smooth */
  constructor(network, detector, smooth) {
    this.network = network;
    this.detector = detector;
    const cadence = { every: detector.every, retry: detector.retry };
    this.tracker = new Tracker(network.minScore, cadence, network.keepScore);
    this.shots = new ShotBoundaryDetector();
    this.smoother = smooth === false ? null : new Smoother(network.manifest.skeleton, smooth === true ? DEFAULT_SMOOTHING : smooth);
    this.last = -1;
  }

  /**
   * Localize in the next frame.
   * @param {Pixels} image
   * @param {number} [timeMs] when it was taken
   * @param {number} [index] of the frame; a gap says that frames were left out
   * @returns {Promise<Landmarks[]>} by rising id
   */
  async update(image, timeMs = 0, index = this.last + 1) {
    const late = index > this.last + 1;
    this.tracker.cadence.every = (late ? LATE_CADENCE_RATIO : 1) * this.detector.every;
    this.tracker.minScore = this.network.minScore;
    this.tracker.keepScore = this.network.keepScore;
    this.last = index;
    if (this.shots.update(image)) this.tracker.beginShot();
    const found = await this.#follow(image, index);
    if (this.smoother) {
      for (const one of found) Object.assign(one, this.smoother.update(one.id, one, timeMs));
      this.smoother.prune(timeMs);
    }
    return found;
  }

  /** @param {Pixels} image @param {number} index */
  async #follow(image, index) {
    let looked = this.tracker.wantsDetection();
    let again = false;
    let found = looked ? await this.#look(image, index) : null;
    for (;;) {
      const plan = this.tracker.plan(found);
      const located = await this.network.locate(image, plan.map((track) => track.box));
      const kept = this.tracker.update(plan, located, again);
      const justLost = !kept.length && plan.some((track) => track.missed === 0);
      if (looked || !justLost || !this.tracker.wantsDetection()) {
        return kept.map(({ id, index: place }) => landmarks(this.network, located[place], id));
      }
      looked = again = true; // all that was followed is lost in this very frame
      found = await this.#look(image, index);
    }
  }

  /** @param {Pixels} image @param {number} index */
  #look(image, index) {
    return detectConfirmed(this.detector, this.network, image, index, this.tracker.boxes());
  }
}

/** @param {Network} network @param {Located} located @param {number} id @returns {Landmarks} */
function landmarks(network, { points, heights, box }, id) {
  const scores = scoresOf(heights, network.manifest.score_curve);
  return { id, points, scores, confidence: mean(scores), box };
}
