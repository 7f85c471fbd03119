//! What strangers can cause is written a few times a minute for each kind, and then counted: in the audit log, and in the log of
//! a program that has such kinds of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lines of one kind that are written in each [`WINDOW`].
pub(crate) const MOST: u32 = 30;
/// How long is counted together.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// What came of one kind.
#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u32,
    left_out: u64,
}

/// All kinds, of which there are few.
#[derive(Debug)]
pub struct Limit<K>(BTreeMap<K, Window>);

impl<K> Default for Limit<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Limit<K> {
    /// Whether one more is written at `now`; if not, it is counted, and none is written before that is told by [`Self::over`].
    pub fn admit(&mut self, kind: K, now: Instant) -> bool {
        let window = self.0.entry(kind).or_insert(Window { begun: now, written: 0, left_out: 0 });
        if window.left_out == 0 && now.duration_since(window.begun) >= WINDOW {
            *window = Window { begun: now, written: 0, left_out: 0 };
        }
        let admitted = window.written < MOST;
        match admitted {
            true => window.written += 1,
            false => window.left_out += 1,
        }
        admitted
    }

    /// What was left out in windows that are over at `now`, or in any if all is to be told; each is told once.
    pub fn over(&mut self, now: Instant, all: bool) -> Vec<(K, u64)> {
        let over = |window: &Window| all || now.duration_since(window.begun) >= WINDOW;
        let told = self.0.iter().filter(|(_, window)| over(window) && window.left_out > 0);
        let told = told.map(|(kind, window)| (*kind, window.left_out)).collect();
        self.0.retain(|_, window| !over(window));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Kind;

    #[test]
    fn so_many_are_written_and_the_rest_is_told_once() {
        let (mut limit, begun) = (Limit::default(), Instant::now());
        let flood =
            |limit: &mut Limit<Kind>, at| (0..100).filter(|_| limit.admit(Kind::OrderRefused, at)).count();
        assert_eq!(flood(&mut limit, begun), MOST as usize);
        assert!(limit.admit(Kind::KeyRefused, begun), "another kind has room of its own");
        assert_eq!(limit.over(begun, false), []);
        let later = begun + WINDOW;
        assert_eq!(flood(&mut limit, later), 0, "until it is told");
        assert_eq!(limit.over(later, false), [(Kind::OrderRefused, 170)]);
        assert_eq!(limit.over(later, false), []);
        assert_eq!(flood(&mut limit, later), MOST as usize);
        assert_eq!(limit.over(later, true), [(Kind::OrderRefused, 70)]);
    }
}
