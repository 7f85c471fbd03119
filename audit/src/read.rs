//! Reading records again.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::file::earlier;
use crate::record::{Kind, Record};

/// Files that are looked for: more than anybody keeps.
const MAX_FILES: u32 = 1000;
/// No line is longer.
const MAX_LINE: u64 = 64 << 10;

/// Which records are wanted. Those that say that others are missing ([`Kind::LeftOut`], [`Kind::Healed`]) may be about any sensor and any
/// update, and are wanted with them.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those since this moment, Unix milliseconds.
    pub since: Option<u64>,
    /// Those about this sensor, by its device id.
    pub device: Option<String>,
    /// Those about this update, by its bounty, with or without `0x`.
    pub bounty: Option<String>,
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let bare = |text: &str| text.trim_start_matches("0x").to_ascii_lowercase();
        let is = |wanted: &Option<String>, found: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| found.as_ref().is_some_and(|found| bare(found) == bare(wanted)))
        };
        let is_about = is(&self.device, &record.device) && is(&self.bounty, &record.bounty);
        let is_gap = matches!(record.kind, Kind::LeftOut | Kind::Healed);
        self.since.is_none_or(|since| record.time >= since) && (is_about || is_gap)
    }
}

/// A time that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?}: a time is one as 2026-11-23T14:00:00Z, a day as 2026-11-23 (UTC), or how long ago: 90s, 15m, 6h, 30d"
)]
pub struct TimeError(String);

/// A moment as people write it, Unix milliseconds; `now` for those that are told by how long ago they were.
///
/// # Errors
/// [`TimeError`].
pub fn moment(text: &str, now: u64) -> Result<u64, TimeError> {
    let wrong = || TimeError(text.to_owned());
    let millis = |at: Timestamp| u64::try_from(at.as_millisecond()).map_err(|_| wrong());
    if let Ok(at) = text.parse::<Timestamp>() {
        return millis(at);
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        return millis(day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?.timestamp());
    }
    let seconds = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let ago = Duration::from_secs(count.saturating_mul(seconds));
    Ok(now.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
}

/// Hands over the records that are wanted, the oldest first, each with its line as it is in the file: a later version may have said more
/// in it. How many lines were none.
///
/// # Errors
/// A file cannot be read; none is there; or whoever takes the records has an error.
pub fn read(
    path: &Path,
    filter: &Filter,
    mut each: impl FnMut(&Record, &str) -> io::Result<()>,
) -> io::Result<u64> {
    let mut odd = 0;
    for file in files(path)?.into_iter().rev() {
        let mut lines = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let line = str::from_utf8(&line).unwrap_or_default().trim_end();
            match serde_json::from_str::<Record>(line) {
                Ok(record) if filter.takes(&record) => each(&record, line)?,
                Ok(_) => {}
                Err(_) => odd += 1,
            }
        }
    }
    Ok(odd)
}

