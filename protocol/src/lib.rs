//! Identifiers, messages, signed digests, envelopes and state machines of Posthouse, without I/O
#![no_std]
