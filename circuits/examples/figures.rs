//! Prints constraint counts, times and sizes, one `name value unit` a line.
//!
//! Times and sizes without a prefix are those of key mode. An argument is a payload length for which setup, proving and verification are timed as well.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::time::Instant;

use posthouse_circuits::{KEY_MODE_LEN, PROOF_LEN, ProvingKey, Statement, SystemRandomness, cipher, figures};
use sha2::{Digest, Sha256};

/// Times are the median of this many runs.
const RUNS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    print("sha256_compression", figures::sha256_compression(), "constraints");
    print("aes128_block", figures::aes128_block(), "constraints");
    print("aes_sbox", figures::aes_sbox(), "constraints");
    print("aes_key_schedule", figures::aes_key_schedule(), "constraints");
    print("key_mode", figures::key_mode(), "constraints");
    print("file_mode_step_64", figures::file_mode_step_64(), "constraints");
    time("", KEY_MODE_LEN)?;
    print("proof_bytes", PROOF_LEN, "bytes");
    for argument in std::env::args().skip(1) {
        let len = argument.parse()?;
        print(&format!("file_{len}"), posthouse_circuits::shape(len).constraints, "constraints");
        time(&format!("file_{len}_"), len)?;
    }
    Ok(())
}

fn time(prefix: &str, len: usize) -> Result<(), Box<dyn Error>> {
    let randomness = &mut SystemRandomness::new()?;
    let (r, payload) = ([1; 32], vec![2; len]);
    let mut cipher = payload.clone();
    cipher::apply_payload(&r, &mut cipher);
    let u_id = Sha256::digest(&payload).into();
    let statement = Statement { s: Sha256::digest(r).into(), u_id, cipher: &cipher };

    let start = Instant::now();
    let key = ProvingKey::generate(len, randomness)?;
    print(&format!("{prefix}setup_ms"), start.elapsed().as_millis(), "ms");

    let proof = key.prove(&statement, &r, randomness)?.to_bytes();
    let mut prover = SystemRandomness::new()?;
    let prove = median(|| key.prove(&statement, &r, &mut prover).map(drop))?;
    print(&format!("{prefix}prove_ms"), format!("{:.1}", prove * 1e3), "ms");
    let verify = median(|| key.verifying_key().verify(&statement, &proof))?;
    print(&format!("{prefix}verify_ms"), format!("{:.2}", verify * 1e3), "ms");

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("key");
    key.write(&path)?;
    let read = median(|| ProvingKey::read_pinned(&path, &key.id()).map(drop))?;
    print(&format!("{prefix}read_key_ms"), format!("{:.1}", read * 1e3), "ms");
    print(&format!("{prefix}pk_bytes"), key.size(), "bytes");
    print(&format!("{prefix}vk_bytes"), key.verifying_key().to_bytes().len(), "bytes");
    Ok(())
}

fn median<E>(mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

fn print(name: &str, value: impl std::fmt::Display, unit: &str) {
    println!("{name} {value} {unit}");
}
