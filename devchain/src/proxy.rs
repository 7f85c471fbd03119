//! A liar: JSON-RPC passed on to an honest node, its answers changed on the way back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use reqwest::Client;
use serde_json::{Value, json};

use crate::error::Error;
use crate::rpc::server::MAX_BODY;
use crate::server::Server;

type Rewrite = Box<dyn Fn(&str, &Value, &mut Value) + Send + Sync>;

/// An HTTP server on loopback that stands before a JSON-RPC node, this crate's or any other, and changes what it answers.
/// For tests of what a client believes. It ends when it is dropped.
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    server: Option<Server>,
}

struct Shared {
    client: Client,
    upstream: String,
    rewrite: Rewrite,
    seen: Mutex<Vec<(String, Value)>>,
    no_batches: AtomicBool,
}

impl Proxy {
    /// Starts before the node at the URL `upstream`. For each call, of a batch too, `rewrite` sees the method, the
    /// parameters, and the whole answer with `id`, and `result` or `error`, which it may change to any JSON.
    ///
    /// # Errors
    /// [`Error::Listen`] and [`Error::Server`] when the system refuses a port or a thread.
    pub fn start(
        upstream: &str,
        rewrite: impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        // reqwest asks for a TLS provider even where there is no TLS; a second installation fails, and is not needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let refused = |source| Error::Listen { address, source };
        let listener = TcpListener::bind::<SocketAddr>(address).map_err(refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let client =
            Client::builder().no_proxy().build().map_err(|why| Error::Server(io::Error::other(why)))?;
        let shared = Arc::new(Shared {
            client,
            upstream: upstream.to_owned(),
            rewrite: Box::new(rewrite),
            seen: Mutex::default(),
            no_batches: AtomicBool::new(false),
        });
        let served = Data::from(shared.clone());
        let server = Server::start("devchain-proxy", listener, move |routes: &mut ServiceConfig| {
            routes
                .app_data(served.clone())
                .app_data(PayloadConfig::new(MAX_BODY))
                .default_service(web::to(answer));
        });
        Ok(Self { url, shared, server: Some(server.map_err(Error::Server)?) })
    }

    /// From now on a batch gets one error in place of answers, as from endpoints that do not take any.
    pub fn refuse_batches(&self) {
        self.shared.no_batches.store(true, Ordering::Relaxed);
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The calls that came through, with their parameters, in order.
    pub fn seen(&self) -> Vec<(String, Value)> {
        self.shared.seen().clone()
    }

    /// How often a method was called.
    pub fn count(&self, method: &str) -> usize {
        self.shared.seen().iter().filter(|(name, _)| name == method).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("url", &self.url).field("upstream", &self.shared.upstream).finish()
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<(String, Value)>> {
        self.seen.lock().expect("no code panics while it holds this lock")
    }

    async fn pass(&self, body: Bytes) -> Result<Value, reqwest::Error> {
        let calls: Value = serde_json::from_slice(&body).unwrap_or_default();
        if calls.is_array() && self.no_batches.load(Ordering::Relaxed) {
            return Ok(
                json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "no batches"}}),
            );
        }
        let request = self.client.post(&self.upstream).header("content-type", "application/json").body(body);
        let reply = request.send().await?.bytes().await?;
        let mut reply: Value = serde_json::from_slice(&reply).unwrap_or_default();
        match (calls, &mut reply) {
            (Value::Array(calls), Value::Array(answers)) => {
                calls.iter().zip(answers).for_each(|(call, answer)| self.change(call, answer));
            }
            (call, answer) => self.change(&call, answer),
        }
        Ok(reply)
    }

    fn change(&self, call: &Value, answer: &mut Value) {
        let method = call["method"].as_str().unwrap_or_default();
        self.seen().push((method.to_owned(), call["params"].clone()));
        (self.rewrite)(method, &call["params"], answer);
    }
}

async fn answer(shared: Data<Shared>, body: Bytes) -> HttpResponse {
    match shared.pass(body).await {
        Ok(reply) => HttpResponse::Ok().content_type(ContentType::json()).body(reply.to_string()),
        Err(error) => HttpResponse::BadGateway().body(error.to_string()),
    }
}
