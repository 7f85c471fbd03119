//! Its files, as a browser may have and keep them.

use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest as _, Sha256};

use super::super::server::resource;

/// What the page may do: run its own script, look as its own style says, and ask the agent that it came from. No text becomes
/// HTML, not even by the script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// One file.
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

static FILES: [File; 3] = [
    File { path: "/", kind: "text/html; charset=utf-8", text: include_str!("index.html") },
    File { path: "/page.css", kind: "text/css; charset=utf-8", text: include_str!("page.css") },
    File { path: "/page.js", kind: "text/javascript; charset=utf-8", text: include_str!("page.js") },
];

pub(super) fn configure(config: &mut ServiceConfig) {
    for file in &FILES {
        let serve = move |request: HttpRequest| async move { file.answer(&request) };
        config.service(resource(file.path, web::get().to(serve)));
    }
}

impl File {
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(self.text)[..16]));
        let kept = request.headers().get(header::IF_NONE_MATCH).and_then(|kept| kept.to_str().ok());
        let same =
            kept.is_some_and(|kept| kept.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
        let mut answer = if same { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        answer
            .insert_header((header::ETAG, tag))
            // Asked for each time: another version of the program has another page.
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::REFERRER_POLICY, "no-referrer"));
        if same { answer.finish() } else { answer.content_type(self.kind).body(self.text) }
    }
}
