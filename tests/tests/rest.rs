//! The gateway's REST interface by those who know what one should be: OpenAPI's validator reads its description, schemathesis
//! asks it all that the description allows and more, OpenMetrics' own parser reads its metrics (promtool's knows its elder
//! brother), promtool tries the alert rules and reads what the dashboard asks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use posthouse_tests::{process::Programs, scene::Scene, site::PATIENCE};
use serde_json::{Value, json};
use tokio::process::Command;

const TOKEN: &str = "correct horse battery";

fn set(variable: &str) -> OsString {
    std::env::var_os(variable).expect("run by `cargo ci --full --only rest`, which sets it")
}

fn program(name: &str) -> Command {
    Command::new(PathBuf::from(set("POSTHOUSE_REST_PROGRAMS")).join(name))
}

fn promtool() -> Command {
    Command::new(set("POSTHOUSE_PROMTOOL"))
}

async fn done(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// A site whose sensors have their update, so that there is something to show.
async fn served() -> Scene {
    let programs = Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"));
    let mut scene = Scene::on_sale(programs, "").await.unwrap();
    let token = scene.path("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    scene
        .configure_gateway(|gateway| {
            let status = gateway["status"].as_table_mut().unwrap();
            status.insert("token_file".into(), token.to_str().unwrap().into());
        })
        .unwrap();
    scene.site.start_gateway(&[]).unwrap();
    scene.site.start_sensors().unwrap();
    let image = scene.image.clone();
    scene.site.updated(&image, PATIENCE).await.unwrap();
    scene
}

async fn fetch(url: &str, to: &Path) {
    done(Command::new("curl").args(["--silent", "--fail", "--output"]).arg(to).arg(url)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_to_its_description() {
    let scene = served().await;
    let description = scene.path("openapi.json");
    let url = scene.site.status_url("openapi.json");
    fetch(&url, &description).await;
    done(program("python").args(["-m", "openapi_spec_validator"]).arg(&description)).await;
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let mut schemathesis = program("schemathesis");
    schemathesis
        .args(["run", "--header", &bearer, "--generation-deterministic", "--no-color"])
        .args(["--max-examples", "50"])
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        .arg(url)
        .current_dir(scene.path(""));
    done(&mut schemathesis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_its_metrics_and_the_rules_wake_whom_they_should() {
    let scene = served().await;
    let metrics = scene.path("metrics");
    fetch(&scene.site.status_url("metrics").replace("/v1/", "/"), &metrics).await;
    let parse = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse; \
                 print(len(list(parse(open(sys.argv[1]).read()))))";
    let families = done(program("python").args(["-c", parse]).arg(&metrics)).await;
    assert!(String::from_utf8(families.stdout).unwrap().trim().parse::<u32>().unwrap() > 20);
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/prometheus");
    done(promtool().args(["check", "rules", "posthouse.rules.yml"]).current_dir(&rules)).await;
    done(promtool().args(["test", "rules", "posthouse.test.yml"]).current_dir(&rules)).await;
}

/// What Grafana puts in place of its variables.
const VARIABLES: [(&str, &str); 2] = [("$__rate_interval", "5m"), ("$instance", "localhost:8580")];

#[tokio::test]
async fn promtool_reads_what_the_dashboard_asks() {
    let folder = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/grafana/posthouse.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let rules = targets.enumerate().map(|(at, target)| {
        let asked = target["expr"].as_str().unwrap().to_owned();
        let expr = VARIABLES.iter().fold(asked, |expr, (name, value)| expr.replace(name, value));
        assert!(!expr.contains('$'), "{expr}");
        json!({ "record": format!("panel:{at}"), "expr": expr })
    });
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": rules.collect::<Vec<_>>() }] });
    // JSON is YAML.
    let file = folder.path().join("dashboard.yml");
    std::fs::write(&file, rules.to_string()).unwrap();
    done(promtool().args(["check", "rules"]).arg(&file)).await;
}
