// Starts the emulator of GitHub's API on 127.0.0.1, prints its address as one line of JSON, stops when stdin closes.
//
//     node start.mjs FOLDER [PORT]
//
// FOLDER is where `npm install --prefix FOLDER` has put the package, outside of the sources.

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, wanted = "0"] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node start.mjs FOLDER [PORT]");
  process.exit(2);
}

// Import looks next to this file, and the package is elsewhere.
const root = join(resolve(folder), "node_modules", "emulate");
const { main } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const { createEmulator } = await import(pathToFileURL(join(root, main)).href);

// The port must be known before the start: by itself the emulator calls itself localhost in the addresses that it
// gives, and PyGithub refuses to follow one whose host is not that of its base_url.
const free = () =>
  new Promise((done, failed) => {
    const probe = createServer().once("error", failed);
    probe.listen(Number(wanted), "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });

const port = await free();
const baseUrl = `http://127.0.0.1:${port}`;
const token = "ghs_emulated";
const emulator = await createEmulator({
  service: "github",
  port,
  hostname: "127.0.0.1",
  baseUrl,
  seed: {
    // A login that is among the users, and not an organization: only the owner may write.
    tokens: { [token]: { login: "acme", scopes: ["repo"] } },
    github: {
      users: [{ login: "acme", name: "Acme" }],
      repos: [{ owner: "acme", name: "models", auto_init: true }],
    },
  },
});

console.log(JSON.stringify({ url: baseUrl, port, token, repository: "acme/models" }));
process.stdin.resume();
process.stdin.on("end", async () => {
  await emulator.close();
  process.exit(0);
});
