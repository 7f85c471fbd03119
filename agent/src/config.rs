//! The configuration file: one TOML file, every key overridable from the environment, unknown keys refused.

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format as _, Toml},
};
use posthouse_actors::Config;
use posthouse_light_client::without_secrets;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Reads and checks the file; touches nothing. What other files hold is looked at by [`check_secrets`].
///
/// # Errors
/// The first thing that is wrong, in one line.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let config: Config = read(file)?;
    let wrong = |why: &dyn std::fmt::Display| contradiction(file, why);
    config.check().map_err(|why| wrong(&why))?;
    config.chain.network().map_err(|why| wrong(&why))?;
    if config.sensors.mqtt.is_none() && config.sensors.coap.is_none() {
        return Err(wrong(&"sensors: neither mqtt nor coap is there, so that no sensor could be reached"));
    }
    Ok(config)
}

/// Reads what else a gateway reads at its start: token, the broker's credentials, keys of sensors. Who only asks a gateway something
/// need not be able to, and where systemd holds them nobody else is.
///
/// # Errors
/// As of [`load`].
pub fn check_secrets(file: &Path, config: &Config) -> Result<(), ConfigError> {
    let wrong = |why: &dyn std::fmt::Display| contradiction(file, why);
    config.status.token().map_err(|why| wrong(&why))?;
    config.sensors.mqtt().map_err(|why| wrong(&why))?;
    config.sensors.coap().map_err(|why| wrong(&why))?;
    Ok(())
}

fn contradiction(file: &Path, why: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Contradiction { file: file.to_path_buf(), why: one_line(&why.to_string()) }
}

/// What is wrong with a configuration: which file, which key, which value, in one line.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {why}", file.display())]
    Unreadable {
        /// The configuration file.
        file: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// It is not TOML.
    #[error("{}: not TOML: {why}", file.display())]
    Malformed {
        /// The configuration file.
        file: PathBuf,
        /// Place and reason.
        why: String,
    },
    /// A key is missing, unknown, or has a value of the wrong kind.
    #[error("{place}: {why}")]
    Key {
        /// The file or the environment, and the key.
        place: String,
        /// What is wrong with the value.
        why: String,
    },
    /// Each value is possible, but not this one here, or not together with another.
    #[error("{}: {why}", file.display())]
    Contradiction {
        /// The configuration file.
        file: PathBuf,
        /// The key, its value, and why it cannot be.
        why: String,
    },
}

/// Variables that start so override keys: `POSTHOUSE_STATUS__LISTEN` is `status.listen`.
const PREFIX: &str = "POSTHOUSE_";

fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    let unreadable = |why| ConfigError::Unreadable { file: file.to_path_buf(), why };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    if let Err(why) = toml::from_str::<toml::Table>(&text) {
        let place = why.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        let why = format!("line {place}: {}", one_line(why.message()));
        return Err(ConfigError::Malformed { file: file.to_path_buf(), why });
    }
    Figment::from(Toml::string(&text))
        // A variable without a section is no setting: POSTHOUSE_CRASH_AT and the like.
        .merge(Env::prefixed(PREFIX).filter(|key| key.as_str().contains("__")).split("__"))
        .extract()
        .map_err(|why| key_error(file, &why))
}

fn key_error(file: &Path, why: &figment::Error) -> ConfigError {
    let from_environment = why.metadata.as_ref().is_some_and(|m| m.name.contains("environment"));
    let mut path = why.path.clone();
    if let Kind::UnknownField(name, _) = &why.kind {
        path.extend((path.last() != Some(name)).then(|| name.clone()));
    }
    if let Kind::MissingField(name) = &why.kind {
        path.extend((path.last().map(String::as_str) != Some(name.as_ref())).then(|| name.to_string()));
    }
    let key = path.join(".");
    let place = if from_environment {
        format!("{PREFIX}{} (environment)", key.to_uppercase().replace('.', "__"))
    } else if key.is_empty() {
        file.display().to_string()
    } else {
        format!("{}: {key}", file.display())
    };
    let why = match &why.kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if names_endpoints(&why.path) => {
            format!("must be {expected}; the value is not shown, it may hold a key")
        }
        kind => one_line(&kind.to_string()),
    };
    ConfigError::Key { place, why }
}

