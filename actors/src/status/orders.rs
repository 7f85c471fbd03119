//! What is ordered over HTTP: who may order, which orders there are, and what is answered. What comes of an order the exchanges write down;
//! here it is written down what they never see.

use actix::{MailboxError, Message, Recipient};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use posthouse_audit::{Kind, Record, now};
use posthouse_protocol::id::{Bounty, DeviceId};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify};

use super::server::{Desk, Local, Source, error, silent};
use super::{ANSWER, ErrorBody};
use crate::campaign::Order;
use crate::exchange::{GiveOrder, OrderError, Retry};

/// Orders that may wait for the exchanges at once, whoever still waits for their answers.
const WAITING: usize = 64;
/// Who gives orders, in the audit log: whoever bears the token.
const BEARER: &str = "token";

/// A permit for each order that waits.
type Places = web::Data<Semaphore>;

/// For orders that wait: the same for all of a server's threads.
pub(super) fn places() -> Places {
    web::Data::new(Semaphore::new(WAITING))
}

/// For which sensors an order is.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Scope {
    /// Only for the sensors of this group of `campaign.groups`.
    #[param(example = "pilot")]
    group: Option<String>,
}

/// Holds an update back, approves it, lets it go on, or ends it; kept over restarts.
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
        (status = 403, body = ErrorBody, description = "the agent takes no orders over TCP"),
        (status = 404, body = ErrorBody, description = "no such update, group or order"),
        (status = 500, body = ErrorBody, description = "it cannot be kept"),
        (status = 503, body = ErrorBody, description = "the agent does not answer in time; what came of it is in the audit log"),
    ))]
pub(super) async fn order(
    desk: Source,
    places: Places,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    scope: Result<web::Query<Scope>, actix_web::Error>,
) -> HttpResponse {
    let who = match admit(&desk, &request) {
        Ok(who) => who,
        Err(refused) => return *refused,
    };
    let (bounty, verb) = path.into_inner();
    let order = match verb.as_str() {
        "approve" => Order::Approve,
        "resume" => Order::Resume,
        "pause" => Order::Pause,
        "cancel" => Order::Cancel,
        _ => return unfit(&desk, who, StatusCode::NOT_FOUND, "an order is approve, resume, pause or cancel"),
    };
    let Ok(bounty) = bounty.strip_prefix("0x").unwrap_or(&bounty).parse::<Bounty>() else {
        return unfit(
            &desk,
            who,
            StatusCode::BAD_REQUEST,
            "the update is named by its bounty: 40 hex digits",
        );
    };
    let group = match scope {
        Ok(scope) => scope.into_inner().group,
        Err(why) => return unfit(&desk, who, StatusCode::BAD_REQUEST, &why.to_string()),
    };
    let order = GiveOrder { bounty, group, order, who };
    give(&desk, places, &desk.orders, order.record(), order).await
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
        (status = 403, body = ErrorBody, description = "the agent takes no orders over TCP"),
        (status = 404, body = ErrorBody, description = "no such sensor"),
        (status = 500, body = ErrorBody, description = "it cannot be kept"),
        (status = 503, body = ErrorBody, description = "the agent does not answer in time; what came of it is in the audit log"),
    ))]
pub(super) async fn retry(
    desk: Source,
    places: Places,
    request: HttpRequest,
    device: web::Path<String>,
) -> HttpResponse {
    let who = match admit(&desk, &request) {
        Ok(who) => who,
        Err(refused) => return *refused,
    };
    let Ok(device) = device.parse::<DeviceId>() else {
        return unfit(
            &desk,
            who,
            StatusCode::BAD_REQUEST,
            "a sensor is named by its device id: 32 hex digits",
        );
    };
    let retry = Retry { device, who };
    give(&desk, places, &desk.retries, retry.record(), retry).await
}

