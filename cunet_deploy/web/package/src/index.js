/**
 * Landmark localization in the browser with bundles of cunet-deploy.
 */

export { Detector } from "./detector.js";
export { drawLandmarks } from "./drawing.js";
export { jsonLines } from "./jsonlines.js";
export { Localizer, VideoStep } from "./localizer.js";
export { Network } from "./network.js";
export { sample } from "./pixels.js";
export { OneEuro, Smoother } from "./smoothing.js";
export { Tracker } from "./tracker.js";
