//! The HTTP side.

use std::{
    fs::Permissions,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    os::unix::net::UnixListener,
    path::Path,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::{MailboxError, Recipient};
use actix_web::{
    App, HttpResponse, HttpServer, Resource, Route,
    dev::Server,
    error::InternalError,
    http::{StatusCode, header},
    rt::net::UnixStream,
    web,
};
use posthouse_audit::Audit;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::orders::Bearer;
use super::overview::{Overview, Wanted, overview};
use super::{
    ANSWER, CarriedBytes, Device, ErrorBody, Exchange, GetPeers, GetSnapshot, Page, Part, Peers, Process,
    Snapshot, Status, Token, Update, Usage, example, metrics, orders, page,
};
use crate::campaign::Order;
use crate::exchange::{GiveOrder, Retry};
use crate::messages::Carrier;
use crate::sensors::Carried;

/// Connections at once: a status page, a scraper and a script, many times over.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request line and headers.
const REQUEST: Duration = Duration::from_secs(5);
/// How long answers under way may take when the agent stops.
const GRACE_SECS: u64 = 2;

/// Connections that wait to be taken at the Unix socket.
const BACKLOG: i32 = 128;
/// Devices in one answer.
const MAX_DEVICES: u16 = 1000;
/// Exchanges in one answer: each has all its sensors.
const MAX_EXCHANGES: u16 = 8;
/// Longest body of an order: they have none.
const MAX_BODY: usize = 1024;

/// Whom the server asks.
#[derive(Clone)]
pub struct Desk {
    /// Who knows everything.
    pub source: Recipient<GetSnapshot>,
    /// Who takes orders for updates.
    pub orders: Recipient<GiveOrder>,
    /// Who gives a sensor another try.
    pub retries: Recipient<Retry>,
    /// Who knows what the carriers have carried.
    pub carried: Recipient<Carried>,
    /// Who knows the storage network.
    pub peers: Recipient<GetPeers>,
    /// What whoever gives orders over TCP must bear; without it, none are taken there.
    pub token: Option<Token>,
    /// Writes down orders that the two never see.
    pub audit: Audit,
}

pub(super) type Source = web::Data<Desk>;

/// Who asks over the Unix socket.
pub(super) struct Local {
    /// Unix user id, where the kernel tells it.
    pub uid: Option<u32>,
}

/// Listens on `address` (port 0 takes a free one) and at `socket`, and answers by `desk`. Returns the server, to be awaited or
/// spawned, and the address that it got.
pub fn serve(
    address: Option<SocketAddr>,
    socket: Option<UnixListener>,
    desk: Desk,
) -> io::Result<(Server, Option<SocketAddr>)> {
    let (source, places) = (web::Data::new(desk), orders::places());
    let http = HttpServer::new(move || {
        App::new()
            .app_data(source.clone())
            .app_data(places.clone())
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .app_data(web::QueryConfig::default().error_handler(|why, _| {
                let said = why.to_string();
                InternalError::from_response(why, error(StatusCode::BAD_REQUEST, said)).into()
            }))
            .service(resource("/healthz", web::get().to(healthz)))
            .service(resource("/readyz", web::get().to(readyz)))
            .service(resource("/metrics", web::get().to(exposition)))
            .service(resource("/v1/openapi.json", web::get().to(openapi)))
            .service(resource("/v1/status", web::get().to(status)))
            .service(resource("/v1/updates", web::get().to(updates)))
            .service(resource("/v1/devices", web::get().to(devices)))
            .service(resource("/v1/exchanges", web::get().to(exchanges)))
            .service(resource("/v1/overview", web::get().to(glance)))
            .service(resource("/v1/peers", web::get().to(peers)))
            .service(resource("/v1/usage", web::get().to(usage)))
            .service(action("/v1/updates/{bounty}/{order}", web::post().to(orders::order)))
            .service(action("/v1/devices/{device}/retry", web::post().to(orders::retry)))
            .configure(page::configure)
            .default_service(web::to(elsewhere))
    })
    .workers(1)
    .max_connections(CONNECTIONS)
    .client_request_timeout(REQUEST)
    .shutdown_timeout(GRACE_SECS)
    .disable_signals()
    .on_connect(|stream, of_connection| {
        if let Some(stream) = stream.downcast_ref::<UnixStream>() {
            of_connection.insert(Local { uid: stream.peer_cred().ok().map(|peer| peer.uid()) });
        }
    });
    let http = if let Some(address) = address { http.bind(address)? } else { http };
    let bound = http.addrs().first().copied();
    let http = if let Some(socket) = socket { http.listen_uds(socket)? } else { http };
    Ok((http.run(), bound))
}

/// A Unix socket at this path for its owner and group. One that an earlier gateway left is replaced.
///
/// # Errors
/// Somebody listens there, or something else is there; the folder is missing or may not be written to.
pub fn socket(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is another file"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        },
        Err(_) => {}
    }
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before it listens, whatever the umask is.
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Something to read.
pub(super) fn resource(path: &str, route: Route) -> Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(async || not_allowed("GET", "it can be read only")))
}

