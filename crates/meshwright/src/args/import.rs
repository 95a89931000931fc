//! Flags of `import`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::services::RegistryClient;
use super::value;

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  meshwright import eureka http://eureka.example.com:8761/eureka
  meshwright import consul http://127.0.0.1:8500 --source-token-file consul.token
  meshwright import consul http://127.0.0.1:8500 --once

What is registered there is registered here, too, and leaves when it leaves there. An instance that registers here itself
wins over the one that is imported. A source that is away changes nothing for the time of --grace.";

/// Protocol of a registry that is imported from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// Eureka's REST API
    Eureka,
    /// Consul's HTTP API
    Consul,
}

/// Where another registry is.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceUrl {
    /// `host:port`.
    pub authority: String,
    /// What comes before every path, without a `/` at its end.
    pub base: String,
    /// `user:password` of the URL.
    pub credentials: Option<String>,
}

impl std::fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base)
    }
}

fn source(text: &str) -> Result<SourceUrl, String> {
    let example = "for example http://127.0.0.1:8761/eureka or http://127.0.0.1:8500";
    if text.starts_with("https://") {
        return Err(format!("only plain HTTP is spoken to a source; {example}"));
    }
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let (authority, base) = bare.find('/').map_or((bare, ""), |slash| bare.split_at(slash));
    let (credentials, authority) = match authority.rsplit_once('@') {
        Some((credentials, authority)) => (Some(crate::remote::decoded(credentials)), authority),
        None => (None, authority),
    };
    let port =
        authority.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
    if port.is_none() || !bare.bytes().all(|byte| byte.is_ascii_graphic()) || base.contains(['?', '#']) {
        return Err(format!("this is not the address of a registry with its port; {example}"));
    }
    Ok(SourceUrl { authority: authority.to_owned(), base: base.trim_end_matches('/').to_owned(), credentials })
}

/// Flags of `import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Protocol of the other registry
    #[arg(value_enum)]
    pub kind: SourceKind,

    /// Where the other registry is; `user:password@` is sent as Basic authentication
    #[arg(value_name = "URL", value_parser = source)]
    pub url: SourceUrl,

    /// Import once and end; what was imported stays for the time of --grace, or for as long as it renews here
    #[arg(long, env = "MESHWRIGHT_ONCE", value_parser = clap::builder::BoolishValueParser::new())]
    pub once: bool,

    /// Time between two looks at the other registry
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::timeout, env = "MESHWRIGHT_INTERVAL")]
    pub interval: Duration,

    /// Time that what was imported stays when the other registry, or this command, is away
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = value::timeout, env = "MESHWRIGHT_GRACE")]
    pub grace: Duration,

    /// File with a token for the other registry
    #[arg(long, value_name = "FILE", env = "MESHWRIGHT_SOURCE_TOKEN_FILE")]
    pub source_token_file: Option<std::path::PathBuf>,

    /// How our registry is reached.
    #[command(flatten)]
    pub registry: RegistryClient,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_port_perhaps_a_path_and_credentials_that_are_not_shown() {
        let url = source("http://me:p%40ss@eureka:8761/eureka/").unwrap();
        assert_eq!(url.credentials.as_deref(), Some("me:p@ss"));
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            ("http://eureka:8761/eureka".into(), "http://eureka:8761/eureka".into())
        );
        assert_eq!(source("[::1]:8500").unwrap().to_string(), "http://[::1]:8500");
        for bad in ["", "https://a:1", "http://a", "http://:80", "a:b", "http://a:1/?x", "a b:1"] {
            assert!(source(bad).is_err(), "{bad}");
        }
    }
}
