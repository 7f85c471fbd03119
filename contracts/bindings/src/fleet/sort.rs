//! Sorting more than memory holds: runs, sorted one by one, then merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};

use super::disk::At;
use super::index::{ENTRY, Entry};

/// Entries of a run: 10 MB. The most devices there can be make 16,384 runs.
const RUN: usize = 1 << 18;
/// Bytes held of each run while all are merged: at most 64 MB together.
const WINDOW: usize = 4096;

/// Takes entries in any order and gives them back in theirs.
pub(super) struct Sorter<'f> {
    file: &'f File,
    /// Where the runs are written, one behind the other.
    start: u64,
    run: Vec<Entry>,
    /// Entries of each run that was written.
    runs: Vec<usize>,
    most: usize,
}

impl<'f> Sorter<'f> {
    /// Uses `file` from `start` on for what memory does not hold.
    pub(super) fn new(file: &'f File, start: u64) -> Self {
        Self { file, start, run: Vec::new(), runs: Vec::new(), most: RUN }
    }

    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.run.push(entry);
        if self.run.len() < self.most { Ok(()) } else { self.spill() }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        let mut sink = BufWriter::new(At::new(self.file, self.end()));
        self.run.iter().try_for_each(|entry| sink.write_all(entry))?;
        sink.flush()?;
        drop(sink);
        self.runs.push(self.run.len());
        self.run.clear();
        Ok(())
    }

    /// Behind the last run.
    fn end(&self) -> u64 {
        self.start + (self.runs.iter().sum::<usize>() * ENTRY) as u64
    }

    /// Hands all entries to `take`, in ascending order.
    pub(super) fn merge<E: From<io::Error>>(
        mut self,
        mut take: impl FnMut(&Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        self.spill()?;
        self.run = Vec::new();
        let mut runs = self.readers();
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(next(run)?.map(|entry| Reverse((entry, number))));
        }
        while let Some(Reverse((entry, number))) = heads.pop() {
            take(&entry)?;
            heads.extend(next(&mut runs[number])?.map(|entry| Reverse((entry, number))));
        }
        Ok(())
    }

    fn readers(&self) -> Vec<impl Read> {
        let mut at = self.start;
        let reader = |entries: &usize| {
            let length = (entries * ENTRY) as u64;
            let run = At::new(self.file, at).take(length);
            at += length;
            BufReader::with_capacity(WINDOW, run)
        };
        self.runs.iter().map(reader).collect()
    }
}

/// The run's next entry, if it has one.
fn next(run: &mut impl Read) -> io::Result<Option<Entry>> {
    let mut entry = [0; ENTRY];
    match run.read(&mut entry[..1])? {
        0 => Ok(None),
        _ => run.read_exact(&mut entry[1..]).map(|()| Some(entry)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(entries: &[Entry], most: usize) -> Vec<Entry> {
        let file = tempfile::tempfile().unwrap();
        let mut sorter = Sorter { most, ..Sorter::new(&file, 100) };
        entries.iter().for_each(|entry| sorter.push(*entry).unwrap());
        let mut all = Vec::new();
        let merged: io::Result<()> = sorter.merge(|entry| {
            all.push(*entry);
            Ok(())
        });
        merged.unwrap();
        all
    }

    proptest::proptest! {
        #[test]
        fn runs_of_any_length_make_one_order(seeds: Vec<(u8, u8)>, most in 1..40usize) {
            let entry = |(first, last): &(u8, u8)| {
                let mut entry = [7; ENTRY];
                (entry[0], entry[ENTRY - 1]) = (*first, *last);
                entry
            };
            let mut entries: Vec<Entry> = seeds.iter().map(entry).collect();
            let merged = sorted(&entries, most);
            entries.sort_unstable();
            proptest::prop_assert_eq!(merged, entries);
        }
    }
}
