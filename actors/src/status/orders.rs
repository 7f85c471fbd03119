//! What is ordered over HTTP: who may order, which orders there are, and what is answered and written down.

use actix::MailboxError;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use posthouse_audit::{Kind, Record};
use posthouse_protocol::id::{Bounty, DeviceId};
use serde::Deserialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify};

use super::server::{Desk, Source, error, silent};
use super::{ANSWER, ErrorBody};
use crate::campaign::Order;
use crate::exchange::{GiveOrder, OrderError, Retry};

/// For which sensors an order is.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Scope {
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
pub(super) async fn order(
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
pub(super) async fn retry(desk: Source, request: HttpRequest, device: web::Path<String>) -> HttpResponse {
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

/// What orders need.
pub(super) struct Bearer;

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
