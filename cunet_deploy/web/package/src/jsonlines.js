/**
 * Results as JSON Lines, as `cunet-deploy infer` writes them; the counterpart of `cunet_deploy/media/writers/jsonl.py`.
 */

import { hasPose, headPose } from "./headpose.js";

/** @typedef {import("./localizer.js").Landmarks} Landmarks */
/** @typedef {import("./network.js").Skeleton} Skeleton */

/**
 * The lines of one frame, without line ends: one for each object, or one that says that there is none.
 * @param {Landmarks[]} found in pixels of the frame
 * @param {Skeleton} skeleton
 * @param {{frame?: number, timeMs?: number, file?: string}} [of] index and time of a frame; name of an image file
 * @returns {string[]}
 */
export function jsonLines(found, skeleton, { frame = 0, timeMs = 0, file = "" } = {}) {
  const name = file ? `"file":${JSON.stringify(file)},` : "";
  const head = `{"frame":${frame},${name}"time_ms":${timeMs.toFixed(3)},`;
  if (!found.length) return [`${head}"id":null,"box":null,"landmarks":[],"scores":[]}`];
  return found.map(({ id, box, points, scores }) => {
    const landmarks = points.map((point) => `[${point.map((value) => fixed(value, 2))}]`);
    const places = `"box":[${box.map((value) => fixed(value, 2))}],"landmarks":[${landmarks}]`;
    const shares = `"scores":[${scores.map((value) => fixed(value, 3))}]`;
    return `${head}"id":${id},${places},${shares}${angles(points, skeleton)}}`;
  });
}

/** @param {Landmarks["points"]} points @param {Skeleton} skeleton */
function angles(points, skeleton) {
  if (!hasPose(skeleton)) return "";
  const pose = headPose(points, skeleton);
  return ["yaw", "pitch", "roll"].map((name, axis) => `,"${name}":${pose ? fixed(pose[axis], 1) : null}`).join("");
}

/** A number as Python has it, in 32 bits, and rounds it: ties to even. @param {number} value @param {number} digits */
function fixed(value, digits) {
  const single = Math.fround(value);
  const steps = single * 10 ** digits; // exact: 24 bits and at most 10 more
  const below = Math.floor(steps);
  const rounded = steps - below === 0.5 ? (below + Math.abs(below % 2)) / 10 ** digits : single;
  return rounded.toFixed(digits);
}
