//! The HTTP side.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::{MailboxError, Recipient};
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, Resource, Route,
    dev::Server,
    error::InternalError,
    http::{StatusCode, header},
    web,
};
use posthouse_audit::{Audit, Kind, Record};
use posthouse_protocol::id::{Bounty, DeviceId, DeviceKey};
use serde::{Deserialize, Serialize};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};

use super::overview::{Overview, Wanted, overview};
use super::{
    ANSWER, Device, ErrorBody, Exchange, GetSnapshot, Page, Part, Snapshot, Status, Token, Update, example,
    metrics, page,
};
use crate::campaign::Order;
use crate::exchange::{GiveOrder, OrderError, Retry};
use crate::messages::Carrier;
use crate::sensors::Carried;

/// Connections at once: a status page, a scraper and a script, many times over.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request line and headers.
const REQUEST: Duration = Duration::from_secs(5);
/// How long answers under way may take when the agent stops.
const GRACE_SECS: u64 = 2;

/// Devices in one answer.
const MAX_PAGE: u16 = 1000;
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
    /// What whoever gives orders must bear; without it, none are taken.
    pub token: Option<Token>,
    /// Writes down who gives which.
    pub audit: Audit,
}

type Source = web::Data<Desk>;

/// Listens on `listen` and answers by `desk`. Returns the server, to be awaited or spawned, and the address that it
/// got (port 0 takes a free one).
pub fn serve(listen: SocketAddr, desk: Desk) -> io::Result<(Server, SocketAddr)> {
    let source = web::Data::new(desk);
    let http = HttpServer::new(move || {
        App::new()
            .app_data(source.clone())
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
            .service(action("/v1/updates/{bounty}/{order}", web::post().to(order)))
            .service(action("/v1/devices/{device}/retry", web::post().to(retry)))
            .configure(page::configure)
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

fn silent(why: &MailboxError) -> HttpResponse {
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

/// Which of a list that may be long.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Paging {
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

impl Paging {
    /// What is asked for.
    fn page(&self) -> Result<Page, &'static str> {
        let limit = self.limit.unwrap_or(MAX_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err("limit is from 1 to 1000");
        }
        let after = self.cursor.as_ref().map(|cursor| cursor.parse::<DeviceKey>()).transpose();
        let after = after.map_err(|_| "the cursor is a device's key: 66 hex digits")?;
        Ok(Page { after, limit: limit.into() })
    }
}

/// Registered sensors, by their keys, in pages: where there are more, `Link` (RFC 8288) has the next one.
#[utoipa::path(get, path = "/v1/devices", tag = "status", params(Paging), responses(
    (status = 200, body = Vec<Device>,
        headers(("Link" = String, description = "where the next page is, with `rel=next`; none behind the last one")),
        example = json!([example::device()])),
    (status = 400, body = ErrorBody, description = "a query that is not known, or out of its bounds"),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn devices(desk: Source, paging: web::Query<Paging>) -> HttpResponse {
    let Page { after, limit } = match paging.page() {
        Ok(page) => page,
        Err(why) => return error(StatusCode::BAD_REQUEST, why),
    };
    // One more tells whether there is another page.
    let part = Part::Devices(Page { after, limit: limit + 1 });
    let mut devices = match ask(&desk, part).await {
        Ok(all) => all.devices,
        Err(refused) => return refused,
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if devices.len() > limit {
        devices.truncate(limit);
        let last = devices.last().map(|device| device.key.as_str()).unwrap_or_default();
        let next = format!("</v1/devices?limit={limit}&cursor={last}>; rel=\"next\"");
        response.insert_header((header::LINK, next));
    }
    response.json(devices)
}

/// Exchanges of files for receipts, from the announcement of an update on, with what happened in them.
#[utoipa::path(get, path = "/v1/exchanges", tag = "status", responses(
    (status = 200, body = Vec<Exchange>, example = json!([example::exchange()])),
    (status = 503, body = ErrorBody, description = "the agent does not answer"),
))]
async fn exchanges(desk: Source) -> HttpResponse {
    answer(&desk, Part::Exchanges, |all| all.exchanges).await
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
    let carried = async |carrier| desk.carried.send(Carried(carrier)).timeout(ANSWER).await;
    let (mqtt, coap) = match (carried(Carrier::Mqtt).await, carried(Carrier::Coap).await) {
        (Ok(mqtt), Ok(coap)) => (mqtt, coap),
        (Err(why), _) | (_, Err(why)) => return silent(&why),
    };
    match metrics::text(&all, [(Carrier::Mqtt, mqtt), (Carrier::Coap, coap)], now()) {
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
    paths(status, updates, devices, exchanges, glance, healthz, readyz, exposition, openapi, order, retry),
    components(schemas(Order)),
    modifiers(&Bearer)
)]
struct Description;

/// What orders need.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("the content of `status.token_file`"))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Well.
#[derive(Serialize, ToSchema)]
struct Health {
    /// True, or there is no such answer.
    ok: bool,
}

/// For which sensors an order is.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Scope {
    /// Only for the sensors of this group of `campaign.groups`.
    #[param(example = "pilot")]
    group: Option<String>,
}

