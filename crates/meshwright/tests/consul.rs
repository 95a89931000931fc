//! What Consul's clients do beside agents: services of other nodes in the catalog.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

use meshwright_testkit::{Config, Launch, Origin, binary, eventually, gateway_to};
use support::{output, python_command};

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