/// All files that there are, the newest first, whichever numbers are missing. All are opened before any is read, and in the order in
/// which they are moved: one that is moved meanwhile is not missed, and met twice at most.
fn files(path: &Path) -> io::Result<Vec<File>> {
    let (mut files, mut known) = (Vec::new(), HashSet::new());
    for times in 0..MAX_FILES {
        let file = if times == 0 { File::open(path) } else { File::open(earlier(path, times)) };
        match file {
            Ok(file) => {
                let is = file.metadata()?;
                if known.insert((is.dev(), is.ino())) {
                    files.push(file);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if files.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(files) }
}

/// A record's line as people read it: when, what, and the rest as `name=value`.
pub fn words(line: &str) -> String {
    let fields: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
    // Nothing of others' texts moves a terminal's cursor or looks like a field.
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=');
    let shown = |text: String| if plain(&text) { text } else { format!("{text:?}") };
    let text = |value: &Value| shown(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let of = |name: &str| fields.get(name).map(text).unwrap_or_default();
    let time = fields.get("time").and_then(Value::as_i64);
    let time = time.and_then(|time| Timestamp::from_millisecond(time).ok());
    let mut words = time.map_or_else(|| of("time"), |time| format!("{time:.3}"));
    let _infallible = write!(words, " {}", of("kind"));
    for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "time" | "kind")) {
        let _infallible = write!(words, " {}={}", shown(name.clone()), text(value));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Bounds, Log};
    use crate::record::Kind;

    #[test]
    fn a_moment_is_told_in_three_ways() {
        let now = 1_795_442_400_000;
        assert_eq!(moment("2026-11-23T14:00:00Z", 0), Ok(now));
        assert_eq!(moment("2026-11-23", 0), Ok(now - 14 * 3_600_000));
        assert_eq!(moment("6h", now), Ok(now - 6 * 3_600_000));
        assert_eq!(moment("15m", now), Ok(now - 900_000));
        for wrong in ["", "h", "yesterday", "2026-13-01", "5é", "-1d"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_oldest_come_first_and_only_those_that_are_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new(&path, Bounds { bytes: 300, files: 3 });
        let record = |time: u64| Record {
            time,
            kind: Kind::SensorInstalled,
            device: Some(format!("{:032x}", time % 2)),
            bounty: Some(format!("0x{:040X}", time % 3)),
            ..Record::default()
        };
        (0..8).for_each(|time| log.append(&record(time).line()).unwrap());
        log.append(b"nonsense\n").unwrap();
        let times = |filter: &Filter| {
            let mut times = Vec::new();
            let odd = read(&path, filter, |record, _| {
                times.push(record.time);
                Ok(())
            });
            assert_eq!(odd.unwrap(), 1);
            times
        };
        let all = times(&Filter::default());
        assert!(
            all.len() > 3 && all.windows(2).all(|pair| pair[0] + 1 == pair[1]) && all.ends_with(&[7]),
            "{all:?}"
        );
        let filter = |since, device: Option<u64>, bounty: Option<u64>| Filter {
            since,
            device: device.map(|device| format!("{device:032x}")),
            bounty: bounty.map(|bounty| format!("{bounty:040x}")),
        };
        assert_eq!(times(&filter(Some(6), None, None)), [6, 7]);
        assert_eq!(times(&filter(Some(4), Some(1), None)), [5, 7]);
        assert_eq!(times(&filter(Some(4), None, Some(1))), [4, 7]);
        assert!(read(&folder.path().join("none"), &Filter::default(), |_, _| Ok(())).is_err());
    }

    fn found(path: &Path, filter: &Filter) -> (Vec<String>, u64) {
        let mut lines = Vec::new();
        let odd = read(path, filter, |_, line| {
            lines.push(line.to_owned());
            Ok(())
        });
        (lines, odd.unwrap())
    }

    fn line(time: u64, rest: &str) -> String {
        format!("{{\"time\":{time},\"kind\":\"started\"{rest}}}")
    }

    #[test]
    fn files_are_read_whichever_numbers_are_missing_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let times = || found(&path, &Filter::default()).0.concat();
        std::fs::write(earlier(&path, 3), line(1, "") + "\n").unwrap();
        assert_eq!(times(), line(1, ""), "none has the log's own name at the moment");
        std::fs::write(earlier(&path, 1), line(2, "") + "\n").unwrap();
        assert_eq!(times(), [line(1, ""), line(2, "")].concat());
        // As it looks when it is moved in between.
        std::fs::hard_link(earlier(&path, 1), &path).unwrap();
        assert_eq!(times(), [line(1, ""), line(2, "")].concat());
    }

    #[test]
    fn that_others_are_missing_is_told_whatever_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new(&path, Bounds::default());
        let at = |time, kind| Record { time, kind, ..Record::default() };
        for record in [at(1, Kind::Healed), at(2, Kind::LeftOut), at(3, Kind::Started), at(4, Kind::LeftOut)]
        {
            log.append(&record.line()).unwrap();
        }
        let mut kinds = Vec::new();
        let filter = Filter { since: Some(2), device: Some("00".into()), bounty: Some("0x00".into()) };
        let each = |record: &Record, _: &str| {
            kinds.push((record.time, record.kind));
            Ok(())
        };
        assert_eq!(read(&path, &filter, each).unwrap(), 0);
        assert_eq!(kinds, [(2, Kind::LeftOut), (4, Kind::LeftOut)]);
    }

    #[test]
    fn lines_of_later_versions_are_found_and_shown_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let later = r#"{"time":0,"kind":"moon-seen","device":"ab","phase":{"of":"x y"},"of":"sun-seen"}"#;
        let lines = [later, &line(7, r#","device":"ab","a\u001b[2J":1"#), r#"{"device":"ab"}"#];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let filter = Filter { device: Some("ab".into()), ..Filter::default() };
        let (shown, odd) = found(&path, &filter);
        assert_eq!((shown, odd), (lines[..2].iter().map(|line| (*line).to_owned()).collect(), 1));
        assert_eq!(
            words(later),
            r#"1970-01-01T00:00:00.000Z moon-seen device=ab of=sun-seen phase="{\"of\":\"x y\"}""#
        );
        assert!(words(lines[1]).contains(r#""a\u{1b}[2J"=1"#), "{}", words(lines[1]));
    }

    #[test]
    fn words_show_what_there_is_and_nothing_of_others_as_it_came() {
        let record = Record {
            time: 1_795_442_400_000,
            kind: Kind::OrderRefused,
            who: Some("127.0.0.1".into()),
            reason: Some("no\u{1b}[2J token=x".into()),
            ..Record::default()
        };
        let said = words(str::from_utf8(&record.line()).unwrap());
        assert!(said.starts_with("2026-11-23T14:00:00.000Z order-refused "), "{said}");
        assert!(
            said.contains(" who=127.0.0.1") && said.contains(r#" reason="no\u{1b}[2J token=x""#),
            "{said}"
        );
    }
}
