//! The client library against a running process: it stays registered, keeps up, outlives the registry, and balances.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::net::SocketAddr;
use std::time::Duration;

use meshwright_client::{
    Balanced, BalancingPolicy, BreakerPolicy, Client, Discovery, Error, NoInstance, Query, Registered, Registration,
    Standing, Status,
};
use meshwright_testkit::{Config, Launch, Meshwright, Origin, PATIENCE, RawClient, Signal, binary, gateway_to};

/// A process with a registry; a gateway sends everything to `users`.
fn gateway(admin: &str) -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to("users")]);
    let ports = ["--bind", "127.0.0.1", "--map-port", "80=0", "--mesh", "127.0.0.1:0", "--admin", admin];
    let process = Launch::command(binary!()).args(&["run"]).args(&ports).file(config.path()).start();
    (config, process)
}

fn client(admin: SocketAddr) -> Client {
    Client::new(&format!("http://{admin}")).unwrap()
}

fn users(port: u16) -> Registration {
    Registration::new("users", port)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 3, work).await.expect("it ends in time") })
}

/// Waits for a condition while the client's tasks go on.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "waited {PATIENCE:?} in vain: {what}");
}

fn ids(discovery: &Discovery) -> Vec<String> {
    discovery.instances().iter().map(|instance| instance.id.clone()).collect()
}

fn shown(process: &Meshwright, id: &str) -> Option<serde_json::Value> {
    let answer = process.admin_get(&format!("/v1/services/users/instances/{id}"));
    (answer.status == 200).then(|| answer.json())
}

#[test]
fn an_instance_stays_registered_by_renewals_and_leaves_when_it_is_closed() {
    let (_config, process) = gateway("127.0.0.1:0");
    let origin = Origin::named("me");
    block_on(async {
        let registration = users(origin.address().port()).with_id("me").with_version("v3").with_tag("canary");
        let registration = registration.with_metadata("zone", "a").with_ttl(Duration::from_secs(3));
        let registered = client(process.admin()).register(registration).await.unwrap();
        assert_eq!((registered.id(), registered.standing()), ("me", Standing::Registered));
        let first = shown(&process, "me").unwrap();
        assert_eq!(
            (&first["version"], &first["tags"][0], &first["metadata"]["zone"]),
            (&"v3".into(), &"canary".into(), &"a".into())
        );
        until("the gateway sends requests", || process.get("example.com", "/").text() == "me").await;
        for _ in 0..2 {
            let before = shown(&process, "me").unwrap()["last_seen"].clone();
            until("it is renewed", || shown(&process, "me").is_some_and(|now| now["last_seen"] != before)).await;
        }
        assert_eq!(shown(&process, "me").unwrap()["modified"], first["modified"], "renewals change nothing");
        registered.report(Status::Critical).await.unwrap();
        assert_eq!(shown(&process, "me").unwrap()["status"], "critical");
        registered.report(Status::Passing).await.unwrap();
        registered.drain().await.unwrap();
        assert_eq!(shown(&process, "me").unwrap()["status"], "draining");
        registered.close().await.unwrap();
        assert!(shown(&process, "me").is_none());
    });
}

#[test]
fn what_the_registry_lost_is_registered_again_with_what_was_said_since() {
    let (_config, process) = gateway("127.0.0.1:0");
    block_on(async {
        let registration = users(1).with_id("me").with_ttl(Duration::from_secs(1));
        let registered = client(process.admin()).register(registration).await.unwrap();
        registered.report(Status::Warning).await.unwrap();
        registered.drain().await.unwrap();
        let created = shown(&process, "me").unwrap()["created"].as_u64().unwrap();
        RawClient::connect(process.admin()).request("DELETE", "localhost", "/v1/services/users/instances/me", &[], b"");
        until("it is there again, draining", || {
            shown(&process, "me")
                .is_some_and(|now| now["created"].as_u64() > Some(created) && now["status"] == "draining")
        })
        .await;
        assert_eq!(shown(&process, "me").unwrap()["reported"], "warning");
        drop(registered);
        until("it leaves when it is dropped", || shown(&process, "me").is_none()).await;
    });
}

#[test]
fn while_the_registry_is_away_the_last_instances_stay_and_both_ends_find_back_to_it() {
    let (_config, process) = gateway("127.0.0.1:0");
    let admin = process.admin();
    block_on(async {
        let registry = client(admin);
        let registered = registry.register(users(1).with_id("a").with_ttl(Duration::from_secs(1))).await.unwrap();
        let found = registry.discover("users").await.unwrap();
        assert_eq!(ids(&found), ["a"]);
        process.signal(Signal::KILL);
        drop(process);
        until("it is noticed", || found.trouble().is_some()).await;
        until("by the renewals, too", || matches!(registered.standing(), Standing::Unrenewed(_))).await;
        assert_eq!(ids(&found), ["a"], "the last known");
        assert!(matches!(registry.instances("users").await, Err(Error::Unreachable { .. })));
        let background = registry.register_in_background(users(2).with_id("b"));
        until("it waits", || matches!(background.standing(), Standing::Waiting(Some(_)))).await;
        let (_config, process) = gateway(&admin.to_string());
        until("both are registered", || ids(&found) == ["a", "b"] && found.trouble().is_none()).await;
        until("and know it", || {
            [&registered, &background].map(Registered::standing) == [Standing::Registered, Standing::Registered]
        })
        .await;
        drop(process);
    });
}

