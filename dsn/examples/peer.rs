//! A peer on the command line, to measure with and to hold against other implementations.
//!
//! `peer seed STORE FILE` adds a file, provides it and stays; it prints `<address> <cid> <size> <sha256>`.
//! `peer fetch STORE ADDRESS CID SIZE SHA256 DEST` fetches it from there and prints the rate in MiB/s and the
//! greatest resident memory in KiB.
//! `peer find STORE ADDRESS CID SIZE SHA256 DEST` does so from whom the DHT names, joined through that address.

#![allow(clippy::print_stdout, reason = "its output")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use posthouse_dsn::{Config, Dsn, Keypair, Multiaddr, PeerId, Records, Role};

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["seed", store, file] => seed(store, file).await,
        [how @ ("fetch" | "find"), store, addr, cid, size, sha256, dest] => {
            let dsn = client(store, addr).await?;
            let from = match how {
                "fetch" => vec![dsn.dial(addr.parse()?).await?],
                _ => Vec::new(),
            };
            fetch(&dsn, &from, (cid, size, sha256), Path::new(dest)).await
        }
        _ => Err("usage: see the first lines of the source".into()),
    }
}

async fn seed(store: &str, file: &str) -> Outcome {
    let mut config = Config::new(Keypair::generate_ed25519(), store);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    config.role = Role::Server;
    config.records = Records::Any;
    let (dsn, _inbound) = Dsn::start(config).await?;
    let added = dsn.add_file(file).await?;
    dsn.provide(added.cid).await?;
    let digest: String = added.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {} {} {digest}", dsn.addresses()[0], added.cid, added.size);
    Ok(tokio::signal::ctrl_c().await?)
}

async fn client(store: &str, addr: &str) -> Result<Dsn, Box<dyn Error>> {
    let mut config = Config::new(Keypair::generate_ed25519(), store);
    config.bootstrap = vec![addr.parse::<Multiaddr>()?];
    Ok(Dsn::start(config).await?.0)
}

async fn fetch(dsn: &Dsn, from: &[PeerId], (cid, size, sha256): (&str, &str, &str), dest: &Path) -> Outcome {
    let size: u64 = size.parse()?;
    let digest: Result<Vec<u8>, _> =
        (0..sha256.len()).step_by(2).map(|i| u8::from_str_radix(&sha256[i..i + 2], 16)).collect();
    let digest: [u8; 32] = digest?.try_into().map_err(|_| "SHA256 is 64 hex digits")?;
    let begin = Instant::now();
    dsn.fetch_file(cid.parse()?, size, digest, dest, from, |_| {}).await?;
    let rate = size as f64 / f64::from(1 << 20) / begin.elapsed().as_secs_f64();
    println!("rate {rate:.1} MiB/s");
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{peak}");
    Ok(())
}
