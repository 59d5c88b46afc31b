/**
 * The page: camera, photo or clip in, landmarks on a canvas. All of it runs here; there is no server.
 */

import { Localizer, drawLandmarks, jsonLines } from "./cunet-deploy-web/index.js";
import { loadRuntime } from "./runtime.js";

/** @typedef {import("./cunet-deploy-web/localizer.js").Landmarks} Landmarks */
/** @typedef {import("./cunet-deploy-web/geometry.js").Point} Point */

// of what is searched and shown; larger pictures are shrunk
const MAX_PHOTO_SIDE = 4096; // every browser has a canvas of this size
const MAX_FRAME_SIDE = 1280; // reading the pixels of larger ones takes longer than the network
const KEPT_RECORDS = 100_000;

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

const canvas = element("view");
const context = canvas.getContext("2d", { willReadFrequently: true });
const video = element("video");

/** @type {Localizer} */
let localizer;
/** Lines of JSON. @type {string[]} */
let records = [];
/** What runs now; a new source ends it. */
let turn = 0;
let sourceName = "camera";

start().catch(fail);

async function start() {
  const site = await (await fetch("site.json")).json();
  const ort = await loadRuntime(site.runtime);
  const threads = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
  ort.env.wasm.numThreads = threads;
  localizer = await Localizer.open(ort, { model: site.model, detector: site.detector ?? undefined });
  const { name, licence, min_score } = localizer.manifest;
  document.title = name;
  element("model").textContent = name;
  element("licence").textContent = licence;
  element("threads").textContent = `${threads}`;
  element("score").value = min_score;
  element("score-value").value = min_score.toFixed(2);
  element("score").addEventListener("input", setScore);
  element("camera").addEventListener("click", useCamera);
  element("file").addEventListener("change", () => useFile(element("file").files[0]));
  element("stop").addEventListener("click", stop);
  element("save").addEventListener("click", save);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    useFile(event.dataTransfer?.files[0]);
  });
  for (const id of ["camera", "file"]) element(id).disabled = false;
  say("Ready: start the camera, or open or drop a photo or clip.");
  // only needed offline; it fetches every file, and should not do so while the page waits for them
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {});
}

function setScore() {
  localizer.minScore = Number(element("score").value);
  element("score-value").value = localizer.minScore.toFixed(2);
}

/**
 * Run a source until it ends, fails or another one takes its place; what fails of a superseded one is not told.
 * @param {string} name @param {(own: number) => Promise<void>} work
 */
async function run(name, work) {
  const own = begin(name);
  try {
    await work(own);
  } catch (error) {
    if (own === turn) fail(error);
  }
}

function useCamera() {
  return run("camera", runCamera);
}

/** @param {number} own */
async function runCamera(own) {
  if (!navigator.mediaDevices) throw new Error("This page needs https:// or localhost to use the camera.");
  say("Waiting for the camera…");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" }, audio: false });
  } catch (error) {
    throw new Error(CAMERA_ERRORS[/** @type {Error} */ (error).name] ?? `The camera cannot be used: ${error}`);
  }
  if (own !== turn) return stream.getTracks().forEach((track) => track.stop());
  video.srcObject = stream;
  await play(own);
}

/** @type {Record<string, string>} */
const CAMERA_ERRORS = {
  NotAllowedError: "The camera may not be used: allow it for this page in the browser's settings, then start it again.",
  NotFoundError: "No camera was found: connect one, or open a photo or clip.",
  NotReadableError: "The camera is used by another program: close that one, then start it again.",
};

/** @param {File | undefined} file */
function useFile(file) {
  if (!file) return;
  element("file").value = ""; // so that the same file can be opened again
  return run(file.name.replace(/\.[^.]*$/, ""), (own) => runFile(own, file));
}

/** @param {number} own @param {File} file */
async function runFile(own, file) {
  if (file.type.startsWith("video/")) {
    video.src = URL.createObjectURL(file);
    await play(own, file.name);
    return;
  }
  const picture = await createImageBitmap(file).catch(() => null);
  if (own !== turn) return;
  if (!picture) throw new Error(`${file.name} is neither a photo nor a clip that this browser can read.`);
  const { pixels, scale } = show(picture, picture.width, picture.height, MAX_PHOTO_SIDE);
  const found = await localizer.predict(pixels);
  if (own !== turn) return;
  present(found);
  record(found, scale, { file: file.name });
  end();
}

