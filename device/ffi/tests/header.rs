//! The header that is kept is the one that cbindgen makes now, and firmware in C lives a whole round with it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};

const HEADER: &str = "include/posthouse_device.h";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `POSTHOUSE_WRITE_HEADER=1 cargo test -p posthouse-device-c --test header` writes it anew.
#[test]
fn the_header_is_the_sources() {
    let made = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(here().join("cbindgen.toml")).unwrap())
        .with_src(here().join("src/lib.rs"))
        .generate()
        .unwrap();
    let mut header = Vec::new();
    made.write(&mut header);
    let path = here().join(HEADER);
    if std::env::var_os("POSTHOUSE_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    assert_eq!(String::from_utf8(header).unwrap(), std::fs::read_to_string(path).unwrap());
}

/// The static library that cargo made for this test: beside it, under a name with a hash, of which the newest is of the
/// sources as they are.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let libraries = std::fs::read_dir(test.parent().unwrap()).unwrap().flatten().filter(|entry| {
        let name = entry.file_name().into_string().unwrap_or_default();
        name.starts_with("libposthouse_device_c") && name.ends_with(".a")
    });
    libraries.max_by_key(|entry| entry.metadata().unwrap().modified().unwrap()).unwrap().path()
}

/// Builds a program in C with the library, in `folder`, with these options beside the usual ones.
fn built(source: &str, folder: &Path, options: &[&str]) -> PathBuf {
    let program = folder.join("program");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args(options)
        .arg("-I")
        .arg(here().join("include"))
        .arg(here().join(source))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success(), "{source}: {status}");
    program
}

/// However wide the compiler has enumerations: the library must not depend on what firmware is built with.
#[test]
fn firmware_in_c_lives_a_round() {
    for width in ["-fshort-enums", "-fno-short-enums"] {
        let folder = tempfile::tempdir().unwrap();
        let program = built("tests/round.c", folder.path(), &[width]);
        let played = Command::new(&program).arg(here().join("../testdata")).output().unwrap();
        assert!(played.status.success(), "{width}: {}", String::from_utf8_lossy(&played.stderr));
    }
}

/// What the guide begins a port from.
#[test]
fn the_example_builds_and_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let program = built("examples/linux.c", folder.path(), &[]);
    let key = || Command::new(&program).arg(folder.path()).output().unwrap().stdout;
    let first = String::from_utf8(key()).unwrap();
    assert!(first.starts_with("02") || first.starts_with("03"), "{first}");
    assert_eq!((first.len(), first.as_bytes()), (67, key().as_slice()));
}

/// The example's life for a gateway that says nothing, with these hex arguments: the first line after its key, and if it ended
/// by itself instead, its exit and what it complained of.
fn begins(program: &Path, folder: &Path, hex: [&str; 3]) -> Result<String, (Option<i32>, String)> {
    let gateway = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut child = Command::new(program)
        .args([folder.to_str().unwrap(), "127.0.0.1", &gateway.local_addr().unwrap().port().to_string()])
        .args(hex)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().nth(1);
    if let Some(line) = line {
        child.kill().unwrap();
        child.wait().unwrap();
        return Ok(line.unwrap());
    }
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    Err((child.wait().unwrap().code(), complaint))
}

const RELEASE_KEY: &str = "02f250c54439c1f124924e5c6d52c168b2f24f761f145a4ecdacf41de99a6cacd4";
const UUID: &str = "11111111-1111-1111-1111-111111111111";

#[test]
fn the_example_takes_hex_that_is_whole_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let program = built("examples/linux.c", folder.path(), &[]);
    let begins = |hex: [&str; 3]| begins(&program, folder.path(), hex);
    assert_eq!(begins([RELEASE_KEY, UUID, UUID]).unwrap(), "runs version 0");
    let one_digit = RELEASE_KEY.replace("4439", "44 9");
    for wrong in [&RELEASE_KEY[2..], &format!("{RELEASE_KEY}00"), &one_digit, &format!("{RELEASE_KEY}-")] {
        assert_eq!(begins([wrong, UUID, UUID]).unwrap_err().0, Some(2), "{wrong}");
    }
    for wrong in ["", "11111111-1111-1111-1111-11111111111", "11111111-1111-1111-1111-1111111111111"] {
        assert_eq!(begins([RELEASE_KEY, UUID, wrong]).unwrap_err().0, Some(2), "{wrong}");
    }
}

