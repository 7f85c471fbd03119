//! Times of key mode: setup, proof, verification, and reading a proving key.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use posthouse_circuits::{KEY_MODE_LEN, ProvingKey, Statement, SystemRandomness, cipher};
use sha2::{Digest, Sha256};

fn key_mode(c: &mut Criterion) {
    let randomness = &mut SystemRandomness::new().unwrap();
    let (r, payload) = ([1; 32], [2; KEY_MODE_LEN]);
    let mut cipher = payload;
    cipher::apply_payload(&r, &mut cipher);
    let statement =
        Statement { s: Sha256::digest(r).into(), u_id: Sha256::digest(payload).into(), cipher: &cipher };
    let key = ProvingKey::generate(KEY_MODE_LEN, randomness).unwrap();
    let proof = key.prove(&statement, &r, randomness).unwrap().to_bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pk");
    key.write(&path).unwrap();

    let mut group = c.benchmark_group("key_mode");
    group.sample_size(10);
    group.bench_function("setup", |b| {
        b.iter(|| ProvingKey::generate(KEY_MODE_LEN, randomness).unwrap());
    });
    group.bench_function("read_pinned", |b| {
        b.iter(|| ProvingKey::read_pinned(&path, &key.id()).unwrap());
    });
    group.bench_function("prove", |b| {
        b.iter(|| key.prove(black_box(&statement), &r, randomness).unwrap());
    });
    group.bench_function("verify", |b| {
        b.iter(|| key.verifying_key().verify(black_box(&statement), &proof).unwrap());
    });
    group.finish();
}

criterion_group!(benches, key_mode);
criterion_main!(benches);
