//! The HTTP side.

use std::{io, net::SocketAddr, time::Duration};

use actix::Recipient;
use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    http::{Method, StatusCode, header},
    web,
};
use serde::Serialize;

use super::{ANSWER, ErrorBody, GetSnapshot, Snapshot};

/// Connections at once: a status page, a scraper and a script, many times over.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request line and headers.
const REQUEST: Duration = Duration::from_secs(5);
/// How long answers under way may take when the agent stops.
const GRACE_SECS: u64 = 2;

type Source = web::Data<Recipient<GetSnapshot>>;

/// Listens on `listen` and answers from `source`. Returns the server, to be awaited or spawned, and the address that it
/// got (port 0 takes a free one).
pub fn serve(listen: SocketAddr, source: Recipient<GetSnapshot>) -> io::Result<(Server, SocketAddr)> {
    let source = web::Data::new(source);
    let http = HttpServer::new(move || {
        App::new()
            .app_data(source.clone())
            .route("/healthz", web::get().to(healthz))
            .route("/v1/status", web::get().to(async |s: Source| answer(s, |all| all.status).await))
            .route("/v1/updates", web::get().to(async |s: Source| answer(s, |all| all.updates).await))
            .route("/v1/devices", web::get().to(async |s: Source| answer(s, |all| all.devices).await))
            .route("/v1/exchanges", web::get().to(async |s: Source| answer(s, |all| all.exchanges).await))
            .default_service(web::to(elsewhere))
    })
    .workers(1)
    .max_connections(CONNECTIONS)
    .client_request_timeout(REQUEST)
    .shutdown_timeout(GRACE_SECS)
    .disable_signals()
    .bind(listen)?;
    let bound = http.addrs().first().copied().unwrap_or(listen);
    Ok((http.run(), bound))
}

async fn answer<T: Serialize>(source: Source, part: impl FnOnce(Snapshot) -> T) -> HttpResponse {
    match source.send(GetSnapshot).timeout(ANSWER).await {
        Ok(all) => HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(part(all)),
        Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, format!("the agent does not answer: {why}")),
    }
}

async fn healthz(source: Source) -> HttpResponse {
    answer(source, |_| serde_json::json!({ "ok": true })).await
}

async fn elsewhere(method: Method) -> HttpResponse {
    if method == Method::GET || method == Method::HEAD {
        return error(
            StatusCode::NOT_FOUND,
            "no such resource; there are /v1/status, updates, devices, exchanges",
        );
    }
    error(StatusCode::METHOD_NOT_ALLOWED, "the status is read-only")
}

fn error(status: StatusCode, why: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).json(ErrorBody { error: why.into() })
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;
    use crate::status::{Agent, Status};

    struct Fixed;

    impl Actor for Fixed {
        type Context = Context<Self>;
    }

    impl Handler<GetSnapshot> for Fixed {
        type Result = Snapshot;

        fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Snapshot {
            let agent = Agent { devices: 7, ..Agent::default() };
            Snapshot { status: Status { agent, ..Status::default() }, ..Snapshot::default() }
        }
    }

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[actix::test]
    async fn each_resource_answers_json_and_nothing_else_is_there() {
        let source = Fixed.start().recipient();
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), source).unwrap();
        let handle = server.handle();
        let running = actix::spawn(server);
        let status = get(address, "GET /v1/status").await;
        assert!(status.starts_with("HTTP/1.1 200") && status.contains("\"devices\":7"), "{status}");
        for list in ["updates", "devices", "exchanges"] {
            let text = get(address, &format!("GET /v1/{list}")).await;
            assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("[]"), "{text}");
        }
        assert!(get(address, "GET /healthz").await.ends_with("{\"ok\":true}"));
        assert!(get(address, "GET /v1/secrets").await.starts_with("HTTP/1.1 404"));
        assert!(get(address, "DELETE /v1/devices").await.starts_with("HTTP/1.1 405"));
        handle.stop(true).await;
        running.await.unwrap().unwrap();
    }
}
