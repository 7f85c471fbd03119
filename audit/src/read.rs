//! Reading records again.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::file::earlier;
use crate::record::Record;

/// Files that are looked for: more than anybody keeps.
const MAX_FILES: u32 = 1000;
/// No line is longer.
const MAX_LINE: u64 = 64 << 10;

/// Which records are wanted.
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
        self.since.is_none_or(|since| record.time >= since)
            && is(&self.device, &record.device)
            && is(&self.bounty, &record.bounty)
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

/// Hands over the records that are wanted, the oldest first. How many lines were none.
///
/// # Errors
/// A file cannot be read; none is there; or whoever takes the records has an error.
pub fn read(
    path: &Path,
    filter: &Filter,
    mut each: impl FnMut(&Record) -> io::Result<()>,
) -> io::Result<u64> {
    // All are opened before any is read: none is missed that is moved meanwhile.
    let mut files = vec![File::open(path)];
    files.extend((1..MAX_FILES).map(|times| File::open(earlier(path, times))).take_while(Result::is_ok));
    let (mut odd, mut files) = (0, files.into_iter().collect::<io::Result<Vec<_>>>()?);
    files.reverse();
    for file in files {
        let mut lines = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            match serde_json::from_slice::<Record>(&line) {
                Ok(record) if filter.takes(&record) => each(&record)?,
                Ok(_) => {}
                Err(_) => odd += 1,
            }
        }
    }
    Ok(odd)
}

/// A record as people read it: when, what, and the rest as `name=value`.
pub fn words(record: &Record) -> String {
    let time = i64::try_from(record.time).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
    let mut words = time.map_or_else(|| record.time.to_string(), |time| format!("{time:.3}"));
    let fields = serde_json::to_value(record).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let _infallible = write!(words, " {}", fields.get("kind").map(text).unwrap_or_default());
    for (name, value) in fields.as_object().into_iter().flatten() {
        let value = text(value);
        // Nothing of others' texts moves a terminal's cursor or looks like a field.
        let plain = value.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '=');
        match name.as_str() {
            "time" | "kind" => {}
            _ if plain => drop(write!(words, " {name}={value}")),
            _ => drop(write!(words, " {name}={value:?}")),
        }
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
            let odd = read(&path, filter, |record| {
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
        assert!(read(&folder.path().join("none"), &Filter::default(), |_| Ok(())).is_err());
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
        let said = words(&record);
        assert!(said.starts_with("2026-11-23T14:00:00.000Z order-refused "), "{said}");
        assert!(
            said.contains(" who=127.0.0.1") && said.contains(r#" reason="no\u{1b}[2J token=x""#),
            "{said}"
        );
    }
}
