//! JSON-RPC at `POST /`.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header::ContentType};
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};

use crate::node::Node;
use crate::rpc;
use crate::rpc::error::RpcError;
use crate::server::Server;

/// Bytes of a request: a batch of a few transactions of the largest size, in hex.
pub(crate) const MAX_BODY: usize = 2 * 1024 * 1024;

pub(crate) fn start(listener: TcpListener, node: Arc<Node>) -> io::Result<Server> {
    let node = Data::from(node);
    Server::start("devchain-rpc", listener, move |routes: &mut ServiceConfig| {
        routes
            .app_data(node.clone())
            .app_data(PayloadConfig::new(MAX_BODY))
            .route("/", web::post().to(answer))
            .default_service(web::to(elsewhere));
    })
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
