//! What others say, made fit for errors and logs.
//!
//! An endpoint's words are its own choice: megabytes, escape sequences for the operator's terminal, lines that look like the
//! log's own. And they may quote the URL that was asked for, with our key in it.

/// Characters of somebody else's words that are kept.
pub const MAX_WORDS: usize = 200;

/// Somebody else's words on one line: at most [`MAX_WORDS`] characters, none of which moves a terminal's cursor or turns its
/// text round, and of a URL no more than scheme and host.
#[must_use]
pub fn words(text: &str) -> String {
    let mut fit = text.chars().filter(|c| !is_control(*c));
    // URLs get shorter, so twice as much is looked at. What comes after that may be the `@` that makes a host a password.
    let looked_at: String = fit.by_ref().take(2 * MAX_WORDS).collect();
    let shown = show(&looked_at, fit.next().is_some());
    shown.chars().take(MAX_WORDS).collect()
}

/// The text with each URL in it cut to scheme and host: path, query, user and password may be a key.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    show(text, false)
}

/// `goes_on`: there is more of the text than this.
fn show(text: &str, goes_on: bool) -> String {
    let (mut rest, mut shown) = (text, String::with_capacity(text.len()));
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = url.find(|c: char| c.is_whitespace() || "\"'`<>|".contains(c));
        let (url, after) = url.split_at(end.unwrap_or(url.len()));
        let is_whole = end.is_some() || !goes_on;
        shown.push_str(&if is_whole { host(url) } else { "…".to_owned() });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// The host of what stands after `://`, and an ellipsis for anything else.
fn host(url: &str) -> String {
    let end = url.find(|c: char| !(c.is_ascii_alphanumeric() || ".-:[]".contains(c))).unwrap_or(url.len());
    match &url[end..] {
        "" => url.to_owned(),
        // A password may have any character in it, a slash as well.
        secret if secret.contains('@') => "…".to_owned(),
        _ => format!("{}…", &url[..end]),
    }
}

/// Control characters, and those that only direct how text is shown (Unicode's bidirectional controls and line separators).
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_cut_and_on_one_line() {
        assert_eq!(words(&"ü".repeat(10_000)), "ü".repeat(MAX_WORDS));
        assert_eq!(words("a\u{1b}[2Jb\r\nc\u{202e}d\0\u{85}\u{2028}e"), "a[2Jbcde");
        assert_eq!(words("nonce too low"), "nonce too low");
    }

    #[test]
    fn of_a_url_only_the_host_is_shown() {
        for (text, shown) in [
            ("https://node.example/v3/APIKEY", "https://node.example…"),
            ("no \"https://node.example:8443/?key=APIKEY\" here", "no \"https://node.example:8443…\" here"),
            ("https://me:APIKEY@node.example", "https://…"),
            ("https://me:API/KEY@node.example/", "https://…"),
            ("https://APIKEY%20@node.example", "https://…"),
            ("[https://a.example/APIKEY,wss://b.example/APIKEY]", "[https://a.example…"),
            ("http://127.0.0.1:8545 and http://[::1]:1", "http://127.0.0.1:8545 and http://[::1]:1"),
            ("https://node.example#APIKEY", "https://node.example…"),
            ("https://node.example\\APIKEY", "https://node.example…"),
            ("https://https://APIKEY@node.example", "https://…"),
            ("://", "://"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
        let late = format!("{}https://node.example/APIKEY", "x".repeat(MAX_WORDS - 30));
        assert!(!words(&late).contains("APIKEY") && words(&late).contains("node.example"));
        // The cut goes between key and `@`.
        let cut = words(&format!("https://a/{} https://APIKEY@node.example", "x".repeat(2 * MAX_WORDS - 25)));
        assert_eq!(cut, "https://a… https://…");
        let split = words("https://node.example/\nAPIKEY");
        assert!(!split.contains("APIKEY"), "{split}");
    }

    proptest! {
        #[test]
        fn any_text_is_made_fit(text in any::<String>(), secret in "[a-z0-9/@:?#.]{0,20}") {
            let shown = words(&text);
            prop_assert!(shown.chars().count() <= MAX_WORDS && !shown.chars().any(char::is_control));
            let url = format!("{text} https://node.example/SECRET{secret} {text}");
            prop_assert!(!without_secrets(&url).contains("SECRET"));
        }
    }
}
