//! The page at `/` for people: three files that are compiled in, and nothing from anywhere else. It reads `/v1/overview`.
//!
//! What sensors, distributors and vendors say comes to the page as JSON and is shown as text only; the policy below has browsers
//! refuse whatever else might be made of it. The page gives no orders: it needs no token, and none can be stolen from it.

use actix_web::web::ServiceConfig;

#[cfg(feature = "page")]
mod files;

/// Serves the page, where the program has one.
pub(super) fn configure(config: &mut ServiceConfig) {
    #[cfg(feature = "page")]
    files::configure(config);
    #[cfg(not(feature = "page"))]
    let _none = config;
}
