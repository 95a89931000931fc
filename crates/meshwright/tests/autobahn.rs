//! Autobahn's WebSocket test suite as the client, the gateway before `meshwright echo`, in clear text and over TLS.
//! `cargo xtask tools --long` installs the suite where there is a Python 2.7, which it needs. Our own questions about
//! WebSocket are in `websocket.rs`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use meshwright_testkit::{Authority, Config, Launch, binary, gateway_with_https_to, service_entry};
use support::Backend;

/// Begins the suite. Arguments: the folder it is installed in, then its own. Its packages share a namespace, so the folder
/// must be a site directory; to name it in the path does not do.
const WSTEST: &str = "
import site, sys
site.addsitedir(sys.argv.pop(1))
from autobahntestsuite.wstest import run
run()
";

/// Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, limits, and automatic fragments. Not 12 and 13:
/// they are about compression, which `echo` does not offer.
const CASES: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];

/// Every case that these patterns name in the suite's version that is installed; fewer mean that some did not run.
const NUMBER_OF_CASES: usize = 301;

/// What the suite may say of a case. `NON-STRICT`: right, though not at the earliest moment. `INFORMATIONAL`: there is no
/// right and wrong.
const GOOD: [&str; 3] = ["OK", "NON-STRICT", "INFORMATIONAL"];

#[test]
#[ignore = "longer tier: it needs Python 2.7, which `cargo xtask test --long` looks for"]
fn autobahns_cases_pass_through_the_gateway_in_clear_text_and_over_tls() {
    let echo = Backend::start(&[]);
    let config = Config::new(&[&gateway_with_https_to("svc"), &service_entry("svc", "HTTP", echo.address)]);
    Authority::new("ours").server(&["localhost"]).write(config.directory(), "edge");
    let gateway = Launch::run(binary!()).file(config.path()).args(&["--map-port", "443=0"]).start();
    let [plain, tls] = [80, 443].map(|port| gateway.listener(port).unwrap().port());

    let reports = config.directory().join("reports");
    let specification = serde_json::json!({
        "outdir": reports,
        "options": {"failByDrop": false},
        "servers": [
            {"agent": "ws", "url": format!("ws://127.0.0.1:{plain}")},
            {"agent": "wss", "url": format!("wss://localhost:{tls}")},
        ],
        "cases": CASES,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let file = config.directory().join("fuzzingclient.json");
    std::fs::write(&file, specification.to_string()).unwrap();
    run_suite(&file);

    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(reports.join("index.json")).unwrap()).unwrap();
    for agent in ["ws", "wss"] {
        let cases = report[agent].as_object().unwrap_or_else(|| panic!("nothing was asked over {agent}"));
        let bad: Vec<String> = cases
            .iter()
            .filter(|(_, case)| {
                ["behavior", "behaviorClose"].iter().any(|part| !GOOD.iter().any(|word| case[part] == *word))
            })
            .map(|(name, case)| format!("{name}: {}, its closing: {}", case["behavior"], case["behaviorClose"]))
            .collect();
        assert!(bad.is_empty(), "over {agent}:\n{}", bad.join("\n"));
        assert_eq!(cases.len(), NUMBER_OF_CASES, "cases over {agent}");
    }
}

/// Runs the suite to its end. Its exit code says nothing of the cases.
fn run_suite(specification: &Path) {
    let binary = Path::new(env!("CARGO_BIN_EXE_meshwright"));
    let folder =
        binary.ancestors().map(|folder| folder.join("autobahn")).find(|folder| folder.join("python2.7").exists());
    let folder = folder.expect("the suite is installed by `cargo xtask tools --long`, where there is a Python 2.7");
    let mut command = Command::new(folder.join("python2.7"));
    command.args(["-c", WSTEST]).arg(&folder).args(["--mode", "fuzzingclient", "--spec"]).arg(specification);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