/// Who gives the order, as the audit log names him, or the answer to whoever may not.
fn admit(desk: &Desk, request: &HttpRequest) -> Result<String, Box<HttpResponse>> {
    if let Some(Local { uid }) = request.conn_data::<Local>() {
        return Ok(uid.map_or_else(|| "socket".into(), |uid| format!("uid {uid}")));
    }
    let who = || request.peer_addr().map(|address| address.ip().to_string());
    let tell = |why: &str| tell(desk, Record { who: who(), ..Record::default() }, why);
    let Some(token) = &desk.token else {
        let why = "no orders are taken over TCP: status.token_file is not set";
        tell(why);
        return Err(Box::new(error(StatusCode::FORBIDDEN, why)));
    };
    let header = request.headers().get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    if header.is_some_and(|header| token.is_borne_by(header)) {
        return Ok(BEARER.into());
    }
    let why = "an order needs the token of status.token_file";
    tell(why);
    let refused = ErrorBody { error: why.into() };
    let refused =
        HttpResponse::Unauthorized().insert_header((header::WWW_AUTHENTICATE, "Bearer")).json(refused);
    Err(Box::new(refused))
}

/// The answer to an order that is none.
fn unfit(desk: &Desk, who: String, status: StatusCode, why: &str) -> HttpResponse {
    tell(desk, Record { who: Some(who), ..Record::default() }, why);
    error(status, why)
}

/// Writes down that an order goes no further.
fn tell(desk: &Desk, order: Record, why: &str) {
    desk.audit.tell(Record { time: now(), kind: Kind::OrderRefused, reason: Some(why.into()), ..order });
}

/// Gives an order to the exchanges. It gets there, and is written down, whether or not the client waits for the answer.
async fn give<M>(desk: &Source, places: Places, to: &Recipient<M>, record: Record, order: M) -> HttpResponse
where
    M: Message<Result = Result<(), OrderError>> + Send + 'static,
{
    let Ok(place) = places.into_inner().try_acquire_owned() else {
        let why = "too many orders wait for the agent";
        tell(desk, record, why);
        return error(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let (sent, desk) = (to.send(order), desk.clone());
    let given = actix_web::rt::spawn(async move {
        let _place = place;
        // Without an answer the exchanges have ended before they came to it. Were this dropped, they would pass the order over.
        sent.await.inspect_err(|why| tell(&desk, record, &why.to_string()))
    });
    match timeout(ANSWER, given).await {
        Ok(Ok(Ok(Ok(())))) => HttpResponse::NoContent().finish(),
        Ok(Ok(Ok(Err(why @ OrderError::Store(_))))) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
        }
        Ok(Ok(Ok(Err(why)))) => error(StatusCode::NOT_FOUND, why.to_string()),
        Ok(Ok(Err(why))) => silent(&why),
        Ok(Err(_)) | Err(_) => silent(&MailboxError::Timeout),
    }
}

/// What orders need.
pub(super) struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "the content of `status.token_file`; over the Unix socket of `status.socket` none is needed",
            ))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use actix::{Actor, AsyncContext as _, Context, Handler, WrapFuture as _};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Comes to what it is sent only once it is let, and tells it on.
    struct Busy(Option<oneshot::Receiver<()>>, mpsc::UnboundedSender<Bounty>);

    impl Actor for Busy {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Self::Context) {
            let until = self.0.take();
            context.wait(async { until.unwrap().await.unwrap() }.into_actor(self));
        }
    }

    impl Handler<GiveOrder> for Busy {
        type Result = Result<(), OrderError>;

        fn handle(&mut self, order: GiveOrder, _: &mut Self::Context) -> Self::Result {
            self.1.send(order.bounty).unwrap();
            Ok(())
        }
    }

    #[actix::test]
    async fn an_order_gets_there_though_the_client_has_left() {
        let (free, until) = oneshot::channel();
        let (told, mut taken) = mpsc::unbounded_channel();
        let busy = Busy(Some(until), told).start();
        let desk = web::Data::new(crate::status::tests::desk(None));
        let bounty = Bounty::new([1; 20]);
        let order = GiveOrder { bounty, group: None, order: Order::Pause, who: "uid 0".into() };
        let recipient = busy.recipient();
        let mut given = Box::pin(give(&desk, places(), &recipient, Record::default(), order));
        let begun = std::future::poll_fn(|context| Poll::Ready(given.as_mut().poll(context))).await;
        assert!(begun.is_pending());
        drop(given);
        free.send(()).unwrap();
        drop(recipient);
        assert_eq!(taken.recv().await, Some(bounty));
    }
}