/// Something to order.
fn action(path: &str, route: Route) -> Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(async || not_allowed("POST", "an order is posted")))
}

fn not_allowed(allow: &'static str, why: &str) -> HttpResponse {
    let why = ErrorBody { error: why.into() };
    HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, allow)).json(why)
}

async fn ask(desk: &Desk, part: Part) -> Result<Snapshot, HttpResponse> {
    let asked = desk.source.send(GetSnapshot(part)).timeout(ANSWER).await;
    asked.map_err(|why| silent(&why))
}

pub(super) fn silent(why: &MailboxError) -> HttpResponse {
    error(StatusCode::SERVICE_UNAVAILABLE, format!("the agent does not answer: {why}"))
}

async fn answer<T: Serialize>(desk: &Desk, of: Part, part: impl FnOnce(Snapshot) -> T) -> HttpResponse {
    ask(desk, of).await.map_or_else(std::convert::identity, |all| {
        HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(part(all))
    })
}

/// The agent, the chain as it sees it, and staged images.
#[utoipa::path(get, path = "/v1/status", tag = "status", responses(
    (status = 200, body = Status, example = json!(example::status())),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn status(desk: Source) -> HttpResponse {
    answer(&desk, Part::Status, |all| all.status).await
}

/// Updates that the vendors announced for this site's products.
#[utoipa::path(get, path = "/v1/updates", tag = "status", responses(
    (status = 200, body = Vec<Update>, example = json!([example::update()])),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn updates(desk: Source) -> HttpResponse {
    answer(&desk, Part::Updates, |all| all.updates).await
}

/// Which of the devices.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SomeDevices {
    /// So many at most.
    #[param(minimum = 1, maximum = 1000, default = 1000, example = 100)]
    limit: Option<u16>,
    /// Those behind this device: the `key` of the last one of the page before.
    #[param(
        pattern = "^[0-9a-fA-F]{66}$",
        example = "02abababababababababababababababababababababababababababababababab"
    )]
    cursor: Option<String>,
}

/// Which of the exchanges.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SomeExchanges {
    /// So many at most.
    #[param(minimum = 1, maximum = 8, default = 8, example = 4)]
    limit: Option<u16>,
    /// Those behind this exchange: the `bounty` of the last one of the page before.
    #[param(pattern = "^(0x)?[0-9a-fA-F]{40}$", example = "0x5fbdb2315678afecb367f032d93f642f64180aa3")]
    cursor: Option<String>,
}

/// What is asked for of a list of which an answer has at most `most`.
fn some<K: FromStr>(limit: Option<u16>, cursor: Option<&str>, most: u16) -> Result<Page<K>, String> {
    let limit = limit.unwrap_or(most);
    if !(1..=most).contains(&limit) {
        return Err(format!("limit is from 1 to {most}"));
    }
    let after = cursor.map(|cursor| cursor.parse::<K>()).transpose();
    let after = after.map_err(|_| "the cursor is what names the last one of the page before")?;
    Ok(Page { after, limit: limit.into() })
}

/// One page of `resource`, with a link to the next one (RFC 8288) where `list` has more than that.
fn paged<T: Serialize>(resource: &str, mut list: Vec<T>, limit: usize, name: fn(&T) -> &str) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if list.len() > limit {
        list.truncate(limit);
        let last = list.last().map(name).unwrap_or_default();
        let next = format!("<{resource}?limit={limit}&cursor={last}>; rel=\"next\"");
        response.insert_header((header::LINK, next));
    }
    response.json(list)
}

/// Registered sensors, by their keys, in pages: where there are more, `Link` (RFC 8288) has the next one.
#[utoipa::path(get, path = "/v1/devices", tag = "status", params(SomeDevices), responses(
    (status = 200, body = Vec<Device>,
        headers(("Link" = String, description = "where the next page is, with `rel=next`; none behind the last one")),
        example = json!([example::device()])),
    (status = 400, body = ErrorBody, description = "a query that is not known, or out of its bounds"),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn devices(desk: Source, wanted: web::Query<SomeDevices>) -> HttpResponse {
    let Page { after, limit } = match some(wanted.limit, wanted.cursor.as_deref(), MAX_DEVICES) {
        Ok(page) => page,
        Err(why) => return error(StatusCode::BAD_REQUEST, why),
    };
    // One more tells whether there is another page.
    match ask(&desk, Part::Devices(Page { after, limit: limit + 1 })).await {
        Ok(all) => paged("/v1/devices", all.devices, limit, |device| &device.key),
        Err(refused) => refused,
    }
}

/// Exchanges of files for receipts, from the announcement of an update on, with what happened in them; by their bounties, in pages:
/// where there are more, `Link` (RFC 8288) has the next one.
#[utoipa::path(get, path = "/v1/exchanges", tag = "status", params(SomeExchanges), responses(
    (status = 200, body = Vec<Exchange>,
        headers(("Link" = String, description = "where the next page is, with `rel=next`; none behind the last one")),
        example = json!([example::exchange()])),
    (status = 400, body = ErrorBody, description = "a query that is not known, or out of its bounds"),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn exchanges(desk: Source, wanted: web::Query<SomeExchanges>) -> HttpResponse {
    let Page { after, limit } = match some(wanted.limit, wanted.cursor.as_deref(), MAX_EXCHANGES) {
        Ok(page) => page,
        Err(why) => return error(StatusCode::BAD_REQUEST, why),
    };
    match ask(&desk, Part::Exchanges(Page { after, limit: limit + 1 })).await {
        Ok(all) => paged("/v1/exchanges", all.exchanges, limit, |exchange| &exchange.bounty),
        Err(refused) => refused,
    }
}

