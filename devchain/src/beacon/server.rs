//! The beacon API over HTTP.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::http::header::ACCEPT;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::server::Server;

use super::api;
use super::reply::{Answer, Encoding, Reply};
use super::shared::Shared;

pub(super) fn start(listener: TcpListener, shared: Arc<Shared>) -> io::Result<Server> {
    let shared = Data::from(shared);
    Server::start("devchain-beacon-api", listener, move |routes: &mut ServiceConfig| {
        routes.app_data(shared.clone()).default_service(web::to(serve));
    })
}

async fn serve(request: HttpRequest, shared: Data<Shared>) -> HttpResponse {
    if request.method() != Method::GET {
        return respond(Reply::encode(&Answer::Refused(405, "only GET"), Encoding::Json));
    }
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let encoding = Encoding::accepted(accept);
    let (path, query) = (request.path().to_owned(), request.query_string().to_owned());
    match web::block(move || api::reply(&shared, &path, &query, encoding)).await {
        Ok(reply) => {
            if !reply.delay.is_zero() {
                actix_web::rt::time::sleep(reply.delay).await;
            }
            respond(reply)
        }
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

fn respond(reply: Reply) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for header in reply.headers {
        response.insert_header(header);
    }
    response.body(reply.body)
}
