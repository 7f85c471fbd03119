//! One URL.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};

use super::{HttpError, Limits, UrlError, progress};
use crate::words;

/// One URL that is asked, and what it may cost. Redirects are not followed.
pub struct Endpoint {
    client: Client,
    url: Url,
    limits: Limits,
}

/// An answer with status 2xx, of at most [`Limits::max_response`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `Content-Type` without parameters, in lower case; empty where there is none.
    pub content_type: String,
    /// `Eth-Consensus-Version`, by which the beacon API names the fork.
    pub consensus_version: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What lies at the ground of an error: `no CA certificates were loaded` says more than `builder error`.
fn root(mut error: &dyn Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Endpoint {
    /// Nothing is dialled yet, so an endpoint that is down does not stand in the way of a start.
    ///
    /// # Errors
    /// [`UrlError`]: not an HTTP URL.
    pub fn new(url: &str, limits: Limits) -> Result<Self, UrlError> {
        // reqwest is built without a TLS backend of its own choice. A second installation fails, which
        // means that the program has chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url: Url = url.parse().map_err(|why| UrlError::Syntax(format!("{why}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(UrlError::Scheme);
        }
        let mut client = Client::builder().timeout(limits.timeout).redirect(Policy::none());
        if is_loopback(&url) {
            // A proxy of the site cannot reach what runs on this machine.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|why| UrlError::Client(words(&root(&why))))?;
        Ok(Self { client, url, limits })
    }

    /// Host, and port where it is not the scheme's own. User, password, path and query are never shown: any of them may
    /// hold an API key.
    #[must_use]
    pub fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether it runs on this machine, which makes polling cheap.
    #[must_use]
    pub fn is_local(&self) -> bool {
        is_loopback(&self.url)
    }

    /// What it may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// `GET` of a path below the URL, such as `/eth/v1/node/health`; a query of the URL's own stays.
    ///
    /// # Errors
    /// [`HttpError`]: no answer with status 2xx within the limits.
    pub async fn get(&self, path: &str, accept: &str) -> Result<Answer, HttpError> {
        let mut url = self.url.clone();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        if !query.is_empty() {
            let own = self.url.query().map(|own| format!("{own}&")).unwrap_or_default();
            url.set_query(Some(&format!("{own}{query}")));
        }
        self.run(self.client.get(url).header(ACCEPT, accept)).await
    }

    /// `POST` of JSON to the URL itself.
    ///
    /// # Errors
    /// [`HttpError`]: no answer with status 2xx within the limits. What the body says is for the caller to see.
    pub async fn post_json(&self, body: Vec<u8>) -> Result<Answer, HttpError> {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        self.run(request.header(ACCEPT, "application/json").body(body)).await
    }

    async fn run(&self, request: RequestBuilder) -> Result<Answer, HttpError> {
        let answer = self.answer(request).await;
        progress::ended();
        answer
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, HttpError> {
        let response = request.send().await.map_err(|error| self.failed(error))?;
        refuse_status(&response)?;
        let content_type = header(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let consensus_version = header(response.headers(), "eth-consensus-version");
        let body = self.body(response).await?;
        Ok(Answer { content_type, consensus_version, body })
    }

    /// Reads by chunks, so that no header and no endless stream makes us hold more than the limit.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, HttpError> {
        let max = self.limits.max_response;
        if response.content_length().is_some_and(|length| length > max as u64) {
            return Err(HttpError::TooLarge(max));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if chunk.len() > max - body.len() {
                return Err(HttpError::TooLarge(max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failed(&self, error: reqwest::Error) -> HttpError {
        if error.is_timeout() {
            return HttpError::Timeout(self.limits.timeout);
        }
        // The URL may hold an API key, and errors are logged. The innermost cause is the one that says something.
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        HttpError::Unreachable(words(&cause.to_string()))
    }
}

impl AsRef<Endpoint> for Endpoint {
    fn as_ref(&self) -> &Endpoint {
        self
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name()).field("limits", &self.limits).finish()
    }
}

fn refuse_status(response: &Response) -> Result<(), HttpError> {
    let status = response.status();
    match status.as_u16() {
        _ if status.is_success() => Ok(()),
        code @ 300..=399 => Err(HttpError::Redirect(code)),
        code @ (429 | 503) => Err(HttpError::Busy { code, retry_after: retry_after(response.headers()) }),
        code => Err(HttpError::Status(code)),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = header(headers, RETRY_AFTER.as_str())?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(HttpError::LONGEST_WAIT))
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(url, Limits::default()).unwrap()
    }

    #[test]
    fn secrets_are_not_shown() {
        let endpoint = endpoint("https://user:hunter2@node.example:8443/v3/APIKEY?key=APIKEY");
        assert_eq!(endpoint.name(), "node.example:8443");
        let shown = format!("{endpoint:?}");
        assert!(!shown.contains("APIKEY") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_is_no_http_url_is_refused_without_quoting_it() {
        let refused = |url| Endpoint::new(url, Limits::default()).unwrap_err();
        assert_eq!(refused("ftp://node.example/APIKEY"), UrlError::Scheme);
        assert_eq!(refused("unix:/run/geth.sock"), UrlError::Scheme);
        let error = refused("https://user:APIKEY@[::1");
        assert!(matches!(error, UrlError::Syntax(_)) && !error.to_string().contains("APIKEY"), "{error}");
    }

    #[test]
    fn loopback_is_told_from_what_only_looks_like_it() {
        for local in ["http://127.0.0.1:1", "http://[::1]:8545/", "http://localhost", "http://127.8.8.8"] {
            assert!(endpoint(local).is_local(), "{local}");
        }
        for far in ["http://localhost.example", "http://127.0.0.1.example", "http://10.0.0.1", "http://[::2]"]
        {
            assert!(!endpoint(far).is_local(), "{far}");
        }
    }

    #[test]
    fn waiting_is_bounded_and_nonsense_ignored() {
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("18446744073709551615"), Some(HttpError::LONGEST_WAIT));
        assert_eq!(wait("18446744073709551616"), None);
        assert_eq!(wait("-1"), None);
        assert_eq!(wait("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