/** @param {number} own @param {string} [name] of the file */
async function play(own, name) {
  await video.play().catch(() => {
    throw new Error(name ? `${name} is not a clip that this browser can play.` : "The camera gives no picture.");
  });
  if (own !== turn) return;
  const step = localizer.video({ smooth: element("smooth").checked });
  const times = /** @type {number[]} */ ([]);
  say("Running.");
  let index = -1;
  while (own === turn && !video.ended) {
    const { time, frame } = await nextFrame(index);
    if (own !== turn || video.ended) break;
    index = frame;
    const { pixels, scale } = show(video, video.videoWidth, video.videoHeight, MAX_FRAME_SIDE);
    const found = await step.update(pixels, time, index);
    if (own !== turn) break;
    present(found);
    record(found, scale, { frame: index, timeMs: time });
    times.push(performance.now());
    while (times.length > 30) times.shift();
    if (times.length > 1) {
      element("fps").textContent = ((1000 * (times.length - 1)) / (times[times.length - 1] - times[0])).toFixed(1);
    }
  }
  if (own === turn) end();
}

/**
 * The next frame that the video shows; frames that were shown meanwhile are left out.
 * @param {number} last index of the frame before
 * @returns {Promise<{time: number, frame: number}>} in ms, and counted from 0
 */
function nextFrame(last) {
  return new Promise((resolve) => {
    const ended = () => resolve({ time: video.currentTime * 1000, frame: last + 1 });
    video.addEventListener("ended", ended, { once: true });
    const done = (/** @type {{time: number, frame: number}} */ value) => {
      video.removeEventListener("ended", ended);
      resolve(value);
    };
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((/** @type {number} */ now, /** @type {any} */ { mediaTime, presentedFrames }) => {
        done({ time: mediaTime * 1000, frame: Math.max(presentedFrames - 1, last + 1) });
      });
    } else {
      requestAnimationFrame(() => done({ time: video.currentTime * 1000, frame: last + 1 }));
    }
  });
}

/**
 * Draw a picture, shrunk where it is large, and read its pixels.
 * @param {CanvasImageSource} picture @param {number} width @param {number} height @param {number} maxSide
 * @returns {{pixels: ImageData, scale: Point}} scale: pixels of the picture per pixel that is shown, across and down
 */
function show(picture, width, height, maxSide) {
  const shrink = Math.min(1, maxSide / Math.max(width, height));
  const [w, h] = [Math.max(1, Math.round(width * shrink)), Math.max(1, Math.round(height * shrink))];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  context.drawImage(picture, 0, 0, w, h);
  return { pixels: context.getImageData(0, 0, w, h), scale: [width / w, height / h] };
}

/** @param {Landmarks[]} found */
function present(found) {
  drawLandmarks(context, found, localizer.manifest.skeleton.edges);
  element("objects").textContent = `${found.length}`;
  element("network").textContent = `${localizer.network.lastMs.toFixed(1)} ms`;
}

/**
 * Keep a result as `cunet-deploy infer` writes it, in pixels of the picture that was given.
 * @param {Landmarks[]} found in the picture as it is shown
 * @param {Point} scale of `show`
 * @param {Parameters<typeof jsonLines>[2]} of
 */
function record(found, scale, of) {
  const toPicture = (/** @type {number} */ value, /** @type {number} */ axis) =>
    (value + 0.5) * scale[axis] - 0.5; // (0, 0) is the centre of a pixel, not its corner
  const whole = found.map((one) => ({
    ...one,
    box: /** @type {Landmarks["box"]} */ (one.box.map((value, index) => toPicture(value, index % 2))),
    points: one.points.map(([x, y]) => /** @type {Point} */ ([toPicture(x, 0), toPicture(y, 1)])),
  }));
  records.push(...jsonLines(whole, localizer.manifest.skeleton, of));
  if (records.length > KEPT_RECORDS) records.splice(0, records.length - KEPT_RECORDS);
  element("save").disabled = false;
}

function save() {
  const text = records.map((line) => `${line}\n`).join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  link.download = `${sourceName}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** End what runs and make room for something new. @param {string} name */
function begin(name) {
  release();
  records = [];
  sourceName = name;
  element("save").disabled = true;
  element("stop").disabled = false;
  element("error").hidden = true;
  element("fps").textContent = "–";
  return ++turn;
}

function stop() {
  turn++;
  end();
}

function end() {
  release();
  element("stop").disabled = true;
  say(records.length ? "Done. The results can be saved." : "Stopped.");
}

function release() {
  video.pause();
  video.srcObject?.getTracks().forEach((/** @type {MediaStreamTrack} */ track) => track.stop());
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
}

/** @param {string} text */
function say(text) {
  element("status").textContent = text;
}

/** @param {unknown} error */
function fail(error) {
  turn++;
  release();
  element("stop").disabled = true;
  element("error").textContent = error instanceof Error ? error.message : String(error);
  element("error").hidden = false;
  say("");
}
