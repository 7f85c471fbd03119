//! The troubleshooting pages answer each error, each warning and each metric by its name: what programs can say is read out of their
//! sources, as text, and looked for there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// What somebody looks in.
const PAGES: [&str; 2] = ["docs/troubleshooting.md", "docs/errors.md"];

/// Sources of all that says something to a user of the programs.
const SOURCES: [&str; 10] = [
    "agent/src",
    "actors/src",
    "market/src",
    "light-client/src",
    "dsn/src",
    "contracts/bindings/src",
    "audit/src",
    "protocol/src",
    "circuits/src",
    "device/src",
];

/// What texts for a user follow: errors, lines of the log that want attention, where a command ends, answers, values that cannot be used.
const BEGINNINGS: [&str; 15] = [
    "#[error(",
    "warn!(",
    "error!(",
    "bail!(",
    "anyhow!(",
    "ensure!(",
    "context(",
    "context(|| format!(",
    "let why = ",
    "let why = format!(",
    "let none = ",
    "Err(",
    "map_err(|_| ",
    "Err(format!(",
    "error(StatusCode::",
];

/// Of a long text the page need not have more than this, in bytes.
const SEEN: usize = 40;

/// Texts that are in no page: where they are said, and why nobody meets them.
const UNSEEN: &[(&str, &str, &str)] =
    &[("market/src/vendor/package.rs", "K has 32 bytes", "the program drew it with that length")];

#[derive(Debug, PartialEq)]
struct Said {
    /// The longest part of the text that is the same each time.
    text: String,
    /// Of an error: its name in the code.
    name: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files in Rust under a folder, from the root, without those of tests.
fn sources(folder: &str) -> Vec<String> {
    let mut entries: Vec<_> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "tests" {
                files.extend(sources(&path));
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files
}

/// Without modules of tests: from `#[cfg(test)]` to the brace at the beginning of a line, as rustfmt sets it.
fn without_tests(source: &str) -> String {
    let mut kept = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            let opens = lines.find(|line| !line.starts_with('#')).unwrap_or_default();
            if opens.ends_with('{') {
                lines.find(|line| *line == "}");
            }
        } else if !line.trim_start().starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The first literal among the arguments at the beginning of `source` that is no field's value, with escapes taken out.
fn message(source: &str) -> Option<String> {
    let (mut depth, mut before) = (0, ' ');
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                let text = literal(&mut chars);
                if depth == 0 && before != '=' {
                    return Some(text);
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' | ';' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if !c.is_whitespace() {
            before = c;
        }
    }
    None
}

/// The rest of a literal, after its first quote.
fn literal(chars: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next().filter(|c| *c != '"') {
        match c {
            '\\' => match chars.next() {
                Some('\n') => *chars = chars.as_str().trim_start().chars(),
                escaped => text.extend(escaped),
            },
            other => text.push(other),
        }
    }
    text
}

/// The longest part of a message between values; `None` where it has no words of its own.
fn fixed(message: &str) -> Option<String> {
    let mut parts = vec![String::new()];
    let mut chars = message.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) => parts.last_mut()?.extend(chars.next()),
            '{' => {
                chars.by_ref().find(|c| *c == '}');
                parts.push(String::new());
            }
            // The page sets texts between such.
            '`' => parts.push(String::new()),
            other => parts.last_mut()?.push(other),
        }
    }
    let trimmed = |part: &String| part.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let longest = parts.iter().map(trimmed).max_by_key(String::len)?;
    (longest.len() > 2).then_some(longest)
}

/// Everything that a source can say: errors with their names, lines of the log that want somebody's attention, and
/// where a program ends by them.
fn said(source: &str) -> Vec<Said> {
    let source = without_tests(source);
    let mut all = Vec::new();
    for begin in BEGINNINGS {
        for (at, _) in source.match_indices(begin) {
            let rest = &source[at + begin.len()..];
            let Some(text) = message(rest).as_deref().and_then(fixed) else { continue };
            all.push(Said { text, name: begin.starts_with('#').then(|| named(rest)) });
        }
    }
    all
}

