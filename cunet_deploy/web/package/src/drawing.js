/**
 * Landmarks drawn on a canvas, in the colours of `cunet_deploy/drawing.py`.
 */

/** @typedef {import("./localizer.js").Landmarks} Landmarks */

// Okabe and Ito's palette, which is told apart in every common kind of colour blindness: lines, points
const PALETTE = [
  ["#56b4e9", "#f0e442"],
  ["#e69f00", "#f5f5f5"],
  ["#009e73", "#f5f5f5"],
  ["#a779a7", "#f0e442"],
  ["#d55e00", "#f5f5f5"],
  ["#0072b2", "#f0e442"],
  ["#f0e442", "#f5f5f5"],
];
const RIM = "#202020";

/**
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context in pixels of the image
 * @param {Landmarks[]} objects
 * @param {[number, number][]} edges of the skeleton
 */
export function drawLandmarks(context, objects, edges) {
  context.save();
  context.lineCap = "round";
  for (const { points, id } of objects) {
    const [lines, dots] = PALETTE[id % PALETTE.length];
    const xs = points.map(([x]) => x);
    const ys = points.map(([, y]) => y);
    const extent = Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
    const line = Math.max(Math.round(extent / 160), 1);
    for (const [width, colour] of /** @type {[number, string][]} */ ([[line + (extent > 100 ? 2 : 1), RIM], [line, lines]])) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      for (const [a, b] of edges) {
        context.moveTo(xs[a] + 0.5, ys[a] + 0.5); // a canvas counts from the corner of a pixel, not from its centre
        context.lineTo(xs[b] + 0.5, ys[b] + 0.5);
      }
      context.stroke();
    }
    context.fillStyle = dots;
    for (let index = 0; index < points.length; index++) {
      context.beginPath();
      context.arc(xs[index] + 0.5, ys[index] + 0.5, Math.max(extent / 120, 1), 0, 2 * Math.PI);
      context.fill();
    }
  }
  context.restore();
}
