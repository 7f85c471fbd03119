//! HTTP/1.1 on loopback, on threads of its own, so that the chain needs nobody's runtime.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::{StatusCode, header::ContentType};
use actix_web::web::{self, Bytes, Data, PayloadConfig};
use actix_web::{App, HttpResponse, HttpServer};

use crate::node::Node;
use crate::rpc;
use crate::rpc::error::RpcError;

/// Bytes of a request: a batch of a few transactions of the largest size, in hex.
pub(crate) const MAX_BODY: usize = 2 * 1024 * 1024;
const MAX_CONNECTIONS: usize = 512;
/// Executions at one time; more requests wait.
const EXECUTORS: usize = 4;
/// A request's head must be complete by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The server's thread, and how to end it.
pub(crate) struct Server {
    handle: ServerHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(crate) fn start(listener: TcpListener, node: Arc<Node>) -> io::Result<Self> {
        let (ready, started) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("devchain-rpc".into())
            .spawn(move || actix_web::rt::System::new().block_on(serve(listener, node, ready)))?;
        let handle = started.recv().map_err(|_| io::Error::other("the server's thread ended early"))??;
        Ok(Self { handle, thread })
    }

    pub(crate) fn stop(self) {
        // The command is on its way once `stop` returns; its future only tells of the end, as the
        // thread's end does.
        drop(self.handle.stop(false));
        match self.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the JSON-RPC server ended badly"),
            Err(_) => tracing::error!("the JSON-RPC server's thread had panicked"),
        }
    }
}

async fn serve(
    listener: TcpListener,
    node: Arc<Node>,
    ready: SyncSender<io::Result<ServerHandle>>,
) -> io::Result<()> {
    let node = Data::from(node);
    let app = move || {
        App::new()
            .app_data(node.clone())
            .app_data(PayloadConfig::new(MAX_BODY))
            .route("/", web::post().to(answer))
            .default_service(web::to(elsewhere))
    };
    let bound = HttpServer::new(app)
        .workers(1)
        .worker_max_blocking_threads(EXECUTORS)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(HEAD_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .disable_signals()
        .listen(listener);
    let server = match bound {
        Ok(bound) => bound.run(),
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    // Nobody waits only if `start` has already given up.
    let _ = ready.send(Ok(server.handle()));
    server.await
}

async fn answer(node: Data<Node>, body: Result<Bytes, actix_web::Error>) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            let status = error.as_response_error().status_code();
            let refusal = RpcError::invalid_request(format!("request body: {error}"));
            return json(status, rpc::failure(refusal));
        }
    };
    match web::block(move || rpc::answer(&node, &body)).await {
        Ok(Some(reply)) => json(StatusCode::OK, reply),
        Ok(None) => HttpResponse::NoContent().finish(),
        Err(_) => json(StatusCode::OK, rpc::failure(RpcError::internal("the request was abandoned"))),
    }
}

async fn elsewhere() -> HttpResponse {
    let refusal = RpcError::invalid_request("JSON-RPC is at POST /");
    json(StatusCode::METHOD_NOT_ALLOWED, rpc::failure(refusal))
}

fn json(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status).content_type(ContentType::json()).body(body)
}