#[test]
fn a_discovery_follows_what_it_asked_for_and_nothing_else() {
    let (_config, process) = gateway("127.0.0.1:0");
    block_on(async {
        let registry = client(process.admin());
        let query = Query::new("users").with_version("v2").with_metadata("zone", "a").with_tag("canary");
        let mut found = registry.discover(query).await.unwrap();
        assert!(found.instances().is_empty());
        let fits = |port| users(port).with_version("v2").with_metadata("zone", "a").with_tag("canary");
        let _old = registry.register(fits(1).with_version("v1")).await.unwrap();
        let _elsewhere = registry.clone().with_namespace("shop").register(fits(2)).await.unwrap();
        let new = registry.register(fits(3)).await.unwrap();
        found.changed().await;
        assert_eq!(ids(&found), ["127.0.0.1:3"]);
        assert_eq!(found.instances()[0].authority(), "127.0.0.1:3");
        new.report(Status::Critical).await.unwrap();
        found.changed().await;
        assert!(found.instances().is_empty());
        let all = registry.instances(Query::new("users").with_unhealthy()).await.unwrap();
        assert_eq!(all.iter().map(|one| one.status).collect::<Vec<_>>(), [Status::Passing, Status::Critical]);
        let refused = registry.register(Registration::new("no such name!", 1)).await.unwrap_err();
        assert!(matches!(&refused, Error::Refused { status: 400, .. }) && !refused.is_transient(), "{refused}");
    });
}

#[test]
fn several_addresses_are_tried_in_turn() {
    let (_config, process) = gateway("127.0.0.1:0");
    let closed = meshwright_testkit::RefusingPort::new();
    block_on(async {
        let registry = Client::new(&format!("http://{},http://{}", closed.address(), process.admin())).unwrap();
        let registered = registry.register(users(1)).await.unwrap();
        assert_eq!(registry.instances("users").await.unwrap().len(), 1);
        registered.close().await.unwrap();
    });
}

#[test]
fn a_balancer_leaves_out_what_fails_and_follows_who_comes_and_goes() {
    let (_config, process) = gateway("127.0.0.1:0");
    block_on(async {
        let registry = client(process.admin());
        let _first = registry.register(users(1).with_id("first")).await.unwrap();
        let second = registry.register(users(2).with_id("second")).await.unwrap();
        let found = registry.discover("users").await.unwrap();
        let breaker = BreakerPolicy::counting(1, Duration::from_secs(600), Duration::from_secs(600));
        let balanced = Balanced::new(found, BalancingPolicy::RoundRobin, breaker);
        let pick = || balanced.pick().map(|lease| lease.instance().id.clone());
        let turns: Vec<_> = (0..4).map(|_| pick().unwrap()).collect();
        assert!(turns.contains(&"first".to_owned()) && turns.contains(&"second".to_owned()), "{turns:?}");
        assert_eq!(balanced.pick_other(&["first"]).unwrap().instance().id, "second");
        // Six failures in a row open its breaker; a retry goes elsewhere only while there is somebody else.
        loop {
            let lease = balanced.pick_other(&["second"]).unwrap();
            match lease.instance().id.as_str() {
                "first" => lease.failed(),
                _ => break,
            }
        }
        assert!((0..10).all(|_| pick().unwrap() == "second"), "the breaker of the first is open");
        second.close().await.unwrap();
        until("only the first is known", || ids(balanced.discovery()) == ["first"]).await;
        assert_eq!(balanced.pick().unwrap_err(), NoInstance::Open, "what is known of it has stayed");
        let _third = registry.register(users(3).with_id("third")).await.unwrap();
        until("the third is known", || pick() == Ok("third".to_owned())).await;
    });
}

#[test]
fn a_token_goes_with_every_request() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    std::fs::write(&file, "0123456789abcdef namespace=shop\n").unwrap();
    let config = Config::new(&[&gateway_to("users")]);
    let process =
        Launch::run(binary!()).file(config.path()).args(&["--registry-tokens", file.to_str().unwrap()]).start();
    block_on(async {
        let refused = client(process.admin()).register(users(1)).await.unwrap_err();
        assert!(matches!(refused, Error::Refused { status: 401, .. }), "{refused}");
        let shop = client(process.admin()).with_token("0123456789abcdef").unwrap().with_namespace("shop");
        let registered = shop.register(users(1)).await.unwrap();
        assert_eq!(shop.discover("users").await.unwrap().instances().len(), 1);
        assert!(!format!("{shop:?}").contains("0123456789abcdef"));
        registered.close().await.unwrap();
    });
}