/// Holds an update back, lets it go on, or ends it; kept over restarts.
#[utoipa::path(post, path = "/v1/updates/{bounty}/{order}", tag = "orders",
    params(
        ("bounty" = String, Path, description = "the update, by its bounty's address", pattern = "^(0x)?[0-9a-fA-F]{40}$",
            example = "0x5fbdb2315678afecb367f032d93f642f64180aa3"),
        ("order" = Order, Path, description = "what to do with it", example = "pause"),
        Scope,
    ),
    security(("token" = [])),
    responses(
        (status = 204, description = "it is kept and holds"),
        (status = 400, body = ErrorBody, description = "not a bounty's address, or a query that is not known"),
        (status = 401, body = ErrorBody, description = "without the token"),
        (status = 403, body = ErrorBody, description = "the agent takes no orders"),
        (status = 404, body = ErrorBody, description = "no such update, group or order"),
        (status = 500, body = ErrorBody, description = "it cannot be kept"),
        (status = 503, body = ErrorBody, description = "the agent does not answer"),
    ))]

async fn order(
    desk: Source,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    scope: web::Query<Scope>,
) -> HttpResponse {
    if let Some(refused) = refused(&desk, &request) {
        return refused;
    }
    let (bounty, verb) = path.into_inner();
    let order = match verb.as_str() {
        "resume" => Order::Resume,
        "pause" => Order::Pause,
        "cancel" => Order::Cancel,
        _ => return error(StatusCode::NOT_FOUND, "an order is resume, pause or cancel"),
    };
    let Ok(bounty) = bounty.strip_prefix("0x").unwrap_or(&bounty).parse::<Bounty>() else {
        return error(StatusCode::BAD_REQUEST, "the update is named by its bounty: 40 hex digits");
    };
    let group = scope.into_inner().group;
    let record =
        Record { bounty: Some(format!("0x{bounty}")), group: group.clone(), ..ordered(&order.to_string()) };
    let order = GiveOrder { bounty, group, order };
    done(&desk, record, desk.orders.send(order).timeout(ANSWER).await)
}

/// Gives a sensor that failed too often another try.
#[utoipa::path(post, path = "/v1/devices/{device}/retry", tag = "orders",
    params(("device" = String, Path, description = "the sensor, by its device id", pattern = "^[0-9a-fA-F]{32}$",
        example = "000102030405060708090a0b0c0d0e0f")),
    security(("token" = [])),
    responses(
        (status = 204, description = "its failures are forgotten"),
        (status = 400, body = ErrorBody, description = "not a device id"),
        (status = 401, body = ErrorBody, description = "without the token"),
        (status = 403, body = ErrorBody, description = "the agent takes no orders"),
        (status = 404, body = ErrorBody, description = "no such sensor"),
        (status = 500, body = ErrorBody, description = "it cannot be kept"),
        (status = 503, body = ErrorBody, description = "the agent does not answer"),
    ))]
async fn retry(desk: Source, request: HttpRequest, device: web::Path<String>) -> HttpResponse {
    if let Some(refused) = refused(&desk, &request) {
        return refused;
    }
    let Ok(device) = device.parse::<DeviceId>() else {
        return error(StatusCode::BAD_REQUEST, "a sensor is named by its device id: 32 hex digits");
    };
    let record = Record { device: Some(device.to_string()), ..ordered("retry") };
    done(&desk, record, desk.retries.send(Retry(device)).timeout(ANSWER).await)
}

