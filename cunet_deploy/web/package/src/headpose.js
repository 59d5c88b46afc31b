/**
 * Yaw, pitch and roll of faces with 68 landmarks; the counterpart of `cunet_deploy/head_pose.py`, which explains it.
 */

import { VIEWS } from "./head68.js";

/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./network.js").Skeleton} Skeleton */
/** @typedef {number[][]} Matrix rows of numbers */

/** Skeleton that has the 68 points. */
const SKELETON = "ibug68";
const FOCAL = 8;
const CONTOUR_ENDS = [
  [0, 1, 2, 3],
  [13, 14, 15, 16],
];
const NOSE_POINTS = [27, 30, 33];
const NOSE_PLACES = [-0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8];
const NOSE_YAWS = [-88, -75, -45, -18, 0, 18, 45, 75, 88];
const MAX_YAW_CHANGE = 8;
const MAX_FITS = 3;
const MAX_RESIDUAL = 0.12;
const DEGREES = 180 / Math.PI;

/** Whether objects of a skeleton have the angles of a head. @param {Skeleton} skeleton */
export function hasPose(skeleton) {
  return skeleton.name === SKELETON;
}

/**
 * Yaw, pitch and roll of a face in degrees; `null` where the points are not those of a face.
 * @param {Point[]} face @param {Skeleton} skeleton
 * @returns {[number, number, number] | null}
 */
export function headPose(face, skeleton) {
  const xs = face.map(([x]) => x);
  const ys = face.map(([, y]) => y);
  const [left, top, right, bottom] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  if (!(Number.isFinite(left + top + right + bottom) && left < right && top < bottom)) return null;
  const points = face.map(([x, y]) => [x - (left + right) / 2, y - (top + bottom) / 2]);
  let yaw = guessYaw(points);
  for (let fit = 1; ; fit++) {
    const { head, depths } = viewAt(Math.round(yaw), skeleton);
    const parallel = points.map(([x, y], index) => [x * depths[index], y * depths[index]]);
    const affine = leastSquares(head, parallel);
    const { x, y, scale } = orthonormal(affine.slice(0, 3).map((row) => row[0]), affine.slice(0, 3).map((row) => row[1]));
    const z = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    const turned = Math.atan2(z[0], -z[2]) * DEGREES;
    if (Math.abs(turned - yaw) > MAX_YAW_CHANGE && fit < MAX_FITS) {
      yaw = clamp(turned, 90);
      continue;
    }
    const shift = affine[3];
    let residual = 0;
    head.forEach((point, index) => {
      residual += (scale * dot(point, x) + shift[0] - parallel[index][0]) ** 2;
      residual += (scale * dot(point, y) + shift[1] - parallel[index][1]) ** 2;
    });
    if (residual > face.length * MAX_RESIDUAL ** 2 * (right - left) * (bottom - top)) return null;
    return [turned, Math.asin(clamp(-z[1], 1)) * DEGREES, Math.atan2(-x[1], -y[1]) * DEGREES];
  }
}

/** The generic head as it is labelled from a side. @param {number} yaw in degrees @param {Skeleton} skeleton */
function headAt(yaw, skeleton) {
  const place = (Math.min(Math.abs(yaw), 90) / 90) * (VIEWS.length - 1);
  const first = Math.min(Math.floor(place), VIEWS.length - 2);
  const share = place - first;
  const head = VIEWS[first].map((point, index) =>
    point.map((value, axis) => (1 - share) * value + share * VIEWS[first + 1][index][axis]),
  );
  if (yaw >= 0) return head;
  const order = head.map((_, index) => index);
  for (const [a, b] of skeleton.flip_pairs) [order[a], order[b]] = [b, a];
  return order.map((index) => [-head[index][0], head[index][1], head[index][2]]);
}

/** The head, and distances of its points from the camera as shares of its own. @param {number} yaw @param {Skeleton} skeleton */
function viewAt(yaw, skeleton) {
  const head = headAt(yaw, skeleton);
  const [cos, sin] = [Math.cos(yaw / DEGREES), Math.sin(yaw / DEGREES)];
  const across = head.map(([x, , z]) => x * cos + z * sin);
  const heights = head.map(([, y]) => y);
  const distance = FOCAL * Math.sqrt(range(across) * range(heights));
  return { head, depths: head.map(([x, , z]) => 1 + (x * sin - z * cos) / distance) };
}

/**
 * The affine map of points in space to points in the picture, by the normal equations.
 * @param {Matrix} head (K, 3) @param {Matrix} picture (K, 2)
 * @returns {Matrix} (4, 2), the last row the shift
 */
function leastSquares(head, picture) {
  const rows = Array.from({ length: 4 }, () => new Array(6).fill(0));
  head.forEach((point, index) => {
    const from = [...point, 1];
    const all = [...from, ...picture[index]];
    for (let row = 0; row < 4; row++) for (let column = 0; column < 6; column++) rows[row][column] += from[row] * all[column];
  });
  // Gauss and Jordan; the matrix is positive definite and needs no pivots
  for (let pivot = 0; pivot < 4; pivot++) {
    const by = rows[pivot][pivot];
    rows[pivot] = rows[pivot].map((value) => value / by);
    for (let row = 0; row < 4; row++) {
      const times = rows[row][pivot];
      if (row !== pivot) rows[row] = rows[row].map((value, column) => value - times * rows[pivot][column]);
    }
  }
  return rows.map((row) => row.slice(4));
}

/** The two orthogonal axes of length 1 closest to two others, and the scale between. @param {number[]} a @param {number[]} b */
function orthonormal(a, b) {
  const [aa, bb, ab] = [dot(a, a), dot(b, b), dot(a, b)];
  const area = Math.sqrt(Math.max(aa * bb - ab * ab, 1e-12 * aa * bb)) || 1e-9;
  const trace = Math.sqrt(aa + bb + 2 * area);
  const [along, across, other] = [(bb + area) / (area * trace), (aa + area) / (area * trace), -ab / (area * trace)];
  return {
    x: a.map((value, axis) => along * value + other * b[axis]),
    y: a.map((value, axis) => other * value + across * b[axis]),
    scale: trace / 2,
  };
}

/** Yaw in degrees by where the nose lies between both ends of the contour. @param {Matrix} points */
function guessYaw(points) {
  const [[rightX, rightY], [leftX, leftY], [noseX, noseY]] = [...CONTOUR_ENDS, NOSE_POINTS].map((indices) =>
    [0, 1].map((axis) => indices.reduce((sum, index) => sum + points[index][axis], 0) / indices.length),
  );
  const [x, y] = [leftX - rightX, leftY - rightY];
  const along = (noseX - (rightX + leftX) / 2) * x + (noseY - (rightY + leftY) / 2) * y;
  const place = along / Math.max(x * x + y * y, 1e-9);
  const last = NOSE_PLACES.length - 1;
  const after = NOSE_PLACES.findIndex((value) => value > place);
  const above = Math.min(Math.max(after < 0 ? last : after, 1), last);
  const share = (place - NOSE_PLACES[above - 1]) / (NOSE_PLACES[above] - NOSE_PLACES[above - 1]);
  return clamp(NOSE_YAWS[above - 1] + share * (NOSE_YAWS[above] - NOSE_YAWS[above - 1]), 90);
}

/** @param {number[]} a @param {number[]} b */
function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/** @param {number[]} values */
function range(values) {
  return Math.max(...values) - Math.min(...values);
}

/** @param {number} value @param {number} limit */
function clamp(value, limit) {
  return Math.max(-limit, Math.min(limit, value));
}
