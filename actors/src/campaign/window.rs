//! Maintenance windows: days and hours of local time.

use std::str::FromStr;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};
use serde::Deserialize;
use thiserror::Error;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const DAY: u16 = 24 * 60;

/// `22:00-05:30`, or `Mon-Fri,Sun 22:00-05:30`: from the first minute up to the last, which may be of the next day. The
/// days are those that it begins on.
///
/// Both ends are times of the wall clock. Where summer time leaves one out, it is as much later; where a time comes twice, it
/// is the first. A window of which nothing would be left so is as long as ever from its beginning on. So there is each window
/// once on each of its days, and one over midnight ends when people expect it, whatever hours the night had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Window {
    /// From Monday, a bit each.
    days: u8,
    /// Minutes from midnight.
    from: u16,
    /// Minutes from the same midnight, above `from`.
    to: u16,
}

/// Why a window cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no window, such as \"22:00-05:30\" or \"Mon-Fri,Sun 22:00-05:30\"")]
pub struct WindowError(String);

impl Window {
    /// Whether it is open at an instant.
    pub fn is_open(&self, at: &Zoned) -> bool {
        // One that began yesterday may still be open.
        let begun = [Some(at.date()), at.date().yesterday().ok()];
        begun.into_iter().flatten().any(|day| {
            self.is_on(day.weekday())
                && self.span(day, at.time_zone()).is_some_and(|(from, to)| {
                    let now = at.timestamp();
                    from <= now && now < to
                })
        })
    }

    fn is_on(&self, day: Weekday) -> bool {
        self.days >> day.to_monday_zero_offset() & 1 == 1
    }

    fn span(&self, day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        let (from, to) = (self.instant(day, self.from, zone)?, self.instant(day, self.to, zone)?);
        let length = i64::from(self.to - self.from).minutes();
        Some((from, if from < to { to } else { from.checked_add(length).ok()? }))
    }

    fn instant(&self, day: Date, minutes: u16, zone: &TimeZone) -> Option<Timestamp> {
        let day = day.checked_add(i32::from(minutes / DAY).days()).ok()?;
        let (hour, minute) = ((minutes % DAY) / 60, minutes % 60);
        let time = day.at(hour as i8, minute as i8, 0, 0);
        zone.to_ambiguous_zoned(time).compatible().ok().map(|zoned| zoned.timestamp())
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let parse = || {
            let (days, hours) = match text.trim().split_once(' ') {
                Some((list, hours)) => (days(list)?, hours.trim()),
                None => (0x7f, text.trim()),
            };
            let (from, to) = hours.split_once('-')?;
            let (from, to) = (minutes(from)?, minutes(to)?);
            let to = if to <= from { to + DAY } else { to };
            (from < DAY && to <= from + DAY).then_some(Self { days, from, to })
        };
        parse().ok_or_else(|| WindowError(text.to_owned()))
    }
}

impl TryFrom<String> for Window {
    type Error = WindowError;

    fn try_from(text: String) -> Result<Self, WindowError> {
        text.parse()
    }
}

/// `Mon-Wed,Sat`: bits from Monday. A range may go over the end of the week.
fn days(list: &str) -> Option<u8> {
    list.split(',').try_fold(0, |days, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (7 + last - first) % 7;
        Some((0..=count).fold(days, |days, more| days | 1 << ((first + more) % 7)))
    })
}

fn day(name: &str) -> Option<u8> {
    let found = DAYS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
    found.map(|(_, day)| day.to_monday_zero_offset() as u8)
}

