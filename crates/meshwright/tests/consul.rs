//! What Consul's clients do beside agents: services of other nodes in the catalog, keys and sessions. The clients are unmodified.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use std::net::SocketAddr;

use meshwright_testkit::{
    Config, Etcd, Launch, Meshwright, Origin, RawClient, Response, Signal, binary, eventually, gateway_to,
};
use serde_json::json;
use support::{node_command, output, python_command, python_command_of};

/// py-consul: registers a service of a node without an agent, finds it, takes it away when it is told to.
const CATALOG_PYTHON: &str = r#"
import sys
import consul
host, port = sys.argv[1].rsplit(':', 1)
c = consul.Consul(host=host, port=int(port))
if sys.argv[3] == 'leave':
    assert c.catalog.deregister('legacy', service_id='db1')
    sys.exit(0)
assert c.catalog.register('legacy', '127.0.0.1', service={'Service': 'db', 'ID': 'db1', 'Port': int(sys.argv[2]), 'Tags': ['primary']},
                          check={'Name': 'alive', 'CheckID': 'service:db1', 'Status': 'passing', 'ServiceID': 'db1'})
_, nodes = c.catalog.nodes()
assert [node['Node'] for node in nodes] == ['meshwright', 'legacy'], nodes
_, node = c.catalog.node('legacy')
assert node['Services']['db1']['Tags'] == ['primary'], node
_, healthy = c.health.service('db', passing=True)
assert healthy[0]['Node']['Node'] == 'legacy' and healthy[0]['Checks'][0]['Name'] == 'alive', healthy
"#;