/// The variant or the structure that an attribute is for, whose inside begins `source`.
fn named(source: &str) -> String {
    let mut after = source.lines().skip_while(|line| !line.ends_with(")]")).skip(1).map(str::trim);
    let item = after.find(|line| !line.starts_with('#')).unwrap();
    let mut words = item.split(|c: char| !c.is_ascii_alphanumeric());
    words.find(|word| word.starts_with(|c: char| c.is_ascii_uppercase())).unwrap().to_owned()
}

/// Rows of the pages, each as what it has between backticks.
fn rows() -> Vec<Vec<String>> {
    let pages = PAGES.map(read).concat();
    pages.lines().map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect()).collect()
}

/// As much of a text as the page has to have: whole words.
fn looked_for(text: &str) -> &str {
    match text.get(..SEEN) {
        Some(first) => first.rsplit_once(' ').map_or(first, |(words, _)| words),
        None => text,
    }
}

#[test]
fn each_error_and_warning_is_in_the_pages() {
    let rows = rows();
    let mut missing = Vec::new();
    let mut unseen = UNSEEN.to_vec();
    for path in SOURCES.iter().flat_map(|folder| sources(folder)) {
        for Said { text, name } in said(&read(&path)) {
            let is_this = |(file, said, _): &(&str, &str, &str)| path == *file && text == *said;
            if UNSEEN.iter().any(is_this) {
                unseen.retain(|one| !is_this(one));
                continue;
            }
            let named = |spans: &[String]| {
                name.as_ref().is_none_or(|name| spans.iter().any(|span| span.split(' ').any(|w| w == name)))
            };
            let looked_for = looked_for(&text);
            let there = rows.iter().any(|spans| spans.iter().any(|s| s.contains(looked_for)) && named(spans));
            if !there {
                missing.push(format!("{path}: {text:?} {}", name.unwrap_or_default()));
            }
        }
    }
    assert!(missing.is_empty(), "in no row of {PAGES:?}, text and name:\n{}", missing.join("\n"));
    assert!(unseen.is_empty(), "nobody says these any more: {unseen:?}");
}

#[test]
fn each_error_of_the_contracts_is_in_the_pages() {
    let pages = PAGES.map(read).concat();
    for file in ["IUpdateBounty", "IUpdateFactory"] {
        let source = read(&format!("contracts/src/interfaces/{file}.sol"));
        let errors = source.lines().filter_map(|line| line.trim().strip_prefix("error ")?.split('(').next());
        let missing: Vec<&str> = errors.filter(|name| !pages.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}

#[test]
fn each_metric_is_in_the_page() {
    let (metrics, page) = (read("docs/metrics.md"), read(PAGES[0]));
    let names = metrics.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
    let missing: Vec<&str> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A link within a page leads to a heading of it, and one to the other page to one of that.
#[test]
fn the_pages_lead_where_they_say() {
    let anchor = |line: &str| {
        let kept = line.trim_start_matches(['#', ' ']).to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    };
    for page in PAGES {
        let text = read(page);
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split(')').next().unwrap();
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.to_owned() } else { format!("docs/{file}") };
            let there = read(&target);
            let found = heading.is_empty()
                || there.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
            assert!(found, "{page}: {link}");
        }
    }
}

#[test]
fn what_a_source_says_is_read_out_of_it() {
    let source = r##"
        /// #[error("in a comment")]
        #[error("{path}: schema {found}, this \
                 program knows `up` to \"{known}\"")]
        #[cfg(unix)]
        TooNew { path: PathBuf },
        #[error(transparent)]
        Other(#[from] Other),
        #[error("the end")]
        pub struct End;
        warn!(%peer, why = "a value", list = names.join(", "), "not {{sent}} yet");
        tracing::error!("{warning}");
        let what = x.with_context(|| format!("{what}: no answer"))?;
#[cfg(test)]
mod tests {
    fn f() { warn!("only a test"); }
}
        bail!("no way on");
    "##;
    let said: Vec<_> = said(source).into_iter().map(|s| (s.text, s.name.unwrap_or_default())).collect();
    let expected = [
        ("this program knows", "TooNew"),
        ("the end", "End"),
        ("not {sent} yet", ""),
        ("no way on", ""),
        ("no answer", ""),
    ];
    assert_eq!(said, expected.map(|(text, name)| (text.to_owned(), name.to_owned())));
}
