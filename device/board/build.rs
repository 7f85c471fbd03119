//! Which part of the flash each program is linked for.

use std::{env, fs, path::PathBuf};

/// Program, first address and bytes of its flash; as `layout.rs` has them.
const PLACES: [(&str, u32, u32); 3] =
    [("boot", 0, 0x4000), ("sensor", 0x8000, 0x1c000), ("footprint", 0, 0x4_0000)];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (name, origin, length) in PLACES {
        let folder = out.join(name);
        fs::create_dir_all(&folder).expect("a folder in OUT_DIR");
        let memory = format!(
            "MEMORY {{\n  FLASH : ORIGIN = {origin:#x}, LENGTH = {length:#x}\n  RAM : ORIGIN = 0x20000000, LENGTH = 64K\n}}\n"
        );
        fs::write(folder.join("memory.x"), memory).expect("a file in OUT_DIR");
        println!("cargo::rustc-link-arg-bin={name}=-L{}", folder.display());
        println!("cargo::rustc-link-arg-bin={name}=-Tlink.x");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
