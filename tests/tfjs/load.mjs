// TensorFlow.js from the folder where `npm ci --prefix FOLDER` has put it, outside of the sources, and files for it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";

export function tensorflow(folder) {
  const require = createRequire(join(resolve(folder), "package.json"));
  const tf = require("@tensorflow/tfjs-core");
  require("@tensorflow/tfjs-backend-cpu");
  return { tf, tfl: require("@tensorflow/tfjs-layers") };
}

// As tfjs-node reads a file: names in the manifest are relative to it, the shards of all groups one behind the other.
export function fromDisk(tf, path) {
  return {
    load: () =>
      tf.io.getModelArtifactsForJSON(JSON.parse(readFileSync(path, "utf8")), (manifest) => {
        const shards = manifest.flatMap((group) => group.paths.map((name) => readFileSync(join(dirname(path), name))));
        const all = Buffer.concat(shards);
        const data = all.buffer.slice(all.byteOffset, all.byteOffset + all.byteLength);
        return [manifest.flatMap((group) => group.weights), data];
      }),
  };
}
