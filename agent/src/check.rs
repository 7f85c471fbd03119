//! `posthouse check-config`.

use std::path::Path;

use posthouse_actors::{Config, Trust};

/// Says that the configuration is one to run with, and what of it a site should think about.
#[allow(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn explain(file: &Path, config: &Config, json: bool) {
    let warnings = warnings(config);
    if json {
        let line = serde_json::json!({ "file": file, "ok": true, "warnings": warnings });
        println!("{line}");
        return;
    }
    println!("{}: ok", file.display());
    for warning in warnings {
        println!("warning: {warning}");
    }
}

/// What is allowed and still unwise, one line each.
pub(crate) fn warnings(config: &Config) -> Vec<&'static str> {
    let mqtt_open = config.sensors.mqtt.as_ref().is_some_and(|m| !m.authenticated);
    let coap_open = config.sensors.coap.as_ref().is_some_and(|coap| coap.listen.is_some());
    let coap_keys = config.sensors.coap.as_ref().is_some_and(|coap| coap.dtls.is_some());
    let mqtt_known = config.sensors.mqtt.is_some() && !mqtt_open;
    let open = [
        (
            config.chain.trust == Trust::Rpc,
            "chain.trust = \"rpc\": the RPC endpoints are believed; use nodes that you run",
        ),
        (
            config.chain.allow_stale_checkpoint,
            "chain.allow_stale_checkpoint: validators that left can sign another history from there",
        ),
        (
            config.chain.trust == Trust::LightClient && config.chain.checkpoint.is_none(),
            "chain.checkpoint is not set: the first start has nothing to begin with",
        ),
        (
            config.sensors.allow_unauthenticated_signing && (mqtt_open || coap_open),
            "sensors.allow_unauthenticated_signing: whoever speaks on the carriers can have receipts signed for himself",
        ),
        (
            !config.sensors.allow_unauthenticated_signing && !mqtt_known && !coap_keys,
            "no carrier authenticates sensors (sensors.mqtt.authenticated, sensors.coap.dtls): none will be asked to sign, so that none is updated",
        ),
        (
            config.status.listen.is_some_and(|at| !at.ip().is_loopback()),
            "status.listen: the status is served beyond this machine",
        ),
    ];
    open.into_iter().filter_map(|(holds, text)| holds.then_some(text)).collect()
}