#[test]
fn requests_follow_a_service_that_somebody_registers_in_the_catalog_for_a_node_without_an_agent() {
    let config = Config::new(&[&gateway_to("db")]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--consul", "127.0.0.1:0"]).start();
    let origin = Origin::named("db");
    let (address, port) = (process.consul().to_string(), origin.address().port().to_string());
    let python = |what: &str| {
        let (code, out, error) = output(&mut python_command(CATALOG_PYTHON, &[&address, &port, what]));
        assert_eq!(code, 0, "{out}{error}");
    };
    python("come");
    eventually("the gateway follows", || process.get("example.com", "/").text() == "db");
    python("leave");
    eventually("nobody is there any more", || process.get("example.com", "/").status == 503);
}

/// A client in Python: conditions, lists, a blocking query, and a lock that goes from hand to hand.
const KEYS_PYTHON: &str = r#"
import sys, threading, time
import consul
host, port = sys.argv[1].rsplit(':', 1)
c = consul.Consul(host=host, port=int(port))
assert c.kv.put('app/one', 'eins', flags=7)
index, data = c.kv.get('app/one')
assert data['Value'] == b'eins' and data['Flags'] == 7, data
assert c.kv.put('app/one', 'zwei', cas=data['ModifyIndex'])
assert not c.kv.put('app/one', 'drei', cas=data['ModifyIndex'])
assert c.kv.put('app/two/x', 'x') and c.kv.put('app/two/y', 'y')
_, names = c.kv.get('app/', keys=True, separator='/')
assert names == ['app/one', 'app/two/'], names
_, everything = c.kv.get('app/', recurse=True)
assert [pair['Value'] for pair in everything] == [b'zwei', b'x', b'y'], everything
index, nothing = c.kv.get('watched')
assert nothing is None
threading.Timer(0.3, lambda: c.kv.put('watched', 'v')).start()
later, data = c.kv.get('watched', index=index, wait='20s')
assert data['Value'] == b'v' and int(later) > int(index), (later, data)
first, second = c.session.create(name='first', ttl=15, lock_delay=15), c.session.create(name='second', ttl=15)
assert c.kv.put('lock', 'first', acquire=first)
assert not c.kv.put('lock', 'second', acquire=second)
_, data = c.kv.get('lock')
assert data['Session'] == first and data['LockIndex'] == 1, data
assert c.session.renew(first)['TTL'] == '15s'
_, info = c.session.info(first)
assert info['Name'] == 'first' and info['Behavior'] == 'release', info
assert c.kv.put('lock', '', release=first) and c.kv.put('lock', 'second', acquire=second)
c.session.destroy(second)
_, data = c.kv.get('lock')
assert 'Session' not in data, data
assert not c.kv.put('lock', 'first', acquire=first)   # the lock delay
_, sessions = c.session.list()
assert [session['ID'] for session in sessions] == [first], sessions
if hasattr(c, 'txn'):
    kv = lambda verb, key, **more: {'KV': dict(Verb=verb, Key=key, **more)}
    done = c.txn.put([kv('set', 'app/three', Value='ZHJlaQ=='), kv('get', 'app/three'), kv('delete-tree', 'app/two/')])
    assert done['Errors'] is None and [part['KV']['Key'] for part in done['Results']] == ['app/three'] * 2, done
    assert c.kv.get('app/', keys=True)[1] == ['app/one', 'app/three']
    try:
        c.txn.put([kv('set', 'app/four', Value=''), kv('check-index', 'app/one', Index=1)])
        assert False, 'the index is another one'
    except consul.ConsulException as error:
        assert '409' in str(error) and 'failed index check' in str(error), error
    assert c.kv.get('app/four')[1] is None
assert c.kv.delete('app/', recurse=True)
_, data = c.kv.get('app/', recurse=True)
assert data is None, data
"#;

/// The client in Node: values, a watch, and a lock with the behavior `delete`.
const KEYS_NODE: &str = r#"
const Consul = require('consul');
const assert = require('assert');
const [host, port] = process.argv[1].split(':');
const consul = new Consul({host, port: +port});
(async () => {
  assert.equal(await consul.kv.set('node/a', 'one'), true);
  assert.equal((await consul.kv.get('node/a')).Value, 'one');
  assert.equal(await consul.kv.get('node/none'), undefined);
  assert.deepEqual(await consul.kv.keys('node/'), ['node/a']);
  const seen = new Promise((resolve, reject) => {
    const watch = consul.watch({method: consul.kv.get, options: {key: 'node/a'}});
    watch.on('change', pair => { if (pair.Value === 'two') { watch.end(); resolve(); } });
    watch.on('error', reject);
  });
  const {ID} = await consul.session.create({ttl: '20s', lockdelay: '0s', behavior: 'delete'});
  assert.equal(await consul.kv.set({key: 'node/lock', value: 'x', acquire: ID}), true);
  assert.equal((await consul.kv.get('node/lock')).Session, ID);
  await consul.kv.set('node/a', 'two');
  await seen;
  await consul.session.destroy(ID);
  assert.equal(await consul.kv.get('node/lock'), undefined);
  await consul.kv.del({key: 'node/', recurse: true});
  assert.equal(await consul.kv.get('node/a'), undefined);
})().catch(error => { console.log('failed', error); process.exit(1); });
"#;

fn ask(process: &Meshwright, method: &str, path: &str, body: &str) -> Response {
    ask_at(process.consul(), method, path, body)
}

fn ask_at(address: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    RawClient::connect(address).request(method, "localhost", path, &[], body.as_bytes())
}

fn session(process: &Meshwright) -> String {
    let answer = ask(process, "PUT", "/v1/session/create", &json!({ "LockDelay": "60s" }).to_string()).json();
    answer["ID"].as_str().unwrap().to_owned()
}

fn locks(process: &Meshwright, session: &str) -> bool {
    let answer = ask(process, "PUT", &format!("/v1/kv/lock?acquire={session}"), session);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text() == "true"
}

#[test]
fn three_clients_put_compare_watch_and_lock_keys() {
    let config = Config::new(&[&gateway_to("db")]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--consul", "127.0.0.1:0"]).start();
    let address = process.consul().to_string();
    for mut command in [python_command(KEYS_PYTHON, &[&address]), node_command(KEYS_NODE, &[&address])] {
        let (code, out, error) = output(&mut command);
        assert_eq!(code, 0, "{out}{error}");
    }
    assert_eq!(ask(&process, "DELETE", "/v1/kv/?recurse", "").text(), "true");
    for session in ask(&process, "GET", "/v1/session/list", "").json().as_array().unwrap() {
        ask(&process, "PUT", &format!("/v1/session/destroy/{}", session["ID"].as_str().unwrap()), "");
    }
    drop(process);
    // Another registry: a lock's delay outlives the keys.
    let process = Launch::run(binary!()).file(config.path()).args(&["--consul", "127.0.0.1:0"]).start();
    let address = process.consul().to_string();
    let (code, out, error) = output(&mut python_command_of("python-consul2", KEYS_PYTHON, &[&address]));
    assert_eq!(code, 0, "{out}{error}");
}

#[test]
fn what_was_acknowledged_of_keys_and_locks_survives_kill_9() {
    let config = Config::new(&[&gateway_to("db")]);
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--data", data.path().to_str().unwrap(), "--consul", "127.0.0.1:0"];
    let start = || Launch::run(binary!()).file(config.path()).args(&arguments).start();
    let mut process = start();
    let (owner, ended, other) = (session(&process), session(&process), session(&process));
    let put = |process: &Meshwright, path: &str| ask(process, "PUT", path, "x").text();
    assert_eq!(put(&process, &format!("/v1/kv/held?acquire={owner}")), "true");
    assert_eq!(put(&process, &format!("/v1/kv/delayed?acquire={ended}")), "true");
    assert_eq!(put(&process, &format!("/v1/session/destroy/{ended}")), "true");
    let index = ask(&process, "GET", "/v1/kv/?recurse", "").header("x-consul-index").unwrap().to_owned();
    for round in 0..20 {
        assert_eq!(put(&process, &format!("/v1/kv/key/{round}")), "true");
    }
    process.signal(Signal::KILL);
    process.wait_exit();
    let process = start();
    let names = ask(&process, "GET", "/v1/kv/key/?keys", "").json();
    assert_eq!(names.as_array().unwrap().len(), 20);
    assert_eq!(put(&process, &format!("/v1/kv/held?acquire={other}")), "false", "it is locked still");
    assert_eq!(put(&process, &format!("/v1/kv/delayed?acquire={other}")), "false", "its delay begins anew");
    assert!(put(&process, &format!("/v1/session/renew/{owner}")).contains(&owner));
    assert_eq!(ask(&process, "PUT", &format!("/v1/session/renew/{ended}"), "").status, 404);
    let later = ask(&process, "GET", "/v1/kv/?recurse", "").header("x-consul-index").unwrap().to_owned();
    assert!(later.parse::<u64>().unwrap() > index.parse::<u64>().unwrap(), "an index never goes back");
}

#[test]
fn two_processes_on_one_etcd_give_a_lock_to_one_of_two_sessions_and_outlive_each_other() {
    let etcd = Etcd::start();
    let config = Config::new(&[&gateway_to("db")]);
    let store = format!("etcd://{}", etcd.address());
    let start = || {
        let arguments = ["--store", store.as_str(), "--consul", "127.0.0.1:0"];
        Launch::run(binary!()).file(config.path()).args(&arguments).start()
    };
    let (mut one, two) = (start(), start());
    let (first, second) = (session(&one), session(&two));
    let won = std::thread::scope(|scope| {
        let (at_one, at_two) = (scope.spawn(|| locks(&one, &second)), scope.spawn(|| locks(&two, &first)));
        (at_one.join().unwrap(), at_two.join().unwrap())
    });
    assert!(won.0 != won.1, "{won:?}");
    let (winner, loser) = if won.0 { (&second, &first) } else { (&first, &second) };
    one.signal(Signal::KILL);
    one.wait_exit();
    assert!(locks(&two, winner) && !locks(&two, loser), "it is locked by a session, not by a process");
    assert_eq!(ask(&two, "PUT", &format!("/v1/session/destroy/{winner}"), "").text(), "true");
    assert!(!locks(&two, loser), "the lock delay");
    assert_eq!(ask(&start(), "GET", "/v1/kv/lock?raw", "").text(), *winner, "who comes later reads the same");
    etcd.signal(Signal::STOP);
    eventually("without etcd keys are read and not written", || ask(&two, "PUT", "/v1/kv/a", "x").status == 503);
    assert_eq!(ask(&two, "GET", "/v1/kv/lock?raw", "").text(), *winner);
    etcd.signal(Signal::CONT);
    eventually("with it they are", || ask(&two, "PUT", "/v1/kv/a", "x").status == 200);
}
