//! A blocking connection, with TLS or without, for peers that show bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustls::{ClientConnection, ServerConnection, StreamOwned};

use crate::tls::TlsFacts;

/// Bytes both ways.
pub(crate) enum Channel {
    /// As they are.
    Plain(TcpStream),
    /// As a TLS client.
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// As a TLS server.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Channel {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Client(stream) => &stream.sock,
            Self::Server(stream) => &stream.sock,
        }
    }

    /// What the handshake agreed on, when there was one.
    pub(crate) fn facts(&self) -> Option<TlsFacts> {
        match self {
            Self::Plain(_) => None,
            Self::Client(stream) => Some(TlsFacts::of(&stream.conn, None)),
            Self::Server(stream) => Some(TlsFacts::of(&stream.conn, stream.conn.server_name())),
        }
    }

    /// Says that nothing more comes; over TLS with a close_notify before.
    pub(crate) fn finish_sending(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Client(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.conn.write_tls(&mut stream.sock);
            }
            Self::Server(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.conn.write_tls(&mut stream.sock);
            }
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Client(stream) => stream.read(buffer),
            Self::Server(stream) => stream.read(buffer),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Client(stream) => stream.write(bytes),
            Self::Server(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Client(stream) => stream.flush(),
            Self::Server(stream) => stream.flush(),
        }
    }
}
