//! Configuration: one TOML file, each key overridden by `POSTHOUSE_SECTION__KEY` in the environment.
//!
//! A problem is one line that names the file, the key and the value; it is found before anything is
//! created or dialled.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use figment::error::Kind;
use figment::providers::{Env, Format as _, Toml};
use figment::{Figment, Source};
use posthouse_light_client::without_secrets;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// What is wrong with a configuration, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The file, or the variable that overrides it.
    pub source: String,
    /// Dotted name of the key, where it is about one.
    pub key: Option<String>,
    /// What is wrong, with the value where that is no secret.
    pub why: String,
}

impl SettingsError {
    /// About a value that the file may hold and that cannot be used.
    pub fn value(file: &Path, key: &str, value: impl Display, why: impl Display) -> Self {
        let why = format!("{value}: {why}");
        Self { source: file.display().to_string(), key: Some(key.into()), why }
    }

    fn file(file: &Path, why: impl Display) -> Self {
        Self { source: file.display().to_string(), key: None, why: why.to_string() }
    }
}

impl Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default();
        let line = format!("{}: {key}{}", self.source, without_secrets(&self.why));
        f.write_str(&line.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl std::error::Error for SettingsError {}

/// Reads a file of settings with the environment over it.
///
/// # Errors
/// The file is missing, unreadable or no TOML; a key is unknown, missing or of another type.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<T, SettingsError> {
    let text = std::fs::read_to_string(file).map_err(|why| SettingsError::file(file, why))?;
    // A variable without a section is no setting: POSTHOUSE_CRASH_AT and the like.
    let overrides = Env::prefixed("POSTHOUSE_").filter(|key| key.as_str().contains("__")).split("__");
    let figment = Figment::from(Toml::string(&text)).merge(overrides);
    figment.extract().map_err(|error| first(file, error))
}

/// The first of figment's errors, by our names.
fn first(file: &Path, error: figment::Error) -> SettingsError {
    let Some(error) = error.into_iter().next() else {
        return SettingsError::file(file, "cannot be read");
    };
    let mut key = error.path.clone();
    let named = match &error.kind {
        Kind::UnknownField(name, _) => Some(name.to_string()),
        Kind::MissingField(name) => Some(name.to_string()),
        _ => None,
    };
    key.extend(named.filter(|name| key.last() != Some(name)));
    let key = (!key.is_empty()).then(|| key.join("."));
    SettingsError { source: origin(file, &error), key, why: why(&error) }
}

fn why(error: &figment::Error) -> String {
    match &error.kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if names_endpoints(&error.path) => {
            format!("must be {expected}; the value is not shown, it may hold a key")
        }
        // The parser of TOML shows the line that it does not like.
        Kind::Message(text) => {
            let is_source = |line: &str| {
                line.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
                    .starts_with('|')
            };
            text.lines().filter(|line| !is_source(line)).collect::<Vec<_>>().join(" ")
        }
        kind => kind.to_string(),
    }
}

/// Whether the value of this key is URLs.
fn names_endpoints(path: &[String]) -> bool {
    matches!(path, [section, key, ..] if section == "chain" && ["rpc", "beacon"].contains(&key.as_str()))
}

/// The file, unless the value came from the environment.
fn origin(file: &Path, error: &figment::Error) -> String {
    let from_env = error.metadata.as_ref().is_some_and(|metadata| {
        metadata.name.contains("environment") && !matches!(metadata.source, Some(Source::File(_)))
    });
    if from_env {
        let name = error.path.join("__").to_uppercase();
        return format!("environment variable POSTHOUSE_{name} (over {})", file.display());
    }
    file.display().to_string()
}

/// A value that is written as text and parsed as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.parse();
        parsed.map(Text).map_err(|why| D::Error::custom(format!("{text:?}: {why}")))
    }
}

/// A UUID, 16 bytes as in RFC 9562; with or without its dashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub [u8; 16]);

impl FromStr for Uuid {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text.replace('-', ""), &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// An amount of money: `"0.01 ether"`, `"20 gwei"`, `"1000 wei"`, with or without the space. It is exact: a part of a wei
/// is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub u128);

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of wei, gwei or ether such as \"0.01 ether\"")]
pub struct AmountError;

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let text = text.trim();
        // "gwei" before "wei", which it ends with.
        let units = [("ether", 18), ("gwei", 9), ("wei", 0)];
        let mut units =
            units.into_iter().filter_map(|(unit, places)| Some((text.strip_suffix(unit)?, places)));
        let (number, places) = units.next().ok_or(AmountError)?;
        decimal(number.trim_end(), places).map(Self).ok_or(AmountError)
    }
}