/// Whether the value of this key is URLs.
fn names_endpoints(path: &[String]) -> bool {
    matches!(path, [section, key, ..] if section == "chain" && ["rpc", "beacon"].contains(&key.as_str()))
}

/// What is wrong, in one line, which shows no more of a URL than its host.
fn one_line(text: &str) -> String {
    without_secrets(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        state_dir = "state"
        [chain]
        beacon = ["http://127.0.0.1:5052"]
        rpc = ["http://127.0.0.1:8545"]
        id = 1
        factory = "0x0000000000000000000000000000000000000001"
        [[products]]
        vendor = "0x0000000000000000000000000000000000000002"
        vendor_id = "00112233-4455-6677-8899-aabbccddeeff"
        class_id = "ffeeddccbbaa99887766554433221100"
        release_key = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        [dsn]
        [sensors.coap]
        listen = "127.0.0.1:0"
    "#;

    fn loaded(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("posthouse.toml");
        std::fs::write(&file, text).unwrap();
        let whole = load(&file).and_then(|config| check_secrets(&file, &config).map(|()| config));
        let outcome = whole.map_err(|why| why.to_string());
        // Reading a configuration makes nothing.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        if let Err(line) = &outcome {
            assert!(line.starts_with(&file.display().to_string()) && !line.contains('\n'), "{line}");
        }
        outcome
    }

    #[test]
    fn a_short_configuration_is_enough() {
        let config = loaded(GOOD).unwrap();
        assert!(config.status.listen.is_none());
        assert!(!config.sensors.allow_unauthenticated_signing);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_key_and_value() {
        let cases = [
            (GOOD.replace("id = 1\n", "id = \"one\"\n"), "chain.id", "one"),
            (GOOD.replace("[dsn]", "[dsn]\ncolour = 1"), "dsn.colour", "colour"),
            (GOOD.replace("state_dir", "state_dri"), "state_dri", "state_dri"),
            (GOOD.replace("        id = 1\n", ""), "chain.id", ""),
            (GOOD.replace("0000001\"", "00000\""), "chain.factory", "length"),
            (GOOD.replace("http://127.0.0.1:8545", "ftp://"), "chain.rpc[0]", "HTTP"),
            (GOOD.replace("http://127.0.0.1:5052", "ftp://"), "chain.beacon[0]", "HTTP"),
            (GOOD.replace("[\"http://127.0.0.1:5052\"]", "[]"), "chain.beacon", "no endpoint"),
            (GOOD.replace("[chain]", "[chain]\ntrust = \"rpc\""), "chain.beacon", "light client"),
            (GOOD.replace("[chain]", "[chain]\ntrust = \"all\""), "chain.trust", "all"),
            (GOOD.replace("[chain]", "[chain]\ncheckpoint = \"0x12\""), "chain.checkpoint", "length"),
            (GOOD.replace("[chain]", "[chain]\nnetwork = \"hoodi\""), "chain.network", "560048"),
            (GOOD.replace("[chain]", "[chain]\nnetwork = \"/nowhere\""), "chain.network", "/nowhere"),
            (GOOD.replace("036b", "046b"), "release_key", "046b"),
            (GOOD.replace("[sensors.coap]\n        listen = \"127.0.0.1:0\"", ""), "sensors", "no sensor"),
            (GOOD.replace("[sensors.coap]", "[sensors.mqtt]\nhost = 7\n[sensors.coap]"), "sensors.mqtt", "7"),
            (
                GOOD.replace(
                    "[sensors.coap]",
                    "[sensors.mqtt]\nhost = \"a\"\nusername = \"x\"\n[sensors.coap]",
                ),
                "sensors.mqtt",
                "together",
            ),
            (GOOD.replace("[chain]", "[chain"), "", "line 3"),
        ];
        for (text, key, value) in cases {
            let line = loaded(&text).unwrap_err();
            assert!(line.contains(key) && line.contains(value), "{key}: {line}");
        }
    }

    #[test]
    fn a_token_that_a_start_would_refuse_is_refused_before() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        let file = folder.path().join("posthouse.toml");
        let text = format!("{GOOD}\n[status]\ntoken_file = {:?}", token.display().to_string());
        std::fs::write(&file, text).unwrap();
        let config = load(&file).unwrap();
        let said = || check_secrets(Path::new("file"), &config).unwrap_err().to_string();
        assert!(
            said().starts_with("file: status.token_file: ") && said().contains("not found"),
            "{}",
            said()
        );
        std::fs::write(&token, "0123456789abcdef").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(said().contains("0644"), "{}", said());
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        check_secrets(Path::new("file"), &config).unwrap();
    }

    #[test]
    fn who_asks_a_gateway_needs_none_of_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("posthouse.toml");
        let mqtt = "[sensors.mqtt]\nhost = \"a\"\nusername = \"x\"\npassword_file = \"/nowhere\"";
        std::fs::write(&file, format!("{GOOD}\n{mqtt}")).unwrap();
        let config = load(&file).unwrap();
        let said = check_secrets(&file, &config).unwrap_err().to_string();
        assert!(said.contains("sensors.mqtt: /nowhere"), "{said}");
    }

    #[test]
    fn no_problem_shows_a_key() {
        for (from, to) in [
            ("[\"http://127.0.0.1:8545\"]", "\"https://node.example/v3/APIKEY\""),
            ("[\"http://127.0.0.1:8545\"]", "\"node.example/v3/APIKEY\""),
            ("[\"http://127.0.0.1:5052\"]", "{ url = \"APIKEY\" }"),
            ("\"http://127.0.0.1:8545\"", "\"https://me:APIKEY@[\""),
            ("id = 1", "id = \"https://me:APIKEY@node.example\""),
            ("id = 1", "network = \"https://node.example/APIKEY\"\nid = 1"),
            ("[\"http://127.0.0.1:8545\"]", "[\"https://node.example/APIKEY\""),
            ("[\"http://127.0.0.1:8545\"]", "\"https://node.example/APIKEY"),
        ] {
            let line = loaded(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(!line.contains("APIKEY"), "{line}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let line = load(Path::new("/nonexistent/posthouse.toml")).unwrap_err().to_string();
        assert!(line.starts_with("/nonexistent/posthouse.toml: "), "{line}");
    }

    /// The shipped example is one to run with, and so it is with every default written out.
    #[test]
    fn the_example_is_valid_and_names_every_default() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config/posthouse.toml");
        let text = std::fs::read_to_string(example).unwrap();
        let config = loaded(&text).unwrap();
        // The broker's credentials and authority are files that only a site has, and a checkpoint is of its time.
        let of_a_site = [
            "username",
            "password_file",
            "tls_ca",
            "tls_cert",
            "tls_key",
            "checkpoint",
            "token_file",
            "socket",
            "timezone",
            "max_bytes_per_sec",
        ];
        let is_key = |line: &str| {
            line.split_once(" = ").is_some_and(|(key, _)| {
                key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !of_a_site.contains(&key)
            })
        };
        let uncomment = |line: &str| match line.strip_prefix("# ") {
            Some(key) if is_key(key) => format!("{key}\n"),
            _ => format!("{line}\n"),
        };
        let all: String = text.lines().map(uncomment).collect();
        let full = loaded(&all).unwrap();
        assert_eq!(format!("{:?}", full.exchange), format!("{:?}", config.exchange));
        assert_eq!(full.chain.poll_ms, config.chain.poll_ms);
        assert_eq!(full.chain.trust, config.chain.trust);
        assert_eq!(full.chain.network().unwrap(), config.chain.network().unwrap());
        assert_eq!(full.chain.allow_stale_checkpoint, config.chain.allow_stale_checkpoint);
        assert_eq!(full.sensors.max_registered, config.sensors.max_registered);
        assert_eq!(full.sensors.retry_after_secs, config.sensors.retry_after_secs);
        assert_eq!(full.staging.quota, config.staging.quota);
        assert_eq!(full.audit_log(), config.audit_log());
    }
}
