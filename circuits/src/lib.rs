//! The proof that an encrypted payload opens to the announced digest: statement, gadgets, Groth16 keys
