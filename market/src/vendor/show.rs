//! Money, time and shares of a whole as people read them. What programs read has wei and unix seconds.

use alloy::primitives::U256;

/// Wei as ether, exact and without zeros at the end.
pub(super) fn ether(wei: U256) -> String {
    let unit = U256::from(10).pow(U256::from(18));
    let (whole, fraction) = wei.div_rem(unit);
    let fraction = format!("{fraction:0>18}");
    match fraction.trim_end_matches('0') {
        "" => format!("{whole} ether"),
        fraction => format!("{whole}.{fraction} ether"),
    }
}

/// Wei per gas as gwei.
pub(super) fn gwei(wei: u128) -> String {
    let fraction = format!("{:09}", wei % 1_000_000_000);
    match fraction.trim_end_matches('0') {
        "" => format!("{} gwei", wei / 1_000_000_000),
        fraction => format!("{}.{fraction} gwei", wei / 1_000_000_000),
    }
}

/// 1/10000 as a percentage.
pub(super) fn percent(bps: u64) -> String {
    format!("{}.{:02}%", bps / 100, bps % 100)
}

/// How many of how many, in 1/10000, rounded down: all only when it is all.
pub(super) fn bps_of(part: u32, whole: u32) -> u64 {
    u64::from(part) * 10_000 / u64::from(whole.max(1))
}

/// A moment and how far it is from `now`, both unix seconds.
pub(super) fn moment(time: u64, now: u64) -> String {
    match time.checked_sub(now) {
        Some(left) => format!("{} (in {})", utc(time), span(left)),
        None => format!("{} ({} ago)", utc(time), span(now - time)),
    }
}

/// The two largest units of a length of time.
pub(super) fn span(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let parts = units.map(|(unit, length)| {
        let count = rest / length;
        rest %= length;
        (count, unit)
    });
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let shown = parts.iter().skip(first).take(2).filter(|(count, _)| *count > 0 || seconds == 0);
    shown.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

/// Unix seconds in UTC, ISO 8601. The date is Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>): years begin in March, so that the leap day is their last.
pub(super) fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        let wei = |text: &str| text.parse::<U256>().unwrap();
        assert_eq!(ether(wei("0")), "0 ether");
        assert_eq!(ether(wei("1")), "0.000000000000000001 ether");
        assert_eq!(ether(wei("2500000000000000000")), "2.5 ether");
        assert_eq!(ether(wei("1000000000000000000000")), "1000 ether");
        assert_eq!(
            (gwei(1), gwei(1_500_000_000), gwei(0)),
            ("0.000000001 gwei".into(), "1.5 gwei".into(), "0 gwei".into())
        );
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
            ((1 << 40) - 1, "36812-02-20T00:36:15Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
        assert_eq!(moment(90, 30), "1970-01-01T00:01:30Z (in 1m)");
        assert_eq!(moment(30, 90_030), "1970-01-01T00:00:30Z (1d 1h ago)");
        assert_eq!((span(0), span(3_601), span(86_400)), ("0s".into(), "1h".into(), "1d".into()));
    }

    #[test]
    fn all_is_all() {
        assert_eq!(percent(bps_of(999_999, 1_000_000)), "99.99%");
        assert_eq!(percent(bps_of(u32::MAX, u32::MAX)), "100.00%");
        assert_eq!(percent(bps_of(1, 3)), "33.33%");
    }
}
