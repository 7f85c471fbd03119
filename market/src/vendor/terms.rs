//! What a bounty pays, as the command line says it: `--group 0..1000=0.002ether`, `--bonus 50%/48h`.
//!
//! The contract refuses bad terms by one word, so that they are checked here, where each is told by its name.

use std::str::FromStr;

use posthouse_contracts::terms::{Group, MAX_GROUPS};
use thiserror::Error;

use super::config::MAX_SHARE;
use crate::settings::{Amount, AmountError, Span, SpanError, decimal};

/// What each device is worth, before the bonus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shares {
    /// The same wei for all, however many they are.
    Single(u128),
    /// By ranges of indices, which fit one size of fleet only; ascending.
    Groups(Vec<Group>),
}

impl Shares {
    /// The groups of a fleet as the contract takes them.
    pub(super) fn groups(&self, devices: u32) -> Vec<Group> {
        match self {
            Self::Single(share) => vec![Group { end_index: devices, share: *share }],
            Self::Groups(groups) => groups.clone(),
        }
    }

    /// Whether they cover a fleet of this size, no more and no less.
    pub(super) fn fit(&self, devices: u32) -> bool {
        match self {
            Self::Single(_) => true,
            Self::Groups(groups) => groups.last().is_some_and(|last| last.end_index == devices),
        }
    }
}

/// `BEGIN..END=AMOUNT`: wei for each device of a half-open range of indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupRange {
    pub(super) begin: u32,
    pub(super) end: u32,
    pub(super) share: u128,
}

/// Why a text is no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum GroupTextError {
    #[error("not a range and an amount such as \"0..1000=0.002ether\"")]
    Shape,
    #[error("an index is a number of at most 4294967295, without sign or separator")]
    Index,
    #[error(transparent)]
    Amount(#[from] AmountError),
}

impl FromStr for GroupRange {
    type Err = GroupTextError;

    fn from_str(text: &str) -> Result<Self, GroupTextError> {
        let (range, share) = text.split_once('=').ok_or(GroupTextError::Shape)?;
        let (begin, end) = range.split_once("..").ok_or(GroupTextError::Shape)?;
        let index = |text: &str| {
            let number = decimal(text.trim(), 0).ok_or(GroupTextError::Index)?;
            u32::try_from(number).map_err(|_| GroupTextError::Index)
        };
        let (begin, end) = (index(begin)?, index(end)?);
        Ok(Self { begin, end, share: share.parse::<Amount>()?.0 })
    }
}

/// Why ranges are no groups of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GroupError {
    /// More than the factory takes.
    #[error("{0} groups, at most {MAX_GROUPS}")]
    TooMany(usize),
    /// A range without a device.
    #[error("{begin}..{end} is empty: a range ends above where it begins")]
    Empty {
        /// Its first index.
        begin: u32,
        /// The index after its last.
        end: u32,
    },
    /// A share that the contract cannot hold or does not take.
    #[error("{begin}..{end}: {share} wei for a device, must be 1 wei to 2^96 - 1 wei")]
    Share {
        /// Its first index.
        begin: u32,
        /// The index after its last.
        end: u32,
        /// What it says.
        share: u128,
    },
    /// Devices that would have two shares.
    #[error("overlap: {begin}..{end} has devices of a range that ends at {covered}")]
    Overlap {
        /// The later range's first index.
        begin: u32,
        /// The index after its last.
        end: u32,
        /// How far the ranges before it go.
        covered: u32,
    },
    /// Devices that would have none.
    #[error("gap between {from} and {to}: a fleet of {devices} devices needs 0..{devices}")]
    Gap {
        /// First index that no range has.
        from: u32,
        /// The next that one has, or the size of the fleet.
        to: u32,
        /// Size of the fleet.
        devices: u32,
    },
    /// Devices that there are not.
    #[error("{begin}..{end} is beyond the fleet, which has {devices} devices")]
    Beyond {
        /// Its first index.
        begin: u32,
        /// The index after its last.
        end: u32,
        /// Size of the fleet.
        devices: u32,
    },
}

/// Puts ranges in order and holds them against the fleet.
///
/// # Errors
/// [`GroupError`]: the first thing that is wrong, by index.
pub(super) fn groups(ranges: &[GroupRange], devices: u32) -> Result<Vec<Group>, GroupError> {
    if ranges.len() > MAX_GROUPS {
        return Err(GroupError::TooMany(ranges.len()));
    }
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable_by_key(|range| (range.begin, range.end));
    let (mut groups, mut covered) = (Vec::with_capacity(ranges.len()), 0);
    for GroupRange { begin, end, share } in ranges {
        match () {
            () if end <= begin => return Err(GroupError::Empty { begin, end }),
            () if share == 0 || share > MAX_SHARE => return Err(GroupError::Share { begin, end, share }),
            () if begin < covered => return Err(GroupError::Overlap { begin, end, covered }),
            () if end > devices => return Err(GroupError::Beyond { begin, end, devices }),
            () if begin > covered => return Err(GroupError::Gap { from: covered, to: begin, devices }),
            () => {}
        }
        groups.push(Group { end_index: end, share });
        covered = end;
    }
    if covered < devices {
        return Err(GroupError::Gap { from: covered, to: devices, devices });
    }
    Ok(groups)
}

/// `PERCENT%/SPAN`: what a share is raised by at publication; it falls linearly to nothing within the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bonus {
    /// 1/10000 of a share.
    pub(super) bps: u16,
    /// From the publication on.
    pub(super) span: Span,
}

