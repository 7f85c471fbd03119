// @lodestar/light-client over recorded mainnet updates, timed: the other side of `cargo xtask figures light-client`.
//
//   node replay.mjs BOOTSTRAP.json UPDATES.json FINALITY.json ROUNDS
//
// Prints one line of JSON: how long one update takes, median over all rounds, from the text of the answer to the
// moved header, with BLS in native code as that package uses it on Node. `cold_ms` is of updates that each bring a
// new committee, `cached_ms` of one whose committee is known.
import { readFileSync } from "node:fs";

import { init } from "@chainsafe/bls/switchable";
import { fromHexString } from "@chainsafe/ssz";
import { createIBeaconConfig } from "@lodestar/config";
import { mainnetChainConfig } from "@lodestar/config/presets";
import { LightclientSpec } from "@lodestar/light-client/spec";
import { validateLightClientBootstrap } from "./node_modules/@lodestar/light-client/lib/spec/validateLightClientBootstrap.js";
import { ssz } from "@lodestar/types";

const [bootstrapFile, updatesFile, finalityFile, rounds] = process.argv.slice(2);
await init("blst-native");

// 1.5.1 was released a month before mainnet had its date for Capella.
const config = createIBeaconConfig(
  { ...mainnetChainConfig, CAPELLA_FORK_EPOCH: 194048 },
  fromHexString("0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"),
);
const types = ssz.capella;
const text = (file) => readFileSync(file, "utf8");
const bootstrapText = text(bootstrapFile);
const finalityText = text(finalityFile);
const updateTexts = JSON.parse(text(updatesFile)).map((update) => JSON.stringify(update));

const cold = [];
const cached = [];
let last;
for (let round = 0; round < Number(rounds); round += 1) {
  const bootstrap = types.LightClientBootstrap.fromJson(JSON.parse(bootstrapText).data);
  validateLightClientBootstrap(types.LightClientHeader.fields.beacon.hashTreeRoot(bootstrap.header.beacon), bootstrap);
  const options = { allowForcedUpdates: false, updateHeadersOnForcedUpdate: false };
  const client = new LightclientSpec(config, options, bootstrap);
  for (const update of updateTexts) {
    timed(cold, () => {
      const parsed = types.LightClientUpdate.fromJson(JSON.parse(update).data);
      client.onUpdate(parsed.signatureSlot, parsed);
    });
  }
  // The first brings the committee of its period, the second finds it.
  for (const times of [[], cached]) {
    timed(times, () => {
      const parsed = types.LightClientFinalityUpdate.fromJson(JSON.parse(finalityText).data);
      client.onFinalityUpdate(parsed.signatureSlot, parsed);
    });
  }
  last = client.store.finalizedHeader;
}
const { beacon, execution } = last;
const figures = { cold_ms: median(cold), cached_ms: median(cached), finalized_slot: beacon.slot };
process.stdout.write(`${JSON.stringify({ ...figures, block: execution.blockNumber })}\n`);

function timed(times, work) {
  const begun = performance.now();
  work();
  times.push(performance.now() - begun);
}

function median(times) {
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
}
