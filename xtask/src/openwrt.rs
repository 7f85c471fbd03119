//! The package for OpenWrt: `gateway-small`, linked statically with musl in the chroot of [`crate::chroot`], as an .ipk.
//!
//! zig is the C compiler and linker: it has musl and an unwinder for every processor, where Debian's has glibc's. The standard library
//! is made from source, as Debian has none for musl, without what prints backtraces: a stripped program has no names to print.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    chroot::Chroot,
    licences,
    run::{cmd, run},
    tools,
};

/// Inside the chroot.
const BUILD: &str = "
export RUSTC_BOOTSTRAP=1 RUSTFLAGS='-C link-self-contained=no'
export CARGO_ZIGBUILD_ZIG_PATH=\"$(echo /tools/lib/python3*/site-packages/ziglang/zig)\"
export PATH=/tools/bin:$PATH XDG_CACHE_HOME=/target/cache
cargo zigbuild --profile release-small --locked --offline -Zbuild-std=std,panic_abort -Zbuild-std-features= \\
    --target aarch64-unknown-linux-musl -p posthouse-agent --no-default-features --features gateway-small
";
const PROGRAM: &str = "aarch64-unknown-linux-musl/release-small/posthouse";
/// What is packed: from here, to there, with which mode. The program comes first.
const FILES: [(&str, &str, u32); 5] = [
    ("packaging/openwrt/posthouse/files/posthouse.config", "etc/config/posthouse", 0o600),
    ("packaging/openwrt/posthouse/files/posthouse.init", "etc/init.d/posthouse", 0o755),
    ("packaging/openwrt/posthouse/files/posthouse.keep", "lib/upgrade/keep.d/posthouse", 0o644),
    ("packaging/config/posthouse.toml", "usr/share/posthouse/posthouse.toml", 0o644),
    ("LICENSE-MIT", "usr/share/licenses/posthouse/LICENSE-MIT", 0o644),
];
/// Where the licences of others are in the package.
const LICENCES: &str = "usr/share/licenses/posthouse";
/// OpenWrt's own steps, which make the user that `Require-User` names and let the service be started; as its build writes them.
const SCRIPTS: [(&str, &str); 2] = [("postinst", "default_postinst"), ("prerm", "default_prerm")];
/// 2026-01-01, of every file in the package: the same program gives the same package.
const TIME: &str = "--mtime=@1767225600";

/// Makes it for routers of that architecture, by opkg's name: `target/openwrt/posthouse_<version>_<architecture>.ipk`.
pub(crate) fn ipk(architecture: &str) -> Result<PathBuf> {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-+.".contains(c);
    ensure!(
        architecture.starts_with("aarch64") && architecture.chars().all(known),
        "{architecture}: not an aarch64"
    );
    pack(&build()?, &[musl()?], &tools::target()?.join("openwrt"), architecture)
}

/// The licence of the C library that is linked in, as zig has it.
pub(crate) fn musl() -> Result<(&'static str, String)> {
    let libraries = fs::read_dir(tools::zig(&tools::target()?)?.join("lib"))?;
    let file = |python: PathBuf| python.join("site-packages/ziglang/lib/libc/musl/COPYRIGHT");
    let file = libraries.flatten().map(|entry| file(entry.path())).find(|file| file.is_file());
    Ok(("musl", fs::read_to_string(file.context("zig has no licence of musl")?)?))
}

/// Packs the program in `folder`; `linked` are names and licences of what is in it and no crate.
fn pack(program: &Path, linked: &[(&str, String)], folder: &Path, architecture: &str) -> Result<PathBuf> {
    let (data, control) = (folder.join("data"), folder.join("control"));
    for old in [&data, &control] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
        fs::create_dir_all(old)?;
    }
    place(program, &data.join("usr/bin/posthouse"), 0o755)?;
    for (from, to, mode) in FILES {
        place(Path::new(from), &data.join(to), mode)?;
    }
    licences::write(licences::OPENWRT, &data.join(LICENCES), linked)?;
    let version = format!("{}-r1", env!("CARGO_PKG_VERSION"));
    describe(&control, &version, architecture, fs::metadata(program)?.len())?;
    fs::write(folder.join("debian-binary"), "2.0\n")?;
    archive(&data, "..", "data.tar.gz", &["."])?;
    archive(&control, "..", "control.tar.gz", &["."])?;
    let name = format!("posthouse_{version}_{architecture}.ipk");
    archive(folder, ".", &name, &["./debian-binary", "./data.tar.gz", "./control.tar.gz"])?;
    Ok(folder.join(name))
}

