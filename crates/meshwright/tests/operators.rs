//! What operators do to a running process from the command line: endpoints and the log level.

use meshwright_testkit::{Config, Launch, Meshwright, Origin, binary, destination_rule, gateway_to};

struct Setup {
    users: [Origin; 2],
    process: Meshwright,
    _config: Config,
}

/// One service with two endpoints in turn behind a gateway.
fn setup() -> Setup {
    let users = [Origin::echoes(), Origin::echoes()];
    let in_turn = destination_rule("users", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let config = Config::new(&[&gateway_to("users"), &in_turn]);
    let endpoints = users.each_ref().map(|origin| origin.address().to_string());
    let launch = Launch::run(binary!()).file(config.path()).service("users", &[&endpoints[0], &endpoints[1]]);
    Setup { users, process: launch.start(), _config: config }
}

impl Setup {
    /// Runs a command against the process: exit code, standard output, standard error.
    fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let admin = format!("http://{}", self.process.admin());
        Launch::command(binary!()).args(arguments).args(&["--admin", &admin]).output()
    }

    fn act(&self, action: &str, endpoint: usize) -> (i32, String, String) {
        self.command(&["endpoints", action, "users", &self.users[endpoint].address().to_string()])
    }

    /// Requests that each endpoint gets out of eight.
    fn shares(&self) -> [usize; 2] {
        let before = self.users.each_ref().map(Origin::count);
        for _ in 0..8 {
            assert_eq!(self.process.get("api.example.com", "/").status, 200);
        }
        [self.users[0].count() - before[0], self.users[1].count() - before[1]]
    }
}

#[test]
fn a_drained_or_disabled_endpoint_gets_nothing_until_it_is_enabled() {
    let setup = setup();
    for action in ["drain", "disable"] {
        let (code, said, error) = setup.act(action, 0);
        assert_eq!(code, 0, "{error}");
        assert!(said.contains(&setup.users[0].address().to_string()), "{said}");
        assert_eq!(setup.shares(), [0, 8], "after {action}");
        assert_eq!(setup.act("enable", 0).0, 0);
        let shares = setup.shares();
        assert!(shares[0] > 0 && shares[1] > 0, "after {action} and enable: {shares:?}");
    }
}

#[test]
fn endpoints_are_listed_with_their_state() {
    let setup = setup();
    setup.act("drain", 1);
    let (code, text, error) = setup.command(&["endpoints", "list", "--service", "users"]);
    assert_eq!(code, 0, "{error}");
    let line = |endpoint: usize| {
        let address = setup.users[endpoint].address().to_string();
        text.lines().find(|line| line.contains(&address)).unwrap_or_else(|| panic!("{address} is missing in\n{text}"))
    };
    assert!(line(0).contains(" enabled ") && line(1).contains(" draining "), "{text}");

    let (_, json, _) = setup.command(&["endpoints", "list", "-o", "json"]);
    let clusters: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
    assert!(clusters[0]["service"].as_str().is_some_and(|service| service.starts_with("users.")), "{json}");
}

#[test]
fn what_does_not_exist_is_refused_with_a_sentence() {
    let setup = setup();
    let (code, _, error) = setup.command(&["endpoints", "drain", "nobody", "127.0.0.1:1"]);
    assert!(code == 1 && error.contains("nobody"), "{error}");
    let (code, _, error) = setup.command(&["endpoints", "drain", "users", "127.0.0.1:1"]);
    assert!(code == 1 && error.contains("127.0.0.1:1"), "{error}");
    let (code, _, error) = setup.command(&["endpoints", "list", "--service", "nobody"]);
    assert!(code == 1 && error.contains("there is no service `nobody`"), "{error}");
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let setup = setup();
    assert_eq!(setup.command(&["log-level"]).1, "info\n");
    assert_eq!(setup.command(&["log-level", "warn,meshwright_control=debug"]).0, 0);
    assert_eq!(setup.command(&["log-level"]).1, "warn,meshwright_control=debug\n");
    assert_eq!(setup.command(&["log-level", "loud"]).0, 2);
    assert_eq!(setup.process.admin_post("/logging?level=loud").status, 400);
    assert_eq!(setup.command(&["log-level"]).1, "warn,meshwright_control=debug\n");
}

#[test]
fn what_operators_did_is_audited_with_who_and_what() {
    let setup = setup();
    setup.act("drain", 0);
    let audit: serde_json::Value = serde_json::from_str(&setup.process.admin_get("/audit").text()).expect("valid JSON");
    let entry = &audit["audit"][0];
    assert_eq!(entry["action"], "drain");
    assert!(entry["actor"].as_str().is_some_and(|actor| actor.contains("meshwright/")), "{audit}");
    let address = setup.users[0].address().to_string();
    assert!(entry["target"].as_str().is_some_and(|target| target.contains(&address)), "{audit}");
}
