#!/usr/bin/env node
// Runs forge or anvil: foundry.mjs TOOL ARGS…
// From npm where that has the tool for this platform, else the one on PATH. The binaries' packages are
// dependencies themselves, without the wrappers @foundry-rs/forge and anvil: those end with 0 whatever the
// tool said, so that failing tests would pass for good, and their lists of platforms name packages that
// do not exist, over which `npm ci` stumbles.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ARCHITECTURES = { x64: "amd64", arm64: "arm64" };

export function binary(tool) {
  const platform = `${process.platform}-${ARCHITECTURES[process.arch] ?? process.arch}`;
  try {
    return createRequire(import.meta.url).resolve(`@foundry-rs/${tool}-${platform}/bin/${tool}`);
  } catch {
    return tool;
  }
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
