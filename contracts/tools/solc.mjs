#!/usr/bin/env node
// Answers the two calls that forge makes of a `solc` executable, with the compiler that npm
// delivers as WebAssembly. There is no download, so the compiler is the one in package-lock.json.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const solc = createRequire(import.meta.url)("solc");
const args = process.argv.slice(2);

if (args.includes("--version")) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
} else if (args.includes("--standard-json")) {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
  process.stderr.write("usage: solc.mjs --version | --standard-json < input.json\n");
  process.exit(2);
}