/// The static program.
fn build() -> Result<PathBuf> {
    let target = tools::target()?;
    let zig = tools::zig(&target)?;
    let chroot = Chroot::ready()?;
    run(&mut cmd("cargo fetch --locked"))?;
    chroot.fetch_std()?;
    let made = target.join("cross");
    chroot.run(BUILD, &made, Some(&zig), &[])?;
    Ok(made.join(PROGRAM))
}

fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// What opkg is told of the package, and what it runs.
fn describe(folder: &Path, version: &str, architecture: &str, size: u64) -> Result<()> {
    let control = format!(
        "Package: posthouse\nVersion: {version}\nDepends: libc, ca-bundle\nSource: packaging/openwrt/posthouse\nSection: net\n\
         License: MIT OR Apache-2.0\nRequire-User: posthouse:posthouse\nArchitecture: {architecture}\n\
         Installed-Size: {size}\nDescription:  Buys firmware updates for the sensors behind this router.\n"
    );
    fs::write(folder.join("control"), control)?;
    fs::write(folder.join("conffiles"), "/etc/config/posthouse\n")?;
    for (name, function) in SCRIPTS {
        let library = "${IPKG_INSTROOT}/lib/functions.sh";
        let script =
            format!("#!/bin/sh\n[ -s \"{library}\" ] || exit 0\n. \"{library}\"\n{function} \"$0\" \"$@\"\n");
        fs::write(folder.join(name), script)?;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// A compressed archive of `names` in `folder`, as opkg reads it.
fn archive(folder: &Path, into: &str, name: &str, names: &[&str]) -> Result<()> {
    let mut tar = cmd("tar --format=gnu --numeric-owner --owner=0 --group=0 --sort=name");
    tar.args([TIME, "--use-compress-program=gzip -n", "-cf"]).arg(Path::new(into).join(name)).args(names);
    run(tar.current_dir(folder)).map(drop)
}

/// The program of a package of now, the command line that it is run by, and where in the emulator's memory its own is then.
pub(crate) fn programs(folder: &Path) -> Result<(PathBuf, String, String)> {
    /// Far from whatever the emulator itself maps, and of any size that a router's program could use.
    const SPACE: (u64, u64) = (0x1000_0000_0000, 0x1_0000_0000);
    tools::emulator()?;
    let package = ipk("aarch64_generic")?;
    let root = folder.join("openwrt-root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    run(cmd("tar -xzf").arg(package).arg("-C").arg(&root))?;
    run(cmd("tar -xzf").arg(root.join("data.tar.gz")).arg("-C").arg(&root))?;
    let (start, size) = SPACE;
    let run = format!("{} -B {start:#x} -R {size:#x}", tools::EMULATOR);
    Ok((root.join("usr/bin"), run, format!("{start:x}-{:x}", start + size)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{FILES, LICENCES, cmd, licences, pack};

    #[test]
    fn opkg_finds_in_it_what_it_looks_for() {
        // Paths are those of the project, as the program itself sets it.
        std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the project");
        let folder = std::env::temp_dir().join(format!("posthouse-ipk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let package = pack(Path::new("/bin/true"), &[], &folder, "aarch64_generic").expect("a package");
        let listed = |archive: &Path| {
            let listed = cmd("tar -tzf").arg(archive).output().expect("tar").stdout;
            String::from_utf8(listed).expect("names")
        };
        assert!(package.ends_with(concat!(
            "posthouse_",
            env!("CARGO_PKG_VERSION"),
            "-r1_aarch64_generic.ipk"
        )));
        assert_eq!(listed(&package), "./debian-binary\n./data.tar.gz\n./control.tar.gz\n");
        assert_eq!(
            listed(&folder.join("control.tar.gz")),
            "./\n./conffiles\n./control\n./postinst\n./prerm\n"
        );
        let data = listed(&folder.join("data.tar.gz"));
        let there = |path: &str| data.lines().any(|line| line.strip_prefix("./") == Some(path));
        assert!(there(&format!("{LICENCES}/{}", licences::NAME)), "{data}");
        assert!(there("usr/bin/posthouse") && FILES.iter().all(|(_, path, _)| there(path)), "{data}");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_is_packed_is_there_and_the_feed_has_this_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let feed =
            std::fs::read_to_string(root.join("packaging/openwrt/posthouse/Makefile")).expect("the feed");
        assert!(feed.contains(concat!("PKG_VERSION:=", env!("CARGO_PKG_VERSION"), "\n")));
        for (from, to, _) in FILES {
            assert!(root.join(from).is_file(), "{from}");
            let name = Path::new(from).file_name().and_then(|name| name.to_str()).expect("a name");
            let place = Path::new(to).parent().and_then(Path::to_str).expect("a folder");
            assert!(feed.contains(name) && feed.contains(&format!("$(1)/{place}")), "{to}");
        }
    }
}
