//! The other registry: read over HTTP, whole, in our words.

use std::fmt;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meshwright_message::{BodyLength, HeaderName, Method, RequestHead};
use serde_json::Value;

use super::mirror::Found;
use super::{consul, eureka};
use crate::args::{SourceKind, SourceUrl};
use crate::client::Client;
use crate::remote::encoded;

/// A registry that is imported from.
pub struct Source {
    kind: SourceKind,
    url: SourceUrl,
    token: Option<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SourceKind::Eureka => "eureka",
            SourceKind::Consul => "consul",
        };
        write!(f, "{kind} {}", self.url)
    }
}

impl Source {
    pub fn new(kind: SourceKind, url: SourceUrl, token: Option<String>) -> Self {
        Self { kind, url, token }
    }

    /// Every instance of it.
    pub async fn read(&self) -> Result<Vec<Found>> {
        let addresses = tokio::net::lookup_host(&self.url.authority).await?.collect();
        let mut client = Client::new(addresses);
        match self.kind {
            SourceKind::Eureka => eureka::instances(&self.get(&mut client, "/apps").await?),
            SourceKind::Consul => {
                let services = self.get(&mut client, "/v1/catalog/services").await?;
                let mut found = Vec::new();
                for service in consul::services(&services)? {
                    let entries = self.get(&mut client, &format!("/v1/health/service/{}", encoded(&service))).await?;
                    found.extend(consul::instances(&service, &entries)?);
                }
                Ok(found)
            }
        }
    }

    async fn get(&self, client: &mut Client, path: &str) -> Result<Value> {
        let target = format!("{}{path}", self.url.base);
        let mut head = RequestHead {
            method: Method::Get,
            authority: self.url.authority.clone(),
            path_len: target.len(),
            target,
            body: BodyLength::Empty,
            ..RequestHead::default()
        };
        head.headers.push_known(HeaderName::Accept, b"application/json");
        head.headers.push_known(HeaderName::UserAgent, format!("meshwright/{}", crate::page::VERSION).as_bytes());
        if let Some(credentials) = &self.url.credentials {
            let basic = format!("Basic {}", STANDARD.encode(credentials));
            head.headers.push_known(HeaderName::Authorization, basic.as_bytes());
        }
        if let Some(token) = &self.token {
            match self.kind {
                SourceKind::Consul => head.headers.push(b"x-consul-token", token.as_bytes()),
                SourceKind::Eureka => {
                    head.headers.push_known(HeaderName::Authorization, format!("Bearer {token}").as_bytes());
                }
            }
        }
        let reply = client.send(&head).await?;
        if reply.status != 200 {
            bail!("{path} is answered with {}", reply.status);
        }
        serde_json::from_slice(&reply.body).with_context(|| format!("the answer to {path} is not JSON"))
    }
}
