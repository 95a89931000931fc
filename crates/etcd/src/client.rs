//! A connection to one member, and the calls that can be made over it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use h2::client::Builder;
use http::HeaderValue;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::grpc::{Call, Channel};
use crate::messages::{
    AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseRequest, Nothing, WatchRequest,
};
use crate::{
    Endpoint, Error, RangeRequest, RangeResponse, TlsConfig, TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};

/// What the member may send before it waits for us, per stream and in all.
const WINDOW: u32 = 8 << 20;

/// Name and password of a user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Ends the task of a connection with the last user of it.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection to one member; cheap to clone. It is closed with its last clone.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    patience: Duration,
    _driver: Arc<Driver>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.channel.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to `endpoint`, with TLS when there is a configuration for it, which must announce `h2`; logs in when there is
    /// a login. Neither that nor any later call takes longer than `patience`.
    ///
    /// # Errors
    ///
    /// There is no connection, or the login is refused.
    pub async fn connect(
        endpoint: &Endpoint,
        tls: Option<&TlsConfig>,
        login: Option<&Login>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let name = endpoint.to_string();
        let broken = |error: io::Error| Error::Connection { endpoint: name.clone(), reason: error.to_string() };
        let work = async {
            let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(broken)?;
            stream.set_nodelay(true).map_err(broken)?;
            match tls {
                None => Self::over(stream, endpoint, "http", patience).await,
                Some(config) => {
                    let server = ServerName::try_from(endpoint.host.clone());
                    let server = server.map_err(|error| broken(io::Error::other(error)))?;
                    let connector = TlsConnector::from(Arc::clone(config));
                    let stream = connector.connect(server, stream).await.map_err(broken)?;
                    Self::over(stream, endpoint, "https", patience).await
                }
            }
        };
        let late = || Error::Late { endpoint: endpoint.to_string(), patience };
        let mut client = tokio::time::timeout(patience, work).await.map_err(|_| late())??;
        if let Some(login) = login {
            let request = AuthenticateRequest { name: login.user.clone(), password: login.password.clone() };
            let answer: AuthenticateResponse = client.unary("/etcdserverpb.Auth/Authenticate", &request).await?;
            let token = HeaderValue::from_str(&answer.token);
            let mut token = token.map_err(|error| client.channel.broken(&error))?;
            token.set_sensitive(true);
            client.channel.token = Some(token);
        }
        Ok(client)
    }

    async fn over<S>(stream: S, endpoint: &Endpoint, scheme: &str, patience: Duration) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await;
        let (requests, connection) = handshake
            .map_err(|error| Error::Connection { endpoint: endpoint.to_string(), reason: error.to_string() })?;
        // How it ends is seen by the calls.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            channel: Channel {
                requests,
                origin: format!("{scheme}://{endpoint}"),
                endpoint: endpoint.to_string(),
                token: None,
            },
            patience,
            _driver: Arc::new(Driver(driver.abort_handle())),
        })
    }

    async fn unary<A: Message + Default>(&self, path: &str, request: &impl Message) -> Result<A, Error> {
        let work = async {
            let mut call = self.channel.begin(path, request, true).await?;
            let answer = call.next::<A>().await?;
            // The status comes after the answer.
            while call.next::<Nothing>().await?.is_some() {}
            answer.ok_or_else(|| Error::Protocol {
                endpoint: self.channel.endpoint.clone(),
                reason: "it gave no answer".to_owned(),
            })
        };
        let late = |_| Error::Late { endpoint: self.channel.endpoint.clone(), patience: self.patience };
        tokio::time::timeout(self.patience, work).await.map_err(late)?
    }

    /// Keys, as the whole cluster has them (linearizable).
    ///
    /// # Errors
    ///
    /// The call failed; [`Error::is_compacted`] when the revision is gone.
    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.unary("/etcdserverpb.KV/Range", request).await
    }

    /// A transaction.
    ///
    /// # Errors
    ///
    /// The call failed, and it is not known whether it had an effect.
    pub async fn transaction(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        self.unary("/etcdserverpb.KV/Txn", request).await
    }

    /// A new lease of `ttl`, in whole seconds; etcd may make it longer. Its id.
    ///
    /// # Errors
    ///
    /// The call failed.
    pub async fn grant_lease(&self, ttl: Duration) -> Result<i64, Error> {
        let request = LeaseGrantRequest { ttl: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX) };
        let answer: LeaseGrantResponse = self.unary("/etcdserverpb.Lease/LeaseGrant", &request).await?;
        match answer.error.is_empty() {
            true => Ok(answer.id),
            false => Err(Error::Refused { endpoint: self.channel.endpoint.clone(), code: 2, message: answer.error }),
        }
    }

    /// Gives a lease its full time again; `false` when it is over.
    ///
    /// # Errors
    ///
    /// The call failed.
    pub async fn keep_lease(&self, id: i64) -> Result<bool, Error> {
        // A stream of one request and one answer is a call like the others.
        let request = LeaseRequest { id };
        let answer: LeaseKeepAliveResponse = self.unary("/etcdserverpb.Lease/LeaseKeepAlive", &request).await?;
        Ok(answer.ttl > 0)
    }

    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// The call failed.
    pub async fn watch(&self, request: WatchCreateRequest) -> Result<Watch, Error> {
        let request = WatchRequest { create: Some(request) };
        let work = self.channel.begin("/etcdserverpb.Watch/Watch", &request, false);
        let late = |_| Error::Late { endpoint: self.channel.endpoint.clone(), patience: self.patience };
        let call = tokio::time::timeout(self.patience, work).await.map_err(late)??;
        Ok(Watch { call, endpoint: self.channel.endpoint.clone() })
    }
}

/// Changes as they come.
pub struct Watch {
    call: Call,
    endpoint: String,
}

impl Watch {
    /// The next answer; it waits for as long as nothing changes.
    ///
    /// # Errors
    ///
    /// The watch broke.
    pub async fn next(&mut self) -> Result<WatchResponse, Error> {
        let ended = || Error::Connection { endpoint: self.endpoint.clone(), reason: "the watch ended".to_owned() };
        self.call.next().await?.ok_or_else(ended)
    }
}