/// The answer to whoever may not give orders.
fn refused(desk: &Desk, request: &HttpRequest) -> Option<HttpResponse> {
    let tell = |why: &str| {
        let who = request.peer_addr().map(|address| address.ip().to_string());
        desk.audit.tell(Record { who, reason: Some(why.into()), ..Record::new(Kind::OrderRefused) });
    };
    let Some(token) = &desk.token else {
        let why = "no orders are taken: status.token_file is not set";
        tell(why);
        return Some(error(StatusCode::FORBIDDEN, why));
    };
    let header = request.headers().get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    if header.is_some_and(|header| token.is_borne_by(header)) {
        return None;
    }
    let why = "an order needs the token of status.token_file";
    tell(why);
    let refused = ErrorBody { error: why.into() };
    Some(HttpResponse::Unauthorized().insert_header((header::WWW_AUTHENTICATE, "Bearer")).json(refused))
}

/// An order by somebody with the token.
fn ordered(order: &str) -> Record {
    Record { order: Some(order.into()), who: Some("token".into()), ..Record::new(Kind::OrderGiven) }
}

/// Writes an order down, and answers it.
fn done(desk: &Desk, order: Record, answer: Result<Result<(), OrderError>, MailboxError>) -> HttpResponse {
    let why = match &answer {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why.to_string()),
        Err(why) => Some(why.to_string()),
    };
    let kind = if why.is_some() { Kind::OrderRefused } else { Kind::OrderGiven };
    desk.audit.tell(Record { kind, reason: why, ..order });
    match answer {
        Ok(Ok(())) => HttpResponse::NoContent().finish(),
        Ok(Err(why @ OrderError::Store(_))) => error(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
        Ok(Err(why)) => error(StatusCode::NOT_FOUND, why.to_string()),
        Err(why) => silent(&why),
    }
}

