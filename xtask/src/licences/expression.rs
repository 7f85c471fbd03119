//! What an SPDX expression asks for.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};

/// The licences that an SPDX expression, or the older form with a slash, asks for: of alternatives MIT or else Apache-2.0 where that
/// is enough, else the first.
pub(super) fn needed(expression: &str) -> Result<BTreeSet<String>> {
    let spaced =
        expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "-WITH-");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (wanted, rest) = any_of(&words).with_context(|| expression.to_owned())?;
    ensure!(rest.is_empty(), "{expression}: {rest:?} is too much");
    Ok(wanted)
}

type Parsed<'a> = Result<(BTreeSet<String>, &'a [&'a str])>;

fn any_of<'a>(words: &'a [&'a str]) -> Parsed<'a> {
    let (mut best, mut rest) = all_of(words)?;
    while let ["OR", more @ ..] = rest {
        let (other, after) = all_of(more)?;
        let rank = |ids: &BTreeSet<String>| {
            ["MIT", "Apache-2.0"].iter().position(|id| ids.len() == 1 && ids.contains(*id)).unwrap_or(2)
        };
        if rank(&other) < rank(&best) {
            best = other;
        }
        rest = after;
    }
    Ok((best, rest))
}

fn all_of<'a>(words: &'a [&'a str]) -> Parsed<'a> {
    let (mut all, mut rest) = one_of(words)?;
    while let ["AND", more @ ..] = rest {
        let (other, after) = one_of(more)?;
        all.extend(other);
        rest = after;
    }
    Ok((all, rest))
}

fn one_of<'a>(words: &'a [&'a str]) -> Parsed<'a> {
    match words {
        ["(", inner @ ..] => match any_of(inner)? {
            (wanted, [")", rest @ ..]) => Ok((wanted, rest)),
            _ => bail!("a parenthesis is open"),
        },
        ["OR" | "AND" | ")", ..] | [] => bail!("a licence is missing"),
        [id, rest @ ..] => Ok((BTreeSet::from([id.replace("-WITH-", " WITH ")]), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_expression_needs_is_the_least_of_it() {
        let of =
            |expression: &str| needed(expression).map(|ids| ids.into_iter().collect::<Vec<_>>().join(" "));
        for (expression, want) in [
            ("MIT", "MIT"),
            ("Apache-2.0/MIT", "MIT"),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", "MIT"),
            ("BSD-2-Clause OR Apache-2.0", "Apache-2.0"),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", "MIT Unicode-3.0"),
            ("ISC AND (Apache-2.0 OR ISC)", "Apache-2.0 ISC"),
            ("Apache-2.0 WITH LLVM-exception", "Apache-2.0 WITH LLVM-exception"),
        ] {
            assert_eq!(of(expression).expect("an expression"), want);
        }
        for wrong in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND MIT"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