/// A file that cannot be read is none that is not there: the sensor would forget what it has signed, or write over what runs.
#[test]
fn the_example_stops_at_what_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let program = built("examples/linux.c", folder.path(), &[]);
    let begins = || begins(&program, folder.path(), [RELEASE_KEY, UUID, UUID]);
    let file = |name| folder.path().join(name);
    // A page whose write was cut off at once.
    std::fs::write(file("page-0"), []).unwrap();
    assert_eq!(begins().unwrap(), "runs version 0");
    // A folder is opened, and not read.
    for name in ["page-1", "boot"] {
        std::fs::create_dir(file(name)).unwrap();
        let (code, complaint) = begins().unwrap_err();
        assert_eq!(code, Some(1), "{name}: {complaint}");
        std::fs::remove_dir(file(name)).unwrap();
    }
    for record in ["", "a", "c23456789012345678901234567890123"] {
        std::fs::write(file("boot"), record).unwrap();
        assert_eq!(begins().unwrap_err(), (Some(1), "boot: is no record of a slot\n".into()), "{record}");
    }
    std::fs::write(file("boot"), "b23456789012345678901234567890123").unwrap();
    assert_eq!(begins().unwrap(), "runs version 0");
}

/// What a gateway with the release of `testdata` answers.
fn answer(datagram: &[u8]) -> Option<Vec<u8>> {
    let vector = |name| std::fs::read(here().join("../testdata").join(name)).unwrap();
    let request = Packet::from_bytes(datagram).unwrap();
    let MessageClass::Request(method) = request.header.code else { return None };
    let path: Vec<_> = request.get_option(CoapOption::UriPath)?.iter().map(Vec::as_slice).collect();
    let mut answer = Packet::new();
    let code = match (method, &path[..]) {
        (RequestType::Post, _) => ResponseType::Changed,
        (_, [_, b"manifest"]) => {
            answer.payload = vector("manifest.suit");
            ResponseType::Content
        }
        (_, [_, b"image", _]) => {
            let block = request.get_first_option(CoapOption::Block2)?;
            let value = block.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
            let (image, size) = (vector("image.bin"), 16 << (value & 7));
            answer.payload = image.chunks(size).nth(value >> 4)?.to_vec();
            answer.add_option(CoapOption::Block2, block.clone());
            ResponseType::Content
        }
        _ => ResponseType::NotFound,
    };
    answer.header.set_version(1);
    answer.header.set_type(MessageType::Acknowledgement);
    answer.header.code = MessageClass::Response(code);
    answer.header.message_id = request.header.message_id;
    answer.set_token(request.get_token().to_vec());
    answer.to_bytes().ok()
}

/// Its whole loop: fetches, reboots into what it has fetched, and says so.
#[test]
fn the_example_updates_itself() {
    let folder = tempfile::tempdir().unwrap();
    let program = built("examples/linux.c", folder.path(), &[]);
    let gateway = UdpSocket::bind("127.0.0.1:0").unwrap();
    let key: String = std::fs::read(here().join("../testdata/release.key"))
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut child = Command::new(&program)
        .args([
            folder.path().to_str().unwrap(),
            "127.0.0.1",
            &gateway.local_addr().unwrap().port().to_string(),
        ])
        .args([&key, UUID, UUID])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((len, from)) = gateway.recv_from(&mut datagram) {
            if let Some(answer) = answer(&datagram[..len]) {
                gateway.send_to(&answer, from).unwrap();
            }
        }
    });
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<String> = said.skip(1).take(3).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(said, ["runs version 0", "reboots", "runs version 2"]);
    let (a, image) = (folder.path().join("a"), here().join("../testdata/image.bin"));
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(image).unwrap());
}
