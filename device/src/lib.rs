//! The sensor's half: a library without allocation, and its Linux simulator
