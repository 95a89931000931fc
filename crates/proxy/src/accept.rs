//! Stop two: what stands between the socket and the first request. A PROXY header, TLS, and whether it is HTTP at all.
//!
//! Ports that are plain HTTP never come here. Read next: `connection.rs`, `http2.rs`, `tcp.rs`.

use std::io;
use std::rc::Rc;

use meshwright_codec::{ProxyHeader, read_proxy_header};
use meshwright_snapshot::{Listener, TcpForward, TlsAction};
use meshwright_telemetry::RefusalReason;
use meshwright_wire::net::{self, TcpStream};
use meshwright_wire::{Hello, Link, Side, Transport};

use crate::connection::{self, Client, Connection, Tls};
use crate::listener::{ListenerSlot, ListenerView};
use crate::worker::Worker;
use crate::{http2, tcp};

/// Whether connections of this listener speak HTTP from their first byte on.
pub(crate) fn is_plain_http(worker: &Worker, listener: &Listener) -> bool {
    listener.tls.is_none() && listener.tcp.is_none() && !expects_proxy_header(worker, listener)
}

fn expects_proxy_header(worker: &Worker, listener: &Listener) -> bool {
    worker.proxy_protocol_ports.contains(&listener.port)
}

/// What a connection turned out to be.
enum Begun {
    Http1(Transport, Vec<u8>),
    Http2(Transport),
    /// Bytes, and the chain whose rules say where they go; `None` is those of the listener.
    Bytes(Transport, Vec<u8>, Option<usize>),
}

/// Serves a connection that does not begin with HTTP.
pub(crate) async fn serve(worker: Rc<Worker>, slot: Rc<ListenerSlot>, tcp: TcpStream, mut client: Client) {
    let view = slot.load();
    let begin = Box::pin(tokio::time::timeout(worker.limits.head_timeout, begin(&worker, &view, &mut client, tcp)));
    let begun = match begin.await {
        Ok(Ok(begun)) => begun,
        Ok(Err(refusal)) => {
            tracing::debug!(peer = %client.peer, reason = %refusal.cause, "a connection is refused");
            return worker.metrics.refuse(refusal.reason);
        }
        Err(_) => return worker.metrics.refuse(RefusalReason::HeadTimeout),
    };
    match begun {
        Begun::Http1(transport, ahead) => {
            drop(view);
            let side = Side::Http1(Link::new(transport, ahead));
            connection::serve(Connection::new(worker, slot, side, client)).await;
        }
        Begun::Http2(transport) => {
            drop(view);
            Box::pin(http2::serve(worker, slot, client, transport, Vec::new())).await;
        }
        Begun::Bytes(transport, ahead, chain) => {
            let side = Side::Http1(Link::new(transport, ahead));
            Box::pin(tcp::forward(&view, Connection::new(worker, slot, side, client), chain)).await;
        }
    }
}

/// Where the bytes of a connection go.
pub(crate) fn forward_of(listener: &Listener, chain: Option<usize>) -> Option<&TcpForward> {
    let Some(index) = chain else { return listener.tcp.as_ref() };
    match &listener.tls.as_ref()?.chains.get(index)?.action {
        TlsAction::Passthrough(forward) => Some(forward),
        TlsAction::Terminate { then, .. } => then.as_ref(),
    }
}

/// Why a connection is closed before its first request.
struct Refusal {
    reason: RefusalReason,
    cause: io::Error,
}

async fn begin(
    worker: &Worker,
    view: &ListenerView,
    client: &mut Client,
    mut tcp: TcpStream,
) -> Result<Begun, Refusal> {
    let listener = &view.listener;
    let mut ahead = Vec::new();
    if expects_proxy_header(worker, listener) {
        ahead = accept_proxy_header(client, &mut tcp)
            .await
            .map_err(|cause| Refusal { reason: RefusalReason::ProxyHeader, cause })?;
    }
    let Some(tls) = &listener.tls else {
        let transport = Transport::Tcp(tcp);
        return Ok(if listener.tcp.is_some() {
            Begun::Bytes(transport, ahead, None)
        } else {
            Begun::Http1(transport, ahead)
        });
    };
    let failed = |cause| Refusal { reason: RefusalReason::TlsHandshake, cause };
    let hello = Hello::read(tcp, ahead).await.map_err(failed)?;
    let server_name = hello.server_name();
    let Some(index) = tls.index(server_name.as_deref()) else {
        let text = format!("no server of listener {} has the name {server_name:?}", listener.name);
        return Err(Refusal { reason: RefusalReason::UnknownServerName, cause: io::Error::other(text) });
    };
    match &tls.chains[index].action {
        TlsAction::Passthrough(_) => {
            let (tcp, received) = hello.into_raw();
            Ok(Begun::Bytes(Transport::Tcp(tcp), received, Some(index)))
        }
        TlsAction::Terminate { config, then } => {
            let stream = hello.accept(config.config.clone()).await.map_err(failed)?;
            let own = stream.peer_certificates().and_then(|chain| chain.first());
            let names = own.map(meshwright_identity::names_of).unwrap_or_default().into_boxed_slice();
            client.tls = Some(Rc::new(Tls { server_name: server_name.map(String::into_boxed_str), names }));
            let is_http2 = stream.protocol() == Some(b"h2");
            let transport = Transport::Tls(Box::new(stream));
            Ok(match then {
                Some(_) => Begun::Bytes(transport, Vec::new(), Some(index)),
                None if is_http2 => Begun::Http2(transport),
                None => Begun::Http1(transport, Vec::new()),
            })
        }
    }
}

/// Reads the header of a balancer in front of us and takes over who its client is. What was read behind it is returned.
async fn accept_proxy_header(client: &mut Client, tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    loop {
        match read_proxy_header(&received) {
            Ok(Some((header, length))) => {
                if let ProxyHeader::Proxied { source, destination } = header {
                    client.peer = source;
                    client.local = client.local.is_some().then(|| Rc::new(destination));
                }
                received.drain(..length);
                return Ok(received);
            }
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        if net::read_some(tcp, &mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