/// `HH:MM`, up to `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
    let (hours, minutes): (u16, u16) =
        (digits(hours) && digits(minutes)).then(|| Some((hours.parse().ok()?, minutes.parse().ok()?)))??;
    (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Berlin, without a time zone database.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn open(window: &str, utc: &str) -> bool {
        let at: Timestamp = utc.parse().unwrap();
        window.parse::<Window>().unwrap().is_open(&at.to_zoned(berlin()))
    }

    #[test]
    fn a_window_is_open_from_its_first_minute_to_before_its_last() {
        // A Monday in winter: one hour ahead of UTC.
        for (window, utc, expected) in [
            ("01:00-05:00", "2026-11-22T23:59:59Z", false),
            ("01:00-05:00", "2026-11-23T00:00:00Z", true),
            ("01:00-05:00", "2026-11-23T03:59:59Z", true),
            ("01:00-05:00", "2026-11-23T04:00:00Z", false),
            ("00:00-24:00", "2026-11-23T22:59:59Z", true),
            ("22:00-05:30", "2026-11-23T21:30:00Z", true),
            ("22:00-05:30", "2026-11-23T04:29:59Z", true),
            ("22:00-05:30", "2026-11-23T04:30:00Z", false),
            // The days are those that it begins on: Sunday's lasts into Monday, Monday's does not begin on Sunday.
            ("Sun 22:00-05:30", "2026-11-23T04:00:00Z", true),
            ("Mon 22:00-05:30", "2026-11-23T04:00:00Z", false),
            ("Mon-Fri 00:00-24:00", "2026-11-22T22:30:00Z", false),
            ("Mon-Fri 00:00-24:00", "2026-11-22T23:00:00Z", true),
            ("Sat-Mon 00:00-24:00", "2026-11-23T12:00:00Z", true),
            ("tue,MON 12:00-12:01", "2026-11-23T11:00:30Z", true),
        ] {
            assert_eq!(open(window, utc), expected, "{window} at {utc}");
        }
    }

    #[test]
    fn an_hour_that_summer_time_leaves_out_is_made_up_for() {
        // On 2026-03-29 the clock goes from 02:00 to 03:00, at 01:00 UTC.
        for (window, utc, expected) in [
            ("02:15-02:45", "2026-03-29T01:14:59Z", false),
            ("02:15-02:45", "2026-03-29T01:15:00Z", true),
            ("02:15-02:45", "2026-03-29T01:45:00Z", false),
            // Nothing would be left of these: they last as long as ever.
            ("02:00-03:00", "2026-03-29T00:59:59Z", false),
            ("02:00-03:00", "2026-03-29T01:00:00Z", true),
            ("02:00-03:00", "2026-03-29T01:59:59Z", true),
            ("02:00-03:00", "2026-03-29T02:00:00Z", false),
            ("02:30-03:00", "2026-03-29T01:30:00Z", true),
            ("02:30-03:00", "2026-03-29T02:00:00Z", false),
            // Ends by the wall clock: an hour shorter.
            ("22:00-05:00", "2026-03-29T02:59:59Z", true),
            ("22:00-05:00", "2026-03-29T03:00:00Z", false),
        ] {
            assert_eq!(open(window, utc), expected, "{window} at {utc}");
        }
    }

    #[test]
    fn an_hour_that_comes_twice_counts_once() {
        // On 2026-10-25 the clock goes from 03:00 back to 02:00, at 01:00 UTC.
        for (window, utc, expected) in [
            ("02:15-02:45", "2026-10-25T00:15:00Z", true),
            ("02:15-02:45", "2026-10-25T01:15:00Z", false),
            ("22:00-05:00", "2026-10-25T03:59:59Z", true),
            ("22:00-05:00", "2026-10-25T04:00:00Z", false),
        ] {
            assert_eq!(open(window, utc), expected, "{window} at {utc}");
        }
    }

    #[test]
    fn what_is_no_window_is_named() {
        for text in [
            "",
            "-",
            "1:00-2:00",
            "01:00",
            "01:00-25:00",
            "01:60-02:00",
            "24:00-01:00",
            "Mo 01:00-02:00",
            "Mon- 01:00-02:00",
            "01:00-02:00 Mon",
            "+1:00-02:00",
            "01:00-24:01",
        ] {
            let error = text.parse::<Window>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert_eq!("06:00-06:00".parse::<Window>().unwrap(), Window { days: 0x7f, from: 360, to: 1800 });
    }

    proptest::proptest! {
        /// Each window is open for its length on an ordinary day, whatever it is.
        #[test]
        fn a_window_is_open_as_long_as_it_says(from in 0..24u16, length in 1..=24u16) {
            let window: Window = format!("{from:02}:00-{:02}:00", (from + length) % 24).parse().unwrap();
            let start: Timestamp = "2026-07-06T22:00:00Z".parse().unwrap();
            let hours = (0..24).filter(|hour| window.is_open(&(start + hour.hours()).to_zoned(berlin()))).count();
            proptest::prop_assert_eq!(hours, usize::from(length));
        }
    }
}
