//! The life of a request after its head was read, top to bottom.
//!
//! [`handle`] owns the record and turns every failure into an answer, so that [`proxy_request`] may use `?`.

use std::pin::pin;
use std::rc::Rc;

use meshwright_message::{RequestHead, Scheme, Version};
use meshwright_model::{Failure, FailureKind, Stage, host};
use meshwright_route::{Found, Site};
use meshwright_snapshot::{Action, Listener, ListenerKind, Route, VirtualHost};

use crate::connection::{After, Connection};
use crate::contained::{Panicked, contained};
use crate::exchange::Exchange;
use crate::fleet::Pressure;
use crate::listener::ListenerView;
use crate::{admit, coalesce, forward, grpc, own_answer, respond};

/// Serves one request: the outer shell.
pub(crate) async fn handle(connection: &mut Connection, exchange: &mut Exchange) -> After {
    let served = {
        let request = pin!(proxy_request(connection, exchange));
        contained(request).await
    };
    let failure = match served {
        Ok(Ok(after)) => return after,
        Ok(Err(failure)) => failure,
        Err(Panicked) => Failure::new(Stage::Respond, FailureKind::Defect),
    };
    Box::pin(own_answer::fail(connection, exchange, failure)).await
}

/// Serves one request: the straight line.
async fn proxy_request(connection: &mut Connection, exchange: &mut Exchange) -> Result<After, Failure> {
    exchange.record.head_is_valid = true;
    let listener = connection.slot.load();
    if connection.worker.shared.pressure() >= Pressure::Requests {
        return Err(Failure::new(Stage::Admit, FailureKind::MemoryShort));
    }
    if connection.client.tls.is_some() {
        exchange.request.scheme = Scheme::Https;
    }
    exchange.is_grpc = grpc::is_grpc(&exchange.request);
    check_certificate(connection, exchange, &listener.listener)?;
    admit::request(connection, exchange, &listener.listener);
    let chosen = find_route(&listener, exchange)?;
    match &chosen.route.action {
        Action::Forward(destinations) => {
            match forward::first_answer(connection, exchange, &listener, &chosen, destinations).await? {
                Some(answer) => respond::relay(connection, exchange, &chosen, answer).await,
                None => Ok(Box::pin(coalesce::respond(connection, exchange)).await),
            }
        }
        Action::Redirect(redirect) => Box::pin(own_answer::redirect(connection, exchange, &chosen, redirect)).await,
        Action::Direct(direct) => Box::pin(own_answer::direct(connection, exchange, &chosen, direct)).await,
    }
}

/// A client may use one connection of HTTP/2 for every host that it thinks the certificate is for (RFC 9113, section 9.1.1).
/// What another server of the port stands for is not served on it.
fn check_certificate(connection: &Connection, exchange: &Exchange, listener: &Listener) -> Result<(), Failure> {
    if exchange.request.version != Version::Http2 {
        return Ok(());
    }
    let (Some(of_client), Some(tls)) = (&connection.client.tls, &listener.tls) else { return Ok(()) };
    let name = host::without_port(&exchange.request.authority);
    match tls.chain(of_client.server_name.as_deref()) {
        Some(chain) if chain.serves(name) => Ok(()),
        _ => Err(Failure::new(Stage::Route, FailureKind::MisdirectedRequest)),
    }
}

/// The route of a request and how it was found.
pub(crate) struct Chosen<'a> {
    pub(crate) route: &'a Route,
    pub(crate) found: Found,
    pub(crate) site: Site,
}

fn find_route<'a>(listener: &'a Rc<ListenerView>, exchange: &mut Exchange) -> Result<Chosen<'a>, Failure> {
    exchange.record.listener = Some(listener.clone());
    let head = &exchange.request;
    let site = Site { port: port_of_request(&listener.listener, head), scheme: head.scheme };
    let (index, virtual_host) = find_virtual_host(&listener.listener, head)?;
    if virtual_host.https_redirect {
        return Ok(Chosen {
            route: own_answer::https_redirect(),
            found: Found { rule: 0, matched: None, prefix_len: None },
            site,
        });
    }
    let found = virtual_host.table.find(head, &site).ok_or_else(|| {
        Failure::new(Stage::Route, FailureKind::NoRoute)
            .because(format!("host {} is served, but none of its routes matches", virtual_host.name))
    })?;
    // A configuration has less than 2^32 of each.
    let matched = found.matched.map(|matched| matched as u32);
    exchange.record.route = Some((index as u32, found.rule as u32, matched));
    Ok(Chosen { route: &virtual_host.routes[found.rule], found, site })
}

fn find_virtual_host<'a>(listener: &'a Listener, head: &RequestHead) -> Result<(usize, &'a VirtualHost), Failure> {
    let name = host::without_port(&head.authority);
    match listener.hosts.find(name) {
        Some(&index) => Ok((index, &listener.virtual_hosts[index])),
        None => Err(Failure::new(Stage::Route, listener.unknown_host)
            .because(format!("listener {} serves no host of that name", listener.name))),
    }
}

/// At a gateway the port of the listener; between services the port that the caller names in the authority.
fn port_of_request(listener: &Listener, head: &RequestHead) -> u16 {
    match listener.kind {
        ListenerKind::Gateway => listener.port,
        ListenerKind::Mesh => {
            let authority = head.authority.as_str();
            let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            port.unwrap_or(listener.port)
        }
    }
}
