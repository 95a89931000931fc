//! Operators' words about endpoints, and ejections that end.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use common::*;
use meshwright_control::{ActionError, Command, EndpointAction};
use meshwright_traffic::{AdminState, Observation, OutlierEvent};
use tempfile::tempdir;

const CLUSTER: &str = "outbound|80||users.test";

/// One host, ejected by the first error for `base`, looked after every `interval`.
fn ejecting(interval: &str, base: &str) -> String {
    format!(
        "{}---\n\
         apiVersion: networking.istio.io/v1\n\
         kind: DestinationRule\n\
         metadata: {{name: users}}\n\
         spec:\n\
         \x20 host: users.test\n\
         \x20 trafficPolicy:\n\
         \x20   outlierDetection: {{consecutive5xxErrors: 1, interval: {interval}, baseEjectionTime: {base}}}\n",
        users_at(9001)
    )
}

fn start(text: &str) -> (tempfile::TempDir, Running) {
    let root = tempdir().unwrap();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, text).unwrap();
    let running = Running::start(settings(&[path]));
    (root, running)
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Running {
    fn admin(&self) -> AdminState {
        self.handle.snapshot().cluster(CLUSTER).unwrap().hosts.hosts()[0].state.admin()
    }

    fn is_ejected(&self) -> bool {
        self.handle.snapshot().cluster(CLUSTER).unwrap().hosts.hosts()[0].verdict.is_ejected()
    }

    fn eject(&self) {
        let snapshot = self.handle.snapshot();
        let cluster = snapshot.cluster(CLUSTER).unwrap();
        let outlier = cluster.outlier.as_ref().unwrap();
        outlier
            .observe(&cluster.hosts, 0, Observation::Status(500), Instant::now(), &mut fastrand::Rng::new())
            .unwrap();
    }
}

#[tokio::test]
async fn an_operators_word_holds_until_it_is_taken_back_also_over_absence() {
    let (root, running) = start(&users_at(9001));
    let act = |action| running.handle.endpoint_action("Users.test", address(9001), action, "test").unwrap();
    let lines = act(EndpointAction::Drain);
    assert_eq!(lines, [format!("{CLUSTER}: 127.0.0.1:9001 is draining")]);
    assert_eq!(running.admin(), AdminState::Draining);
    let path = root.path().join("mesh.yaml");
    for port in [9002, 9001] {
        fs::write(&path, users_at(port)).unwrap();
        running.commands.send(Command::Reload).await.unwrap();
        eventually("the other endpoint runs", || running.users_port() == port).await;
        let expected = if port == 9001 { AdminState::Draining } else { AdminState::Enabled };
        assert_eq!(running.admin(), expected);
    }
    act(EndpointAction::Disable);
    assert_eq!(running.admin(), AdminState::Disabled);
    act(EndpointAction::Enable);
    assert_eq!(running.admin(), AdminState::Enabled);
    running.stop().await;
}

#[tokio::test]
async fn every_action_is_audited_with_its_outcome_and_the_record_is_bounded() {
    let (_root, running) = start(&users_at(9001));
    let handle = &running.handle;
    handle.endpoint_action("users.test", address(9001), EndpointAction::Drain, "alice").unwrap();
    let error = handle.endpoint_action("nobody", address(1), EndpointAction::Drain, "bob").unwrap_err();
    assert_eq!(error, ActionError::UnknownService { service: "nobody".into() });
    let error = handle.endpoint_action("users.test", address(1), EndpointAction::Disable, "bob").unwrap_err();
    assert!(error.to_string().contains("it has 127.0.0.1:9001"), "{error}");
    let audit = handle.audit();
    assert_eq!(audit.len(), 3);
    assert_eq!((audit[0].actor.as_str(), audit[0].outcome.as_str()), ("alice", "done"));
    assert_eq!((audit[0].action, audit[0].target.as_str()), ("drain", "users.test 127.0.0.1:9001"));
    assert_eq!((audit[1].actor.as_str(), audit[1].outcome.as_str()), ("bob", "there is no service nobody"));
    for _ in 0..1_100 {
        handle.endpoint_action("users.test", address(9001), EndpointAction::Enable, "carol").unwrap();
    }
    let audit = handle.audit();
    assert_eq!(audit.len(), 1_000);
    assert!(audit.iter().all(|entry| entry.actor == "carol"));
    running.stop().await;
}

#[tokio::test]
async fn an_operator_ends_an_ejection_and_it_is_counted() {
    let (_root, running) = start(&ejecting("1h", "1h"));
    let uneject = || running.handle.endpoint_action("users.test", address(9001), EndpointAction::Uneject, "test");
    assert_eq!(uneject().unwrap(), [format!("{CLUSTER}: 127.0.0.1:9001 was not ejected")]);
    running.eject();
    assert_eq!(uneject().unwrap(), [format!("{CLUSTER}: 127.0.0.1:9001 takes part again")]);
    assert!(!running.is_ejected());
    let events = running.recorder.events.lock().unwrap().clone();
    assert_eq!(events, [(CLUSTER.to_owned(), OutlierEvent::Returned { index: 0 })]);
    running.stop().await;
}

#[tokio::test]
async fn an_ejection_ends_by_itself_and_it_is_counted() {
    let (_root, running) = start(&ejecting("20ms", "50ms"));
    running.eject();
    assert!(running.is_ejected());
    eventually("the host takes part again", || !running.is_ejected()).await;
    eventually("it is counted", || !running.recorder.events.lock().unwrap().is_empty()).await;
    running.stop().await;
}

#[tokio::test]
async fn an_ejection_outlives_a_reload_and_then_ends_by_the_new_interval() {
    let (root, running) = start(&ejecting("1h", "50ms"));
    running.eject();
    let path = root.path().join("mesh.yaml");
    fs::write(&path, ejecting("30m", "50ms")).unwrap();
    running.commands.send(Command::Reload).await.unwrap();
    eventually("the reload is done", || running.handle.status().reloads_ok >= 1).await;
    assert!(running.is_ejected(), "no sweep was due");
    fs::write(&path, ejecting("20ms", "50ms")).unwrap();
    eventually("the shorter interval ends it", || !running.is_ejected()).await;
    running.stop().await;
}
