//! Takes the fleet from a list of device keys, line by line: a million of them need no memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;
use posthouse_contracts::fleet::{Fleet, FleetError};
use posthouse_protocol::id::DeviceKey;
use serde::Serialize;

use super::config::Config;
use crate::console;
use crate::database::Lock;
use crate::secret_file;

/// Longest line of a list: a key takes 66 characters, the rest is for a comment.
const MAX_LINE: u64 = 1024;

/// The fleet as the contract will know it.
#[derive(Debug, Serialize)]
pub(super) struct Enrolled {
    devices: u32,
    root: String,
    depth: u8,
    curve: String,
}

/// Makes the fleet of the list, or leaves the old one as it is.
pub(super) fn enrol(config: &Config, devices: &Path, json: bool) -> anyhow::Result<Enrolled> {
    let name = || devices.display().to_string();
    let list = File::open(devices).with_context(name)?;
    secret_file::create_folder(&config.state_dir)?;
    let _lock = Lock::take(&config.state_dir, "vendor.lock")?;
    let keys = Keys::of(BufReader::new(list)).map(|key| key.map(|(_, key)| key));
    let bar = console::devices_bar("enrolling", !json);
    let made = Fleet::create(&config.fleet_path(), config.curve, keys, &mut console::counts(&bar));
    bar.finish_and_clear();
    let fleet = made.map_err(|error| with_lines(error, devices)).with_context(name)?;
    Ok(Enrolled {
        devices: fleet.size(),
        root: fleet.root().to_string(),
        depth: fleet.depth(),
        curve: fleet.curve().to_string(),
    })
}

/// Says in which lines of the list the devices stand that are wrong, by reading it once more.
fn with_lines(error: anyhow::Error, devices: &Path) -> anyhow::Error {
    let places = match error.downcast_ref() {
        Some(FleetError::Key { index, .. }) => vec![*index],
        Some(FleetError::Duplicate { first, second }) => vec![*first, *second],
        _ => return error,
    };
    let lines: Vec<_> = places.iter().filter_map(|place| line_of(devices, *place)).collect();
    match lines[..] {
        [line] => error.context(format!("line {line}")),
        [first, second] => error.context(format!("lines {first} and {second}")),
        // A pipe is read once only.
        _ => error,
    }
}

fn line_of(devices: &Path, place: u32) -> Option<u64> {
    let mut keys = Keys::of(BufReader::new(File::open(devices).ok()?));
    keys.nth(place as usize)?.ok().map(|(line, _)| line)
}

/// The keys of a list, each with the number of its line, from 1.
struct Keys<R> {
    list: R,
    text: Vec<u8>,
    line: u64,
}

impl<R: BufRead> Keys<R> {
    fn of(list: R) -> Self {
        Self { list, text: Vec::new(), line: 0 }
    }

    /// The key of the line that was read, if it is not empty.
    fn key(&self) -> anyhow::Result<Option<DeviceKey>> {
        let whole = (self.text.len() as u64) < MAX_LINE || self.text.ends_with(b"\n");
        anyhow::ensure!(whole, "longer than {MAX_LINE} bytes");
        let text = str::from_utf8(&self.text)?;
        let key = text.split('#').next().unwrap_or_default().trim();
        if key.is_empty() {
            return Ok(None);
        }
        key.parse().map(Some).with_context(|| format!("{key:?}"))
    }
}

impl<R: BufRead> Iterator for Keys<R> {
    type Item = anyhow::Result<(u64, DeviceKey)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.text.clear();
            match self.list.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.text) {
                Ok(0) => return None,
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(error.into())),
            }
            if let Some(key) = self.key().transpose() {
                let line = self.line;
                return Some(key.map(|key| (line, key)).with_context(|| format!("line {line}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(list: &[u8]) -> anyhow::Result<Vec<(u64, DeviceKey)>> {
        Keys::of(list).collect()
    }

    #[test]
    fn comments_and_empty_lines_are_counted_and_passed_over() {
        let key = "02".repeat(33);
        let list = format!("# two\n\n{key}\r\n  {key} # the mill\n#");
        let device = DeviceKey::new([2; 33]);
        assert_eq!(keys(list.as_bytes()).unwrap(), [(3, device), (4, device)]);
        assert_eq!(keys(b"").unwrap(), []);
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line() {
        let said = |list: &[u8]| format!("{:#}", keys(list).unwrap_err());
        assert!(said(b"#\n0203\n").starts_with("line 2: \"0203\": "));
        assert!(said(b"\xff\xfe\n").starts_with("line 1: "));
        assert!(said(&[b'#'; 2000]).contains("line 1: longer than 1024 bytes"));
        let mut long = vec![b'#'; 1023];
        long.extend(b"\n0");
        assert!(said(&long).starts_with("line 2: "), "a line may have 1024 bytes");
    }
}