async fn elsewhere() -> HttpResponse {
    error(StatusCode::NOT_FOUND, "no such resource; /v1/openapi.json says which there are")
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
    use crate::status::Agent;

    struct Fixed;

    impl Actor for Fixed {
        type Context = Context<Self>;
    }

    impl Handler<GetSnapshot> for Fixed {
        type Result = Snapshot;

        fn handle(&mut self, GetSnapshot(part): GetSnapshot, _: &mut Self::Context) -> Snapshot {
            let agent = Agent { devices: 7, ..Agent::default() };
            let after = |key: &DeviceKey| matches!(part, Part::Devices(page) if page.after.is_some_and(|after| after >= *key));
            let limit = if let Part::Devices(page) = part { page.limit } else { 0 };
            let keys =
                (1..=7).map(|number| DeviceKey::new([number; 33])).filter(|key| !after(key)).take(limit);
            let devices = keys.map(|key| Device { key: key.to_string(), ..Device::default() }).collect();
            Snapshot { status: Status { agent, ..Status::default() }, devices, ..Snapshot::default() }
        }
    }

    impl Handler<Carried> for Fixed {
        type Result = u64;

        fn handle(&mut self, Carried(carrier): Carried, _: &mut Self::Context) -> u64 {
            if carrier == Carrier::Mqtt { 11 } else { 12 }
        }
    }

    impl Handler<GiveOrder> for Fixed {
        type Result = Result<(), OrderError>;

        fn handle(&mut self, order: GiveOrder, _: &mut Context<Self>) -> Self::Result {
            let known = order.bounty == Bounty::new([1; 20]) && order.order == Order::Pause;
            match order.group {
                Some(group) if group != "pilot" => Err(OrderError::Group(group)),
                _ if known => Ok(()),
                _ => Err(OrderError::Update(order.bounty)),
            }
        }
    }

    impl Handler<Retry> for Fixed {
        type Result = Result<(), OrderError>;

        fn handle(&mut self, Retry(device): Retry, _: &mut Context<Self>) -> Self::Result {
            if device == DeviceId::new([2; 16]) { Ok(()) } else { Err(OrderError::Sensor(device)) }
        }
    }

    fn desk(token: Option<&str>) -> Desk {
        let fixed = Fixed.start();
        Desk {
            source: fixed.clone().recipient(),
            orders: fixed.clone().recipient(),
            retries: fixed.clone().recipient(),
            carried: fixed.recipient(),
            token: token.map(|token| Token::new(token.as_bytes()).unwrap()),
            audit: Audit::nowhere(),
        }
    }

    #[actix::test]
    async fn an_order_needs_the_token_and_names_what_there_is() {
        const TOKEN: &str = "0123456789abcdef";
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::at(&folder.path().join("audit"), posthouse_audit::Bounds::default());
        let desk = Desk { audit: audit.clone(), ..desk(Some(TOKEN)) };
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), desk).unwrap();
        let handle = server.handle();
        let running = actix::spawn(server);
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        let update = format!("/v1/updates/0x{}", "01".repeat(20));
        for (path, headers, expected) in [
            (format!("{update}/pause"), "", "401"),
            (format!("{update}/pause"), "Authorization: Bearer 0123456789abcdeg\r\n", "401"),
            (format!("{update}/pause"), "Authorization: Basic 0123456789abcdef\r\n", "401"),
            (format!("{update}/pause"), bearer.as_str(), "204"),
            (format!("{update}/pause?group=pilot"), bearer.as_str(), "204"),
            (format!("{update}/pause?group=none"), bearer.as_str(), "404"),
            (format!("{update}/pause?groop=pilot"), bearer.as_str(), "400"),
            (format!("{update}/stop"), bearer.as_str(), "404"),
            (format!("/v1/updates/0x{}/pause", "02".repeat(20)), bearer.as_str(), "404"),
            ("/v1/updates/7/pause".into(), bearer.as_str(), "400"),
            (format!("/v1/devices/{}/retry", "02".repeat(16)), "", "401"),
            (format!("/v1/devices/{}/retry", "02".repeat(16)), bearer.as_str(), "204"),
            (format!("/v1/devices/{}/retry", "03".repeat(16)), bearer.as_str(), "404"),
            ("/v1/devices/x/retry".into(), bearer.as_str(), "400"),
        ] {
            let answer = talk(address, &format!("POST {path}"), headers).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{path}: {answer}");
        }
        handle.stop(true).await;
        running.await.unwrap().unwrap();

        assert!(audit.flush(ANSWER));
        let written = std::fs::read_to_string(folder.path().join("audit")).unwrap();
        assert!(!written.contains(TOKEN) && !written.contains("0123456789abcdeg"), "no secret, nor a guess");
        let written: Vec<Record> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind| written.iter().filter(move |record| record.kind == kind);
        let given: Vec<_> = of(Kind::OrderGiven).map(|r| (r.order.as_deref(), r.group.as_deref())).collect();
        assert_eq!(given, [(Some("pause"), None), (Some("pause"), Some("pilot")), (Some("retry"), None)]);
        let by = |who: &str| of(Kind::OrderRefused).filter(|r| r.who.as_deref() == Some(who)).count();
        assert_eq!((by("127.0.0.1"), by("token")), (4, 3), "without the token, and for what there is not");
    }

    #[actix::test]
    async fn without_a_token_no_orders_are_taken() {
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), desk(None)).unwrap();
        let handle = server.handle();
        let running = actix::spawn(server);
        let answer = talk(address, &format!("POST /v1/updates/{}/pause", "01".repeat(20)), "").await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("token_file"), "{answer}");
        handle.stop(true).await;
        running.await.unwrap().unwrap();
    }

    #[actix::test]
    async fn devices_come_in_pages() {
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), desk(None)).unwrap();
        let handle = server.handle();
        let running = actix::spawn(server);
        let (mut path, mut pages) = ("/v1/devices?limit=3".to_owned(), Vec::new());
        loop {
            let answer = get(address, &format!("GET {path}")).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
            let devices: Vec<Device> = serde_json::from_str(body).unwrap();
            pages.push(devices.iter().map(|device| device.key[..2].to_owned()).collect::<Vec<_>>().concat());
            let Some(link) = head.lines().find_map(|line| line.strip_prefix("link: <")) else { break };
            let (next, rel) = link.split_once('>').unwrap();
            assert_eq!(rel, "; rel=\"next\"");
            path = next.to_owned();
        }
        assert_eq!(pages, ["010203", "040506", "07"]);
        let whole = get(address, "GET /v1/devices").await;
        assert!(whole.contains("\"key\":\"07") && !whole.contains("\r\nlink:"), "{whole}");
        let behind = get(address, &format!("GET /v1/devices?cursor={}", "07".repeat(33))).await;
        assert!(behind.ends_with("\r\n\r\n[]"), "{behind}");
        for query in ["limit=0", "limit=1001", "limit=x", "cursor=07", "page=1"] {
            let refused = get(address, &format!("GET /v1/devices?{query}")).await;
            assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"error\":"), "{refused}");
        }
        handle.stop(true).await;
        running.await.unwrap().unwrap();
    }

    async fn get(address: SocketAddr, request: &str) -> String {
        talk(address, request, "").await
    }

    async fn talk(address: SocketAddr, request: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[actix::test]
    async fn each_resource_answers_json_and_nothing_else_is_there() {
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), desk(None)).unwrap();
        let handle = server.handle();
        let running = actix::spawn(server);
        let status = get(address, "GET /v1/status").await;
        assert!(status.starts_with("HTTP/1.1 200") && status.contains("\"devices\":7"), "{status}");
        for list in ["updates", "exchanges"] {
            let text = get(address, &format!("GET /v1/{list}")).await;
            assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("[]"), "{text}");
        }
        let overview = get(address, "GET /v1/overview?show=held&limit=100").await;
        assert!(overview.starts_with("HTTP/1.1 200") && overview.contains("\"found\":0"), "{overview}");
        for query in ["limit=0", "limit=101", "limit=x", "show=", "offset=-1", "offset=1000001", "shows=held"]
        {
            let refused = get(address, &format!("GET /v1/overview?{query}")).await;
            assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"error\":"), "{refused}");
        }
        assert!(get(address, "GET /healthz").await.ends_with("{\"ok\":true}"));
        assert!(get(address, "GET /v1/secrets").await.starts_with("HTTP/1.1 404"));
        let refused = get(address, "DELETE /v1/devices").await;
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET"), "{refused}");
        let described = get(address, "GET /v1/openapi.json").await;
        assert!(described.contains("\"openapi\":\"3.1.0\"") && described.contains("\"/v1/exchanges\""));
        let metrics = get(address, "GET /metrics").await;
        assert!(metrics.ends_with("# EOF\n"));
        assert!(metrics.contains("posthouse_carried_bytes_total{carrier=\"coap\"} 12\n"), "{metrics}");
        assert!(get(address, "GET /readyz").await.starts_with("HTTP/1.1 503"));
        handle.stop(true).await;
        running.await.unwrap().unwrap();
    }

    #[cfg(feature = "page")]
    #[actix::test]
    async fn the_page_comes_whole_with_its_policy_and_is_not_sent_twice() {
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), desk(None)).unwrap();
        let handle = server.handle();
        let running = actix::spawn(server);
        for (path, kind, has) in [
            ("/", "text/html", "</html>"),
            ("/page.css", "text/css", "progress"),
            ("/page.js", "text/javascript", "overview"),
        ] {
            let whole = get(address, &format!("GET {path}")).await;
            assert!(whole.starts_with("HTTP/1.1 200") && whole.contains(has), "{whole}");
            let header = |name: &str| {
                let line = whole.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                line.unwrap_or_else(|| panic!("{name} in {whole}")).to_owned()
            };
            assert_eq!(header("content-type"), format!("{kind}; charset=utf-8"));
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("cache-control"), "no-cache");
            let policy = header("content-security-policy");
            for rule in
                ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
            {
                assert!(policy.split("; ").any(|found| found == rule), "{rule} in {policy}");
            }
            let kept = format!("If-None-Match: \"other\", W/{}\r\n", header("etag"));
            let same = talk(address, &format!("GET {path}"), &kept).await;
            assert!(same.starts_with("HTTP/1.1 304") && same.ends_with("\r\n\r\n"), "{same}");
            let refused = get(address, &format!("POST {path}")).await;
            assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET"), "{refused}");
        }
        assert!(get(address, "GET /page").await.starts_with("HTTP/1.1 404"));
        handle.stop(true).await;
        running.await.unwrap().unwrap();
    }

    #[cfg(not(feature = "page"))]
    #[actix::test]
    async fn a_program_without_the_page_has_none() {
        let (server, address) = serve("127.0.0.1:0".parse().unwrap(), desk(None)).unwrap();
        let handle = server.handle();
        let running = actix::spawn(server);
        for path in ["/", "/page.css", "/page.js"] {
            let none = get(address, &format!("GET {path}")).await;
            assert!(none.starts_with("HTTP/1.1 404") && none.contains("\"error\":"), "{none}");
        }
        handle.stop(true).await;
        running.await.unwrap().unwrap();
    }
}
