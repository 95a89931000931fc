//! schemathesis against the OpenAPI document that the binary serves: no answer that the document does not describe, nothing
//! accepted that it forbids, no server error.
//!
//! What the document allows may still be refused: a schema does not say which addresses an instance can have, or that a
//! text is a duration. So that is not judged here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use meshwright_testkit::{Config, Launch, binary, gateway_to};

/// No request of this run waits or holds a connection. Of a batch, every operation is judged by itself in an answer of 200.
const SETTINGS: &str = r#"
[checks]
positive_data_acceptance.enabled = false

[parameters]
"query.hold" = false
"query.wait" = "1ms"

[[operations]]
include-path = "/v1/batch"
checks.negative_data_rejection.enabled = false
"#;

fn schemathesis(options: &[&str]) {
    let config = Config::new(&[&gateway_to("users")]);
    let process = Launch::run(binary!()).file(config.path()).start();
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("schemathesis.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let mut command = support::installed_command("python/bin/python3");
    command.args(["-c", "import schemathesis.cli; schemathesis.cli.schemathesis()"]);
    command.arg("--config-file").arg(&settings);
    command.arg("run").arg(format!("http://{}/v1/openapi.json", process.admin()));
    command.args(["--seed", "1", "--no-color"]);
    command.args(["--request-timeout", "20", "--warnings", "off"]).args(options).current_dir(folder.path());
    let (code, output, errors) = support::output(&mut command);
    assert_eq!(code, 0, "{output}{errors}");
    assert_eq!(process.admin_get("/v1/status").status, 200);
}

#[test]
fn schemathesis_finds_nothing_in_a_short_run() {
    schemathesis(&["--phases", "examples,fuzzing", "--max-examples", "5"]);
}

#[test]
#[ignore = "all phases with many examples take minutes"]
fn schemathesis_finds_nothing_in_a_long_run() {
    schemathesis(&["--max-examples", "60"]);
}