/// How all updates and sensors stand, with some of the sensors: small however many there are.
#[utoipa::path(get, path = "/v1/overview", tag = "status", params(Wanted), responses(
    (status = 200, body = Overview, example = json!(example::overview())),
    (status = 400, body = ErrorBody, description = "a query that is not known, or out of its bounds"),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn glance(desk: Source, wanted: web::Query<Wanted>) -> HttpResponse {
    match wanted.fault() {
        Some(why) => error(StatusCode::BAD_REQUEST, why),
        None => answer(&desk, Part::All, |all| overview(all, now(), &wanted)).await,
    }
}

/// Whom the gateway is connected to in the storage network, where it finds packages and images.
#[utoipa::path(get, path = "/v1/peers", tag = "status", responses(
    (status = 200, body = Peers, example = json!(example::peers())),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn peers(desk: Source) -> HttpResponse {
    match desk.peers.send(GetPeers).timeout(ANSWER).await {
        Ok(Some(peers)) => HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(peers),
        Ok(None) => error(StatusCode::SERVICE_UNAVAILABLE, "the storage network's peer has ended"),
        Err(why) => silent(&why),
    }
}

/// What the gateway takes: memory, processor, bytes to sensors, staged images.
#[utoipa::path(get, path = "/v1/usage", tag = "status", responses(
    (status = 200, body = Usage, example = json!(example::usage())),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn usage(desk: Source) -> HttpResponse {
    let carried = match carried(&desk).await {
        Ok(carried) => carried,
        Err(why) => return silent(&why),
    };
    answer(&desk, Part::Status, |all| Usage { process: Process::now(), carried, staging: all.status.staging })
        .await
}

/// What the carriers have carried.
async fn carried(desk: &Desk) -> Result<CarriedBytes, MailboxError> {
    let carried = async |carrier| desk.carried.send(Carried(carrier)).timeout(ANSWER).await;
    Ok(CarriedBytes { mqtt: carried(Carrier::Mqtt).await?, coap: carried(Carrier::Coap).await? })
}

/// Whether the agent answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses(
    (status = 200, body = Health, example = json!({"ok": true})),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn healthz(desk: Source) -> HttpResponse {
    answer(&desk, Part::Status, |_| Health { ok: true }).await
}

/// Whether the agent has seen the chain, so that it can buy what is announced.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = Health, example = json!({"ok": true})),
    (status = 503, body = ErrorBody, description = "no final block was read yet, or the agent does not answer"),
))]
async fn readyz(desk: Source) -> HttpResponse {
    match ask(&desk, Part::Status).await {
        Ok(all) if all.status.chain.finalized.is_none() => {
            error(StatusCode::SERVICE_UNAVAILABLE, "no final block was read yet")
        }
        Ok(_) => HttpResponse::Ok().json(Health { ok: true }),
        Err(refused) => refused,
    }
}

/// What Prometheus scrapes, as docs/metrics.md names it.
#[utoipa::path(get, path = "/metrics", tag = "health", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text", example = "posthouse_sensors_pending 3"),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn exposition(desk: Source) -> HttpResponse {
    let all = match ask(&desk, Part::All).await {
        Ok(all) => all,
        Err(refused) => return refused,
    };
    let carried = match carried(&desk).await {
        Ok(carried) => carried,
        Err(why) => return silent(&why),
    };
    match metrics::text(&all, carried, now()) {
        Ok(text) => HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text),
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}

/// Unix milliseconds.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(now).unwrap_or(u64::MAX)
}

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "health", responses(
    (status = 200, body = Object, description = "OpenAPI 3.1", example = json!({"openapi": "3.1.0"})),
))]
async fn openapi() -> HttpResponse {
    HttpResponse::Ok().json(Description::openapi())
}

/// All of it, in OpenAPI's form.
#[derive(OpenApi)]
#[openapi(
    info(title = "Posthouse gateway", description = "The local status of a gateway, and orders to it"),
    paths(status, updates, devices, exchanges, glance, peers, usage, healthz, readyz, exposition, openapi, orders::order, orders::retry),
    components(schemas(Order)),
    modifiers(&Bearer)
)]
struct Description;

/// Well.
#[derive(Serialize, ToSchema)]
struct Health {
    /// True, or there is no such answer.
    ok: bool,
}

async fn elsewhere() -> HttpResponse {
    error(StatusCode::NOT_FOUND, "no such resource; /v1/openapi.json says which there are")
}

pub(super) fn error(status: StatusCode, why: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).json(ErrorBody { error: why.into() })
}
