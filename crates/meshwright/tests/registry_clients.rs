//! Clients of Eureka and Consul as they are published, unmodified: two applications find each other, and traffic follows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use meshwright_testkit::{Config, Launch, Meshwright, Origin, RawClient, binary, eventually, gateway_to};
use serde_json::{Value, json};
use support::{node_command, python_command, python_command_of};

/// A client that runs beside the test; killed with it.
struct Beside {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Beside {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gateway(service: &str) -> (Config, Meshwright) {
    let config = Config::new(&[&gateway_to(service)]);
    let process = Launch::run(binary!()).file(config.path()).args(&["--consul", "127.0.0.1:0"]).start();
    (config, process)
}

fn ask(address: std::net::SocketAddr, method: &str, path: &str, body: &Value) -> meshwright_testkit::Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    RawClient::connect(address).request(method, "localhost", path, &[("accept", "application/json")], body.as_bytes())
}

/// py-eureka-client: registers `pyapp` on a port, says so, then prints what it finds at `jsapp` until it is killed.
const EUREKA_PYTHON: &str = r#"
import sys, time
import py_eureka_client.eureka_client as e
e.init(eureka_server=sys.argv[1], app_name='pyapp', instance_port=int(sys.argv[2]), instance_ip='127.0.0.1', instance_host='127.0.0.1',
       renewal_interval_in_secs=1, duration_in_secs=3, metadata={'version': 'v7'})
print('registered', flush=True)
while True:
    try:
        print(e.do_service('JSAPP', '/x', return_type='string'), flush=True)
    except Exception as error:
        print('none', flush=True)
    time.sleep(0.2)
"#;

/// eureka-js-client: registers `jsapp`, prints how many instances it sees by application and by VIP.
const EUREKA_NODE: &str = r#"
const {Eureka} = require('eureka-js-client');
const url = new URL(process.argv[1]);
const client = new Eureka({
  instance: {app: 'jsapp', hostName: 'localhost', ipAddr: '127.0.0.1', port: {'$': +process.argv[2], '@enabled': true}, vipAddress: 'jsapp',
    dataCenterInfo: {'@class': 'com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo', name: 'MyOwn'}},
  eureka: {host: url.hostname, port: +url.port, servicePath: '/eureka/apps/', heartbeatInterval: 500, registryFetchInterval: 200, useDelta: true},
});
client.logger.level('error');
client.start(error => {
  console.log(error ? 'failed ' + error : 'registered');
  setInterval(() => console.log(client.getInstancesByAppId('PYAPP').length, client.getInstancesByVipAddress('pyapp').length), 200);
});
"#;

#[test]
fn eureka_clients_in_python_and_node_find_each_other_and_the_gateway_follows() {
    let (_config, process) = gateway("pyapp");
    let (py, js) = (Origin::named("py"), Origin::named("js"));
    let (py_port, js_port) = (py.address().port().to_string(), js.address().port().to_string());
    let url = format!("http://{}/eureka", process.admin());
    let mut python = Beside::start(python_command(EUREKA_PYTHON, &[&url, &py_port]));
    assert_eq!(python.line(), "registered");
    eventually("the gateway sends requests to the Python client", || process.get("example.com", "/").status == 200);
    let mut node = Beside::start(node_command(EUREKA_NODE, &[&url, &js_port]));
    assert_eq!(node.line(), "registered");
    eventually("the Node client sees the Python client, by application and by VIP", || node.line() == "1 1");
    eventually("the Python client calls the Node client", || python.line() == "js");
    let apps = ask(process.admin(), "GET", "/eureka/apps", &Value::Null).json();
    assert_eq!(apps["applications"]["apps__hashcode"], "UP_2_", "{apps}");
    let own = process.admin_get("/v1/services/pyapp/instances").json();
    assert_eq!((&own["instances"][0]["version"], &own["instances"][0]["source"]), (&json!("v7"), &json!("eureka")));
    let id = own["instances"][0]["id"].as_str().unwrap().to_owned();
    let status = format!("/eureka/v2/apps/PYAPP/{id}/status");
    assert_eq!(ask(process.admin(), "PUT", &format!("{status}?value=OUT_OF_SERVICE"), &Value::Null).status, 200);
    eventually("the gateway leaves it out", || process.get("example.com", "/").status == 503);
    eventually("and so does the Node client", || node.line() == "0 0");
    assert_eq!(ask(process.admin(), "DELETE", &status, &Value::Null).status, 200);
    eventually("it is back", || process.get("example.com", "/").status == 200);
    eventually("for the Node client, too", || node.line() == "1 1");
    // It registers again by itself when we have forgotten it.
    assert_eq!(ask(process.admin(), "DELETE", &format!("/eureka/apps/pyapp/{id}/"), &Value::Null).status, 200);
    eventually("a heartbeat of an unknown instance makes it register", || {
        process.get("example.com", "/").status == 200
    });
    drop(python);
    eventually("it was killed, and its lease ends", || {
        ask(process.admin(), "GET", "/eureka/apps/PYAPP", &Value::Null).status == 404
    });
}

const CONSUL_PYTHON: &str = r#"
import sys, threading, time
import consul
from consul import Check
host, port = sys.argv[1].rsplit(':', 1)
c = consul.Consul(host=host, port=int(port))
assert c.agent.service.register('api', service_id='api1', address='127.0.0.1', port=int(sys.argv[2]), tags=['x'], check=Check.ttl('10s'))
index, nodes = c.health.service('api', passing=True)
assert nodes == [], nodes
assert c.agent.check.ttl_pass('service:api1', notes='fine')
index, nodes = c.health.service('api', passing=True)
assert nodes[0]['Service']['Port'] == int(sys.argv[2]) and nodes[0]['Service']['Tags'] == ['x'], nodes
assert [check['CheckID'] for check in nodes[0]['Checks']] == ['serfHealth', 'service:api1']
assert set(c.agent.services()) == {'api1'} and 'service:api1' in c.agent.checks()
index2, services = c.catalog.services()
assert services['api'] == ['x'] and 'consul' in services, services
start = time.time()
threading.Timer(0.5, lambda: c.agent.service.maintenance('api1', 'true', 'night')).start()
later, nodes = c.health.service('api', passing=True, index=index, wait='20s')
assert nodes == [] and int(later) > int(index) and 0.4 < time.time() - start < 15, (nodes, later)
assert c.agent.service.maintenance('api1', 'false')
_, nodes = c.health.service('api', passing=True)
assert len(nodes) == 1
_, flat = c.catalog.service('api')
assert flat[0]['ServiceID'] == 'api1' and flat[0]['ServiceAddress'] == '127.0.0.1', flat
assert c.status.leader() and c.agent.self()['Config']['Datacenter'] == 'dc1'
print('registered')
"#;

const CONSUL_NODE: &str = r#"
const Consul = require('consul');
const [host, port] = process.argv[1].split(':');
const consul = new Consul({host, port: +port});
(async () => {
  await consul.agent.service.register({name: 'web', id: 'web1', address: '127.0.0.1', port: +process.argv[2], check: {ttl: '10s', status: 'passing'}});
  const api = await consul.health.service({service: 'api', passing: true});
  console.log('api', api.length);
  const watch = consul.watch({method: consul.health.service, options: {service: 'web', passing: true}});
  watch.on('change', data => console.log('web', data.length));
  watch.on('error', error => console.log('error', error.message));
  setTimeout(() => consul.agent.service.deregister('web1'), 1000);
})().catch(error => console.log('failed', error.message));
"#;

/// The older client of the same name; its answers are read by other code.
#[test]
fn python_consul2_registers_watches_and_finds_as_the_maintained_client_does() {
    let (_config, process) = gateway("api");
    let api = Origin::named("api");
    let arguments = [process.consul().to_string(), api.address().port().to_string()];
    let arguments = arguments.each_ref().map(String::as_str);
    let mut python = Beside::start(python_command_of("python-consul2", CONSUL_PYTHON, &arguments));
    assert_eq!(python.line(), "registered");
    eventually("the gateway follows", || process.get("example.com", "/").text() == "api");
}

#[test]
fn consul_clients_in_python_and_node_register_watch_and_find_each_other_and_the_gateway_follows() {
    let (_config, process) = gateway("api");
    let (api, web) = (Origin::named("api"), Origin::named("web"));
    let address = process.consul().to_string();
    let mut python = Beside::start(python_command(CONSUL_PYTHON, &[&address, &api.address().port().to_string()]));
    assert_eq!(python.line(), "registered");
    eventually("the gateway follows", || process.get("example.com", "/").text() == "api");
    let mut node = Beside::start(node_command(CONSUL_NODE, &[&address, &web.address().port().to_string()]));
    assert_eq!(node.line(), "api 1");
    assert_eq!(node.line(), "web 1");
    eventually("the mesh listener knows the Node client's service", || process.mesh_get("web", "/").text() == "web");
    assert_eq!(node.line(), "web 0", "the watch sees it leave");
    let seen = ask(process.admin(), "GET", "/eureka/apps/API", &Value::Null).json();
    assert_eq!(seen["application"]["instance"][0]["status"], "UP", "Eureka's clients see it, too");
}
