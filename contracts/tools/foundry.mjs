#!/usr/bin/env node
// Runs forge or anvil from npm: foundry.mjs TOOL ARGS…
// The wrappers that @foundry-rs delivers end with 0 whatever the tool said, so that failing tests
// would pass for good; this calls the same binary and ends as it does.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ARCHITECTURES = { x64: "amd64", arm64: "arm64" };

export function binary(tool) {
  const platform = `${process.platform}-${ARCHITECTURES[process.arch] ?? process.arch}`;
  const suffix = process.platform === "win32" ? ".exe" : "";
  return createRequire(import.meta.url).resolve(`@foundry-rs/${tool}-${platform}/bin/${tool}${suffix}`);
}

export function run(tool, args, stdio = "inherit") {
  const cwd = join(dirname(fileURLToPath(import.meta.url)), "..");
  const ended = spawnSync(binary(tool), args, { cwd, stdio });
  if (ended.error) process.stderr.write(`${tool}: ${ended.error.message}\n`);
  return ended.status ?? 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [tool, ...args] = process.argv.slice(2);
  if (tool !== "forge" && tool !== "anvil") {
    process.stderr.write("usage: foundry.mjs forge|anvil ARGS…\n");
    process.exit(2);
  }
  process.exit(run(tool, args));
}
