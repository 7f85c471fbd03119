#!/usr/bin/env node
// Writes artifacts/*.json from source, or with --check fails if the committed ones differ from what
// the source compiles to. The Rust side reads the artifacts, so that it needs no node.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { run } from "./foundry.mjs";

// An interface has no code; it is there because both bounties have the same one. The paper's contract is
// the baseline of `cargo xtask figures gas`, which is to run without node and compilers like all of Rust.
const CONTRACTS = ["UpdateFactory", "IUpdateBounty", "Secp256k1Bounty", "P256Bounty", "baseline/PaperBounty"];
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const check = process.argv.includes("--check");

const scratch = mkdtempSync(join(tmpdir(), "posthouse-contracts-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

const options = ["--out", join(scratch, "out"), "--cache-path", join(scratch, "cache")];
if (run("forge", ["build", "--skip", "test", ...options], ["ignore", "ignore", "inherit"]) !== 0) {
  process.stderr.write("forge build failed\n");
  process.exit(1);
}

let drifted = false;
for (const file of CONTRACTS) {
  const name = basename(file);
  const { abi, bytecode, deployedBytecode } = JSON.parse(
    readFileSync(join(scratch, "out", `${name}.sol`, `${name}.json`), "utf8"),
  );
  const artifact = { abi, bytecode: bytecode.object, deployedBytecode: deployedBytecode.object };
  const text = `${JSON.stringify(artifact, null, 2)}\n`;
  const path = join(root, "artifacts", `${file}.json`);
  if (!check) {
    writeFileSync(path, text);
  } else if (read(path) !== text) {
    process.stderr.write(`artifacts/${file}.json is not what the source compiles to: run npm run build\n`);
    drifted = true;
  }
}
process.exit(drifted ? 1 : 0);

function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}