/// A decimal number in units of its last possible place: `"1.5"` with two places is 150. `None` for anything else, for more
/// places and for what does not fit.
pub(crate) fn decimal(text: &str, places: u32) -> Option<u128> {
    let scaled = |digits: &str, places: u32| {
        let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = all.then(|| digits.parse::<u128>().ok()).flatten()?;
        number.checked_mul(10u128.checked_pow(places)?)
    };
    let Some((whole, fraction)) = text.split_once('.') else { return scaled(text, places) };
    let spare = places.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    scaled(whole, places)?.checked_add(scaled(fraction, spare)?)
}

/// A length of time: `"90s"`, `"30m"`, `"2h"`, `"14d"`; in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub u64);

/// Why a text is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a length of time such as \"90s\", \"30m\", \"2h\" or \"14d\"")]
pub struct SpanError;

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let text = text.trim();
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(SpanError)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(SpanError),
        };
        let number: u64 = number.parse().map_err(|_| SpanError)?;
        number.checked_mul(seconds).map(Self).ok_or(SpanError)
    }
}

/// A path in a settings file, from the folder that the file is in.
pub(crate) fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Sample {
        chain: Chain,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read")]
    struct Chain {
        id: u64,
        share: Text<Amount>,
    }

    fn problem(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.toml");
        std::fs::write(&file, text).unwrap();
        let line = load::<Sample>(&file).unwrap_err().to_string();
        line.replace(&file.display().to_string(), "FILE")
    }

    #[test]
    fn a_problem_names_file_key_and_value_in_one_line() {
        for (text, expected) in [
            ("[chain]\nid = 1\nshare = \"1 wei\"\ncolour = 3", "FILE: chain.colour: unknown field"),
            ("[chain]\nid = \"x\"\nshare = \"1 wei\"", "FILE: chain.id: invalid type: found string \"x\""),
            ("[chain]\nid = 1\nshare = \"1 farthing\"", "FILE: chain.share: \"1 farthing\": not an amount"),
            ("[chain]\nid = 1", "FILE: chain.share: missing field"),
            ("[chain\n", "FILE: "),
        ] {
            let line = problem(text);
            assert!(line.starts_with(expected), "{line}");
            assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn no_problem_shows_a_key() {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only read")]
        struct Sample {
            chain: Endpoints,
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "only read")]
        struct Endpoints {
            rpc: Vec<String>,
            id: u64,
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.toml");
        for (text, expected) in [
            (
                "rpc = \"https://node.example/v3/APIKEY\"",
                "chain.rpc: must be a sequence; the value is not shown",
            ),
            ("rpc = \"node.example/v3/APIKEY\"", "chain.rpc: must be a sequence; the value is not shown"),
            (
                "id = 1\nrpc = [\"a\", { url = \"APIKEY\" }]",
                "chain.rpc.1: must be a string; the value is not shown",
            ),
            (
                "rpc = []\nid = \"https://me:APIKEY@node.example\"",
                "chain.id: invalid type: found string \"https://…\"",
            ),
            ("rpc = [\"https://node.example/?key=APIKEY\"\nid = 1", "TOML parse error at line "),
            ("rpc = \"node.example/APIKEY\"x", "TOML parse error at line "),
        ] {
            std::fs::write(&file, format!("[chain]\n{text}")).unwrap();
            let error = load::<Sample>(&file).unwrap_err();
            let line = error.to_string();
            assert!(line.contains(expected), "{line}");
            assert!(!line.contains("APIKEY"), "{line}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let line = load::<Sample>(Path::new("/nonexistent/a.toml")).unwrap_err().to_string();
        assert!(line.starts_with("/nonexistent/a.toml: No such file"), "{line}");
    }

    #[test]
    fn amounts_spans_and_uuids() {
        assert_eq!("0.01 ether".parse(), Ok(Amount(10_000_000_000_000_000)));
        assert_eq!("3 wei".parse(), Ok(Amount(3)));
        assert_eq!("20gwei".parse(), Ok(Amount(20_000_000_000)));
        assert_eq!("1.000000000000000001ether".parse(), Ok(Amount(1_000_000_000_000_000_001)));
        assert_eq!("340282366920938463463374607431768211455wei".parse(), Ok(Amount(u128::MAX)));
        let bad = [
            "3",
            "-1 wei",
            "+1 wei",
            "1 pound",
            "0.5 wei x",
            "",
            "wei",
            ".5 ether",
            "1. ether",
            "1_0 wei",
            "1e3 wei",
        ];
        for bad in bad {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
        for inexact in ["0.5 wei", "0.0000000001 gwei", "1.0000000000000000001 ether"] {
            assert!(inexact.parse::<Amount>().is_err(), "{inexact}");
        }
        for large in ["340282366920938463463374607431768211456 wei", "340282366920938463464 ether"] {
            assert!(large.parse::<Amount>().is_err(), "{large}");
        }
        assert_eq!("2h".parse(), Ok(Span(7200)));
        for bad in ["2", "h", "1.5h", "", "2ü"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        let uuid: Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        assert_eq!(uuid.0[15], 0xff);
    }
}
