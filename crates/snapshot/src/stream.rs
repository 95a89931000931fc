//! Connections that are not HTTP in clear text: TLS chains of a port, and where bytes go by `tls` and `tcp` routes.
//!
//! Which servers share a port is decided in `gateway.rs`; what the data plane reads is in `tls.rs`.

use meshwright_model::{
    Diagnostic, Gateway, GatewayRef, Mesh, ObjectRef, Server, ServerProtocol, ServiceDirectory, TcpMatch, TlsRoute,
    VirtualService,
};
use meshwright_route::HostTable;

use crate::gateway::{Site, bound_patterns, names_gateway, narrower};
use crate::registry::Registry;
use crate::virtual_host::forward;
use crate::{ListenerTls, TcpForward, TcpRule, TlsAction, TlsChain};

/// What is needed to bind streams.
pub(crate) struct Binder<'a, 'r> {
    pub(crate) mesh: &'a Mesh,
    pub(crate) directory: &'a ServiceDirectory,
    pub(crate) registry: &'r mut Registry<'a>,
    pub(crate) diagnostics: &'r mut Vec<Diagnostic>,
}

impl<'a> Binder<'a, '_> {
    /// The chains of a TLS port; `None` when there is none, which is said.
    pub(crate) fn tls(&mut self, site: &Site<'a>) -> Option<ListenerTls> {
        let mut tls = ListenerTls { chains: Vec::new(), by_server_name: HostTable::new(), default_chain: None };
        for (index, server) in &site.servers {
            let gateway = &self.mesh.gateways[*index];
            if server.protocol == ServerProtocol::Passthrough {
                self.passed_on(gateway, server, &mut tls);
            } else if let Some(chain) = self.ended(gateway, server) {
                let patterns = chain.hosts.clone();
                self.add(&mut tls, chain, &patterns, server);
            }
        }
        (!tls.chains.is_empty()).then_some(tls)
    }

    /// The chain of a server that ends TLS.
    fn ended(&mut self, gateway: &Gateway, server: &Server) -> Option<TlsChain> {
        let settings = server.tls.as_ref()?;
        let hosts: Vec<String> = server.hosts.iter().map(|host| host.pattern.clone()).collect();
        let http = server.protocol == ServerProtocol::Https;
        let config = self.registry.vault().server(settings, &gateway.namespace, &hosts, http)?;
        let then = if http { None } else { Some(self.tcp(gateway, server)?) };
        Some(TlsChain { name: server.port_name.clone(), action: TlsAction::Terminate { config, then }, hosts })
    }

    /// The chains of a server that passes TLS on: one for each rule of the virtual services that are bound to it.
    fn passed_on(&mut self, gateway: &Gateway, server: &Server, tls: &mut ListenerTls) {
        let before = tls.chains.len();
        for virtual_service in self.mesh.virtual_services.iter().filter(|one| names_gateway(one, gateway)) {
            for (index, route) in virtual_service.tls.iter().enumerate() {
                let (hosts, rule) = self.sni_rule(gateway, server, virtual_service, route);
                if hosts.is_empty() {
                    continue;
                }
                let action = TlsAction::Passthrough(TcpForward { rules: vec![rule] });
                let name = format!("{}/tls[{index}]", virtual_service.name);
                let chain = TlsChain { name, action, hosts: hosts.clone() };
                self.add(tls, chain, &hosts, server);
            }
        }
        if tls.chains.len() == before {
            self.diagnostics.push(unrouted(gateway, server, "tls"));
        }
    }

    /// The server names by which a rule is reached at `server`, and the rule.
    fn sni_rule(
        &mut self,
        gateway: &Gateway,
        server: &Server,
        virtual_service: &VirtualService,
        route: &TlsRoute,
    ) -> (Vec<String>, TcpRule) {
        let mut hosts: Vec<String> = Vec::new();
        let mut subnets = Vec::new();
        for alternative in &route.matches {
            if !applies(&alternative.connection, gateway, server) {
                continue;
            }
            for name in &alternative.sni_hosts {
                for pattern in narrower(name, server, virtual_service) {
                    if !hosts.contains(&pattern) {
                        hosts.push(pattern);
                    }
                }
            }
            subnets.extend_from_slice(&alternative.connection.destination_subnets);
        }
        let forward = forward(&route.destinations, &virtual_service.namespace, self.registry);
        (hosts, TcpRule { destination_subnets: subnets, forward, origin: route.origin.clone() })
    }

    /// Adds a chain under the names that are still free; the earlier of the input keeps a name.
    fn add(&mut self, tls: &mut ListenerTls, chain: TlsChain, patterns: &[String], server: &Server) {
        let index = tls.chains.len();
        let mut taken: Vec<&str> = Vec::new();
        let mut used = false;
        for pattern in patterns {
            if tls.by_server_name.of_pattern(pattern).is_some() {
                taken.push(pattern);
                continue;
            }
            used = true;
            tls.by_server_name.insert(pattern, index);
            if pattern == "*" {
                tls.default_chain = Some(index);
            }
        }
        if !taken.is_empty() {
            let message =
                format!("{} of {} has another TLS server on port {}", taken.join(", "), chain.name, server.port);
            self.diagnostics.push(
                Diagnostic::warning("server-name-conflict", message)
                    .at(server.origin.clone(), 1)
                    .with_value(taken.join(", "))
                    .with_allowed("every server name once on a port; the earlier in the input wins")
                    .with_effect("connections for these names go to the earlier one")
                    .with_suggestion("keep each name in one server"),
            );
        }
        if used {
            tls.chains.push(chain);
        }
    }

    /// Where the bytes of `server` go, by the `tcp` routes that are bound to it; `None` is said.
    pub(crate) fn tcp(&mut self, gateway: &Gateway, server: &Server) -> Option<TcpForward> {
        let mut rules = Vec::new();
        for virtual_service in self.mesh.virtual_services.iter().filter(|one| names_gateway(one, gateway)) {
            let bound = !bound_patterns(self.mesh, self.directory, server, virtual_service).is_empty();
            for route in virtual_service.tcp.iter().filter(|_| bound) {
                let kept: Vec<&TcpMatch> = route.matches.iter().filter(|one| applies(one, gateway, server)).collect();
                if kept.is_empty() && !route.matches.is_empty() {
                    continue;
                }
                let anywhere = kept.iter().any(|one| one.destination_subnets.is_empty());
                let destination_subnets = match anywhere {
                    true => Vec::new(),
                    false => kept.iter().flat_map(|one| one.destination_subnets.iter().copied()).collect(),
                };
                let forward = forward(&route.destinations, &virtual_service.namespace, self.registry);
                rules.push(TcpRule { destination_subnets, forward, origin: route.origin.clone() });
            }
        }
        if rules.is_empty() {
            self.diagnostics.push(unrouted(gateway, server, "tcp"));
            return None;
        }
        Some(TcpForward { rules })
    }
}

/// Whether an alternative is meant for this server.
fn applies(condition: &TcpMatch, gateway: &Gateway, server: &Server) -> bool {
    let named = |references: &Vec<GatewayRef>| {
        references.iter().any(|reference| {
            matches!(reference, GatewayRef::Named { namespace, name }
                if *namespace == gateway.namespace && *name == gateway.name)
        })
    };
    condition.port.is_none_or(|port| port == server.port) && condition.gateways.as_ref().is_none_or(named)
}

fn unrouted(gateway: &Gateway, server: &Server, kind: &str) -> Diagnostic {
    let message =
        format!("no `{kind}` route of a virtual service is bound to {} port {}", server.port_name, server.port);
    let gateway =
        ObjectRef { kind: "Gateway".to_owned(), namespace: gateway.namespace.clone(), name: gateway.name.clone() };
    Diagnostic::warning("no-route", message)
        .at(server.origin.clone(), 1)
        .of(gateway)
        .with_value(server.port.to_string())
        .with_allowed(format!(
            "a VirtualService that names this gateway, a host of this server and has `{kind}` routes"
        ))
        .with_effect("nothing is served by this server entry; a port that has no other is not opened")
        .with_suggestion(format!("add `{kind}:` with a route to a VirtualService of this gateway"))
}