/// Why a text is no bonus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum BonusTextError {
    #[error("not a percentage and a length of time such as \"50%/48h\"")]
    Shape,
    #[error("a percentage has at most two decimals, as in \"12.25%\"")]
    Percent,
    #[error("the contract takes a bonus of 0.01% to 655.35%")]
    Bounds,
    #[error(transparent)]
    Span(#[from] SpanError),
    #[error("a bonus that ends at once is none")]
    Zero,
}

impl FromStr for Bonus {
    type Err = BonusTextError;

    fn from_str(text: &str) -> Result<Self, BonusTextError> {
        let (percent, span) = text.split_once('/').ok_or(BonusTextError::Shape)?;
        let percent = percent.trim().strip_suffix('%').ok_or(BonusTextError::Shape)?;
        // A hundredth of a percent is one of `BASIS_POINTS`.
        let bps = decimal(percent.trim_end(), 2).ok_or(BonusTextError::Percent)?;
        let bps = u16::try_from(bps).ok().filter(|bps| *bps > 0).ok_or(BonusTextError::Bounds)?;
        let span: Span = span.parse()?;
        if span.0 == 0 { Err(BonusTextError::Zero) } else { Ok(Self { bps, span }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(begin: u32, end: u32) -> GroupRange {
        GroupRange { begin, end, share: 5 }
    }

    fn refused(ranges: &[GroupRange]) -> String {
        groups(ranges, 200).unwrap_err().to_string()
    }

    #[test]
    fn ranges_in_any_order_are_groups_if_they_cover_the_fleet() {
        let found = groups(&[range(120, 200), range(0, 120)], 200).unwrap();
        assert_eq!(found.iter().map(|group| group.end_index).collect::<Vec<_>>(), [120, 200]);
        let eight: Vec<_> = (0..8).map(|i| range(i * 25, i * 25 + 25)).collect();
        assert_eq!(groups(&eight, 200).unwrap().len(), 8);
        assert!(groups(&[range(0, u32::MAX)], u32::MAX).is_ok());
    }

    #[test]
    fn each_bad_group_is_told_by_its_name() {
        assert!(refused(&[range(0, 100), range(120, 200)]).starts_with("gap between 100 and 120"));
        assert!(refused(&[range(0, 100)]).starts_with("gap between 100 and 200"));
        assert!(refused(&[range(1, 200)]).starts_with("gap between 0 and 1"));
        assert!(refused(&[]).starts_with("gap between 0 and 200"));
        assert!(refused(&[range(0, 101), range(100, 200)]).starts_with("overlap: 100..200"));
        assert!(refused(&[range(0, 200), range(0, 200)]).starts_with("overlap"));
        assert!(refused(&[range(0, 201)]).contains("beyond the fleet, which has 200 devices"));
        assert!(refused(&[range(0, 100), range(300, 400)]).contains("beyond the fleet"));
        assert!(refused(&[range(0, 0), range(0, 200)]).contains("0..0 is empty"));
        assert!(
            refused(&[range(0, 100), GroupRange { share: 0, ..range(100, 200) }]).contains("100..200: 0 wei")
        );
        let large = GroupRange { share: MAX_SHARE + 1, ..range(0, 200) };
        assert!(refused(&[large]).contains("2^96"));
        assert!(refused(&[range(0, 200); 9]).contains("9 groups, at most 8"));
    }

    #[test]
    fn groups_are_read_as_they_are_written() {
        let good = GroupRange { begin: 0, end: 1000, share: 2_000_000_000_000_000 };
        assert_eq!("0..1000=0.002ether".parse(), Ok(good));
        assert_eq!("0..1000=2000000 gwei".parse(), Ok(good));
        for (bad, why) in [
            ("", GroupTextError::Shape),
            ("0..1000", GroupTextError::Shape),
            ("0-1000=1wei", GroupTextError::Shape),
            ("..=1wei", GroupTextError::Index),
            ("0..=5=1wei", GroupTextError::Index),
            ("-1..5=1wei", GroupTextError::Index),
            ("0..4294967296=1wei", GroupTextError::Index),
            ("0..5=1", GroupTextError::Amount(AmountError)),
            ("0..5=-1wei", GroupTextError::Amount(AmountError)),
        ] {
            assert_eq!(bad.parse::<GroupRange>(), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_bonus_is_read_as_it_is_written() {
        assert_eq!("50%/48h".parse(), Ok(Bonus { bps: 5_000, span: Span(172_800) }));
        assert_eq!("0.01%/1s".parse(), Ok(Bonus { bps: 1, span: Span(1) }));
        assert_eq!("655.35%/1d".parse(), Ok(Bonus { bps: u16::MAX, span: Span(86_400) }));
        for (bad, why) in [
            ("50/48h", BonusTextError::Shape),
            ("50%", BonusTextError::Shape),
            ("0.001%/1d", BonusTextError::Percent),
            ("-5%/1d", BonusTextError::Percent),
            ("0%/1d", BonusTextError::Bounds),
            ("655.36%/1d", BonusTextError::Bounds),
            ("5%/1w", BonusTextError::Span(SpanError)),
            ("5%/0s", BonusTextError::Zero),
        ] {
            assert_eq!(bad.parse::<Bonus>(), Err(why), "{bad}");
        }
    }
}
