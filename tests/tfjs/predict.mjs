// Loads models in TensorFlow.js and predicts: one line of JSON for each, with the bytes of what comes out in hex.
//
//     node predict.mjs FOLDER MODEL.json...
//
// FOLDER is where `npm ci --prefix FOLDER` has put the packages, outside of the sources.

import { fromDisk, tensorflow } from "./load.mjs";

const [folder, ...paths] = process.argv.slice(2);
const { tf, tfl } = tensorflow(folder);
let said = [];
for (const level of ["warn", "error"]) console[level] = (...words) => said.push(words.join(" "));
tf.square(tf.scalar(1)).dataSync(); // it greets whoever computes first, with a word on faster ways

for (const path of paths) {
  said = [];
  try {
    const model = await tfl.loadLayersModel(fromDisk(tf, path));
    const [, ...shape] = model.inputs[0].shape;
    const count = 4 * shape.reduce((a, b) => a * b, 1);
    const words = model.layers[0].getClassName() === "Embedding";
    const x = Float32Array.from({ length: count }, (_, at) => (words ? at % 20 : Math.cos(at * 0.7)));
    const y = model.predict(tf.tensor(x, [4, ...shape]));
    const bytes = Buffer.from((await y.data()).buffer).toString("hex");
    const compiled = model.optimizer != null;
    console.log(JSON.stringify({ path, bytes, compiled, metadata: model.getUserDefinedMetadata() ?? null, said }));
  } catch (error) {
    console.log(JSON.stringify({ path, error: String(error.message), said }));
  }
}
