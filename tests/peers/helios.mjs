// Helios as it comes from npm, spoken to line by line.
//
//   node helios.mjs EXECUTION_URL CONSENSUS_URL CHECKPOINT
//
// Prints one line of JSON when it has synced, then answers each line `{"method", "params"}` from standard input
// with one line, `{"result"}` or `{"error"}`. Ends when its standard input does, or with 1 if it cannot sync.
import { createInterface } from "node:readline";

import { createHeliosProvider } from "@a16z/helios";

const [executionRpc, consensusRpc, checkpoint] = process.argv.slice(2);
if (!checkpoint) {
  process.stderr.write("usage: helios.mjs EXECUTION_URL CONSENSUS_URL CHECKPOINT\n");
  process.exit(2);
}
// Where it cannot go on it panics inside a task; that must not pass for waiting.
process.on("unhandledRejection", fail).on("uncaughtException", fail);

// Mainnet, since it knows no network that it has not got built in.
const config = { executionRpc, consensusRpc, checkpoint, network: "mainnet", dbType: "config" };
const helios = await createHeliosProvider(config, "ethereum");
await helios.waitSynced();
say({ synced: true });
for await (const line of createInterface({ input: process.stdin })) {
  const answer = helios.request(JSON.parse(line));
  say(await answer.then((result) => ({ result: result ?? null }), (error) => ({ error: String(error) })));
}
process.exit(0);

function say(answer) {
  const text = JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? `0x${value.toString(16)}` : plain(value)));
  process.stdout.write(`${text}\n`);
}

/** Maps, as wasm hands over objects, are objects. */
function plain(value) {
  return value instanceof Map ? Object.fromEntries(value) : value;
}

function fail(error) {
  process.stderr.write(`${error?.stack ?? error}\n`);
  process.exit(1);
}
