/**
 * Follows made-up objects with the browser package: `node twins.mjs SOURCES FILE`, FILE as test_twins.py writes it.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { Localizer } = await import(pathToFileURL(join(process.argv[2], "localizer.js")));
const { manifest, clips } = JSON.parse(await readFile(process.argv[3], "utf8"));
const image = { data: new Uint8ClampedArray(32 * 32 * 4), width: 32, height: 32 };

/** A network that sees in a box the nearest object. */
class World {
  manifest = manifest;
  minScore = manifest.min_score;
  keepScore = manifest.keep_score;
  objects = [];

  async locate(_, boxes) {
    return boxes.map((box) => {
      const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
      const far = this.objects.map(([left, top]) => Math.hypot(left - x, top - y));
      const [cx, cy, half, score] = this.objects[far.indexOf(Math.min(...far))] ?? [x, y, 16, 0];
      const points = [[cx - half, cy - half], [cx + half, cy - half], [cx, cy], [cx - half, cy + half], [cx + half, cy + half]];
      return { points, heights: points.map(() => score), box };
    });
  }
}

/** Shorter than the whole: what is compared. */
const described = (found) => found.map(({ id, points, box }) => ({ id, points, box }));

const results = [];
for (const { every, retry, frames } of clips) {
  const network = new World();
  const detector = { every, retry, confidentScore: 0.7, found: [], detect: async () => detector.found };
  const localizer = new Localizer(network, detector);
  const video = localizer.video({ smooth: false });
  const clip = [];
  for (const { objects, detections } of frames) {
    network.objects = objects;
    detector.found = detections.map(([box, score]) => ({ box, score }));
    const boxes = detections.map(([box]) => box);
    clip.push([await video.update(image), await localizer.predict(image), await localizer.predict(image, boxes)].map(described));
  }
  results.push(clip);
}
console.log(JSON.stringify(results));
