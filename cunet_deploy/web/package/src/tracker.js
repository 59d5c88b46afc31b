/**
 * Following objects through a video; the counterpart of `cunet_deploy/tracking/tracker.py`. Pure bookkeeping.
 */

import { SAME_OBJECT_IOU, leastScore, plausible } from "./detector.js";
import { boxIou, landmarkBox, shareInside } from "./geometry.js";
import { meanHeight } from "./network.js";

/** @typedef {import("./geometry.js").Box} Box */
/** @typedef {import("./detector.js").Found} Found */
/** @typedef {import("./network.js").Located} Located */

/**
 * @typedef {object} Track
 * @property {number} id -1 until it was found for the first time
 * @property {Box} box where to look next
 * @property {number} missed frames since it was last found
 * @property {number} unseen looks of the detector in a row that did not see it
 * @property {boolean} sure the detector was confident of it, and has seen it in every look since
 * @property {number} usual its mean score over the last frames
 * @property {boolean} falling its score is far below that
 */

const DUPLICATE_IOU = 0.5;
const SAME_OBJECT_INSIDE = 0.8;
const MAX_UNSEEN = 2;
const MAX_MISSED_FRAMES = 5;
const MAX_LOST_FRAMES = 30;
const FALLING_RATIO = 0.75;
const CONFIDENCE_MEMORY = 0.9;

export class Tracker {
  /**
   * @param {number} minScore mean landmark score from which an object counts as found
   * @param {{every: number, retry: number}} cadence frames between looks of the detector
   * @param {number} keepScore the same for an object that was found in the frame before
   */
  constructor(minScore, cadence, keepScore = minScore) {
    this.minScore = minScore;
    this.cadence = cadence;
    this.keepScore = keepScore;
    /** @type {Track[]} */
    this.tracks = [];
    /** @type {Track[]} */
    this.gone = [];
    this.nextId = 0;
    /** @type {number | null} */
    this.sinceLook = null;
  }

  /** Whether this frame should be searched before `plan`. */
  wantsDetection() {
    if (this.sinceLook === null) return true;
    const { every, retry } = this.cadence;
    const found = this.tracks.some((track) => track.missed === 0);
    const lost = this.tracks.some((track) => track.missed > 0 || track.falling);
    if (found && (every === 0 || !lost)) return every > 0 && every <= this.sinceLook;
    return this.sinceLook >= retry;
  }

  /** Another shot begins: nothing that was followed is there any more. */
  beginShot() {
    this.tracks = [];
    this.gone = [];
    this.sinceLook = null;
  }

  /** Where the objects that are followed should be in this frame. @returns {Box[]} */
  boxes() {
    return this.tracks.filter((track) => track.missed === 0).map((track) => track.box);
  }

  /** The tracks to localize in. @param {Found[] | null} detections `null` where the frame was not searched */
  plan(detections) {
    this.sinceLook = detections ? 1 : (this.sinceLook ?? 0) + 1;
    return detections ? this.#merge(this.tracks, detections) : [...this.tracks];
  }

  /** @param {Track[]} tracks @param {Found[]} detections */
  #merge(tracks, detections) {
    /** @type {Map<number, Found>} */
    const taken = new Map();
    /** @type {Found[]} */
    const left = [];
    for (const found of detections) {
      const overlaps = tracks.map((track) => boxIou(found.box, track.box));
      const free = overlaps.flatMap((iou, place) => (iou >= SAME_OBJECT_IOU && !taken.has(place) ? [place] : []));
      if (free.length) taken.set(free.reduce((best, place) => (overlaps[place] > overlaps[best] ? place : best)), found);
      else if (!overlaps.some((iou) => iou >= SAME_OBJECT_IOU)) left.push(found);
    }
    /** @type {Track[]} */
    const fresh = [];
    const shrunk = new Set();
    for (const found of left) {
      const held = tracks.findIndex((t, place) => !taken.has(place) && shareInside(t.box, found.box) >= SAME_OBJECT_INSIDE);
      if (held < 0) {
        fresh.push(newTrack(found));
        continue;
      }
      shrunk.add(held);
      taken.set(held, found);
    }
    const kept = tracks.map((track, place) => {
      const found = taken.get(place);
      if (!found) return { ...track, unseen: track.unseen + 1, sure: false };
      const box = track.missed || shrunk.has(place) ? found.box : track.box;
      return { ...track, box, unseen: 0, sure: track.sure || found.sure };
    });
    return [...kept.filter((track) => track.unseen < MAX_UNSEEN), ...fresh];
  }

  /**
   * Which results to believe, and under which id.
   * @param {Track[]} plan of this frame
   * @param {Located[]} located in its boxes
   * @param {boolean} [again] the frame was searched after an update in which all was lost, and this is its second one
   * @returns {{id: number, index: number}[]} by rising id
   */
  update(plan, located, again = false) {
    const passed = again ? 0 : 1; // frames since the last update
    const scores = located.map(meanHeight);
    const boxes = located.map(({ points }) => landmarkBox(points));
    const good = plan.map((track, place) => {
      const followed = track.id >= 0 && !track.missed;
      const least = Math.min(followed ? this.keepScore : Infinity, leastScore(this.minScore, track.sure));
      return scores[place] >= least && plausible(located[place].points, track.box);
    });
    const order = plan
      .map((_, place) => place)
      .sort((a, b) => Number(plan[a].id < 0) - Number(plan[b].id < 0) || plan[a].id - plan[b].id || scores[b] - scores[a]);
    /** @type {Track[]} */
    const following = [];
    const planned = new Set(plan.map((track) => track.id));
    const gone = this.gone.filter((track) => again || track.unseen < MAX_LOST_FRAMES).map((t) => ({ ...t, unseen: t.unseen + passed }));
    gone.push(...this.tracks.filter((track) => !planned.has(track.id)).map((track) => ({ ...track, unseen: 0 })));
    /** @type {{id: number, index: number}[]} */
    const results = [];
    for (const index of order) {
      const track = plan[index];
      if (!good[index]) {
        if (track.id >= 0 && track.missed < MAX_MISSED_FRAMES) following.push({ ...track, missed: track.missed + passed });
        else if (track.id >= 0) gone.push({ ...track, unseen: 0 });
        continue;
      }
      const box = boxes[index];
      if (following.some((other) => other.missed === 0 && boxIou(box, other.box) >= DUPLICATE_IOU)) continue;
      const id = track.id >= 0 ? track.id : this.#idAt(box, gone);
      const score = scores[index];
      results.push({ id, index });
      following.push({
        id,
        box,
        missed: 0,
        unseen: track.unseen,
        sure: track.sure,
        usual: track.usual ? CONFIDENCE_MEMORY * track.usual + (1 - CONFIDENCE_MEMORY) * score : score,
        falling: score < FALLING_RATIO * track.usual,
      });
    }
    this.tracks = following;
    this.gone = gone;
    return results.sort((a, b) => a.id - b.id);
  }

  /** @param {Box} box @param {Track[]} gone */
  #idAt(box, gone) {
    const overlaps = gone.map((track) => {
      const iou = boxIou(box, track.box);
      return iou >= SAME_OBJECT_IOU || shareInside(track.box, box) >= SAME_OBJECT_INSIDE ? iou : -1;
    });
    const most = Math.max(...overlaps);
    return most >= 0 ? gone.splice(overlaps.indexOf(most), 1)[0].id : this.nextId++;
  }
}

/** @param {Found} found @returns {Track} */
function newTrack({ box, sure }) {
  return { id: -1, box, missed: 0, unseen: 0, sure, usual: 0, falling: false };
}
