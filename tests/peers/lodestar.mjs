// A real chain with proof of stake: Lodestar with every validator, over ethereumjs, both on loopback.
//
//   node lodestar.mjs FOLDER RPC_PORT ENGINE_PORT DEVP2P_PORT BEACON_PORT LIBP2P_PORT
//
// Prints one line of JSON when both answer, and ends both when its standard input ends, so that nothing outlives
// the test that holds the other end, however that test died. Everything written lies in FOLDER.
import { spawn } from "node:child_process";
import { mkdirSync, openSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [folder, rpcPort, enginePort, devp2pPort, beaconPort, libp2pPort] = process.argv.slice(2);
if (!libp2pPort) {
  process.stderr.write("usage: lodestar.mjs FOLDER RPC_PORT ENGINE_PORT DEVP2P_PORT BEACON_PORT LIBP2P_PORT\n");
  process.exit(2);
}

const PATIENCE_MS = 60_000;
const CHAIN_ID = 1337;
const FAR = "18446744073709551615";
const ZERO = `0x${"0".repeat(64)}`;
// The first key of the mnemonic `test test … junk`, as on every development chain.
const FUNDED = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

// Capella and Shanghai from the first block on, as Lodestar 1.5.1 knows nothing later.
const config = {
  PRESET_BASE: "minimal",
  CONFIG_NAME: "lodestar-dev",
  MIN_GENESIS_TIME: 0,
  GENESIS_DELAY: 0,
  GENESIS_FORK_VERSION: "0x00000001",
  ALTAIR_FORK_VERSION: "0x01000001",
  ALTAIR_FORK_EPOCH: 0,
  BELLATRIX_FORK_VERSION: "0x02000001",
  BELLATRIX_FORK_EPOCH: 0,
  CAPELLA_FORK_VERSION: "0x03000001",
  CAPELLA_FORK_EPOCH: 0,
  TERMINAL_TOTAL_DIFFICULTY: 0,
  TERMINAL_BLOCK_HASH: ZERO,
  TERMINAL_BLOCK_HASH_ACTIVATION_EPOCH: FAR,
  SECONDS_PER_SLOT: 2,
  DEPOSIT_CHAIN_ID: CHAIN_ID,
  DEPOSIT_NETWORK_ID: CHAIN_ID,
};
const blocks = ["homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul"]
  .concat(["berlin", "london", "mergeNetsplit"])
  .map((fork) => [`${fork}Block`, 0]);
const genesis = {
  config: {
    chainId: CHAIN_ID,
    ...Object.fromEntries(blocks),
    shanghaiTime: 0,
    terminalTotalDifficulty: 0,
    terminalTotalDifficultyPassed: true,
  },
  nonce: "0x0",
  timestamp: "0x0",
  extraData: "0x",
  gasLimit: "0x1c9c380",
  difficulty: "0x0",
  mixHash: ZERO,
  coinbase: `0x${"0".repeat(40)}`,
  baseFeePerGas: "0x3b9aca00",
  alloc: { [FUNDED]: { balance: "0x21e19e0c9bab2400000" } },
};

const children = [];
process.stdin.on("end", () => end(0)).resume();
process.on("SIGTERM", () => end(0));
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

mkdirSync(folder, { recursive: true });
const yaml = (entries) => Object.entries(entries).map(([key, value]) => `${key}: ${value}\n`).join("");
writeFileSync(join(folder, "genesis.json"), JSON.stringify(genesis));
writeFileSync(join(folder, "params.yaml"), yaml(config));

const rpc = `http://127.0.0.1:${rpcPort}`;
const beacon = `http://127.0.0.1:${beaconPort}`;
start("ethereumjs", "@ethereumjs/client/dist/esm/bin/cli.js", [
  `--dataDir=${join(folder, "execution")}`, `--gethGenesis=${join(folder, "genesis.json")}`,
  "--rpc", "--rpcAddr=127.0.0.1", `--rpcPort=${rpcPort}`,
  "--rpcEngine", "--rpcEngineAddr=127.0.0.1", `--rpcEnginePort=${enginePort}`, "--rpcEngineAuth=false",
  `--port=${devp2pPort}`, "--discDns=false", "--discV4=false", "--isSingleNode", "--saveReceipts",
]);
const first = await until("ethereumjs", () => call("eth_getBlockByNumber", ["0x0", false]));
start("lodestar", "@chainsafe/lodestar/lib/index.js", [
  "dev", "--genesisValidators=32", "--startValidators=0..31", `--genesisEth1Hash=${first.hash}`,
  `--genesisTime=${Math.ceil(Date.now() / 1000) + 10}`, `--paramsFile=${join(folder, "params.yaml")}`,
  `--dataDir=${join(folder, "consensus")}`, "--logFile=none",
  "--rest=true", "--rest.namespace=*", `--rest.port=${beaconPort}`, `--server=${beacon}`,
  `--execution.urls=http://127.0.0.1:${enginePort}`, "--eth1=false",
  "--listenAddress=127.0.0.1", `--port=${libp2pPort}`, "--discv5=false", "--targetPeers=0",
]);
const { genesis_time, genesis_validators_root } = await until("Lodestar", () => get("/eth/v1/beacon/genesis"));
const network = join(folder, "network.yaml");
writeFileSync(network, yaml({
  ...config,
  DENEB_FORK_VERSION: "0x04000001",
  DENEB_FORK_EPOCH: FAR,
  GENESIS_TIME: genesis_time,
  GENESIS_VALIDATORS_ROOT: genesis_validators_root,
}));
process.stdout.write(`${JSON.stringify({ rpc, beacon, network, chain_id: CHAIN_ID })}\n`);

function start(name, program, args) {
  const log = openSync(join(folder, `${name}.log`), "a");
  const node = ["--require", join(here, "preload.cjs"), join(here, "node_modules", program), ...args];
  const env = { ...process.env, NODE_BACKEND: "js", LODESTAR_PRESET: "minimal" };
  // Lodestar writes its genesis state into the working directory.
  const child = spawn(process.execPath, node, { cwd: folder, env, stdio: ["ignore", log, log] });
  child.on("exit", (code, signal) => {
    process.stderr.write(`${name} ended with ${code ?? signal}: see ${join(folder, name)}.log\n`);
    end(1);
  });
  children.push(child);
}

function end(code) {
  process.exit(code);
}

async function call(method, params) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const answer = await fetch(rpc, { method: "POST", headers: { "content-type": "application/json" }, body });
  return (await answer.json()).result;
}

async function get(path) {
  const answer = await fetch(beacon + path);
  return answer.ok ? (await answer.json()).data : undefined;
}

async function until(what, ask) {
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const answer = await ask().catch(() => undefined);
    if (answer) return answer;
    await new Promise((next) => setTimeout(next, 100));
  }
  throw new Error(`waited in vain for ${what}`);
}
