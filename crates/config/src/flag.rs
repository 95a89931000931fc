//! `--service NAME=ADDR[;weight=N][;locality=R/Z/S][;label=value],ADDR...`: a service given on the command line.
//!
//! Parsing only; `union.rs` makes services of flags.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use meshwright_model::{EndpointAddress, host};

use crate::name;

const EXAMPLE: &str = "for example `--service user-service=127.0.0.1:9001,127.0.0.1:9002;weight=2;version=v2`";

/// One `--service` flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFlag {
    /// Name as written, lower-case: `name`, `name.namespace`, `name.namespace.svc.cluster.local` or a host with dots.
    pub name: String,
    /// Addresses; at least one.
    pub endpoints: Vec<FlagEndpoint>,
}

/// One address of a [`ServiceFlag`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagEndpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its port, for every port of the service.
    pub port: u16,
    /// Relative weight, at least 1; 1 by default.
    pub weight: u32,
    /// `region/zone/subzone`; empty when not given.
    pub locality: String,
    /// Labels that subsets select by.
    pub labels: BTreeMap<String, String>,
}

impl ServiceFlag {
    /// The name taken apart: short name and namespace of a mesh service, or `None` for a host outside of it.
    pub(crate) fn mesh_name(&self, default_namespace: &str) -> Option<(String, String)> {
        let suffix = format!(".svc.{}", host::CLUSTER_DOMAIN);
        let bare = self.name.strip_suffix(&suffix).or_else(|| self.name.strip_suffix(".svc")).unwrap_or(&self.name);
        let mut parts = bare.split('.');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(short), None, None) => Some((short.to_owned(), default_namespace.to_owned())),
            (Some(short), Some(namespace), None) => Some((short.to_owned(), namespace.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for ServiceFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match &endpoint.address {
                EndpointAddress::Ip(IpAddr::V6(ip)) => write!(f, "{comma}[{ip}]:{}", endpoint.port)?,
                other => write!(f, "{comma}{other}:{}", endpoint.port)?,
            }
            if endpoint.weight != 1 {
                write!(f, ";weight={}", endpoint.weight)?;
            }
            if !endpoint.locality.is_empty() {
                write!(f, ";locality={}", endpoint.locality)?;
            }
            for (key, value) in &endpoint.labels {
                write!(f, ";{key}={value}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for ServiceFlag {
    type Err = String;

    /// Errors are whole sentences: what is wrong, what is allowed, an example.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, addresses)) = text.split_once('=') else {
            return Err(format!("`{text}` has no `=`; expected NAME=ADDRESS[,ADDRESS...], {EXAMPLE}"));
        };
        let name = name.trim().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        if !name::is_domain(name) {
            return Err(format!(
                "`{name}` is no service name; allowed are letters, digits, `-` and dots, as in `user-service`, \
                 `user-service.prod` or `api.example.com`, {EXAMPLE}"
            ));
        }
        let mut endpoints = Vec::new();
        for part in addresses.split(',') {
            endpoints.push(endpoint(part.trim())?);
        }
        Ok(Self { name: name.to_owned(), endpoints })
    }
}

fn endpoint(text: &str) -> Result<FlagEndpoint, String> {
    let mut parts = text.split(';');
    let (address, port) = address(parts.next().unwrap_or_default().trim())?;
    let mut endpoint = FlagEndpoint { address, port, weight: 1, locality: String::new(), labels: BTreeMap::new() };
    for part in parts {
        let Some((key, value)) = part.trim().split_once('=') else {
            return Err(format!(
                "`{part}` after `;` must be `weight=N` or `label=value`, {EXAMPLE} (quote the flag, a shell reads `;`)"
            ));
        };
        if key == "weight" {
            endpoint.weight = match value.parse() {
                Ok(weight) if weight > 0 => weight,
                _ => return Err(format!("the weight `{value}` must be a whole number from 1 to {}", u32::MAX)),
            };
        } else if key == "locality" {
            endpoint.locality = locality(value)?;
        } else if !name::is_label_key(key) {
            return Err(format!("`{key}` is no label name; allowed are letters, digits, `-`, `_`, `.` and one `/`"));
        } else if !name::is_label_value(value) {
            return Err(format!(
                "`{value}` is no value for the label `{key}`; allowed are at most 63 letters, digits, `-`, `_` and `.`"
            ));
        } else if endpoint.labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("the label `{key}` is given twice for one address"));
        }
    }
    Ok(endpoint)
}

/// Reads `region[/zone[/subzone]]`.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn locality(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > 3 || !parts.iter().all(|part| !part.is_empty() && name::is_label_value(part)) {
        return Err(format!(
            "`{text}` is no locality; allowed are one to three names with `/` between, as in `eu-west/a/rack-1`"
        ));
    }
    Ok(text.to_owned())
}

fn address(text: &str) -> Result<(EndpointAddress, u16), String> {
    let allowed = "allowed are `127.0.0.1:9001`, `[::1]:9001`, `host.name:9001` and `:9001` (this machine)";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text {
            "" => format!("an address is missing; {allowed}"),
            _ => format!("`{text}` has no port; {allowed}"),
        });
    };
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => port,
        _ => return Err(format!("the port `{port}` of `{text}` must be a number from 1 to 65535; {allowed}")),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = if host.is_empty() {
        EndpointAddress::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST))
    } else if let Some(inner) = bracketed {
        let ip: Ipv6Addr = inner.parse().map_err(|_| format!("`{inner}` is no IPv6 address; {allowed}"))?;
        EndpointAddress::Ip(IpAddr::V6(ip))
    } else if let Ok(ip) = host.parse::<Ipv4Addr>() {
        EndpointAddress::Ip(IpAddr::V4(ip))
    } else if host.contains(':') {
        return Err(format!("an IPv6 address needs brackets: `[{host}]:{port}`; {allowed}"));
    } else if name::is_domain(&host.to_ascii_lowercase()) && !name::looks_like_ip(host) {
        EndpointAddress::Name(host.to_ascii_lowercase())
    } else {
        return Err(format!("`{host}` is neither an IP address nor a host name; {allowed}"));
    };
    Ok((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ServiceFlag {
        text.parse().expect("a good flag")
    }

    #[test]
    fn every_documented_form_is_read_and_prints_as_itself() {
        for text in [
            "user-service=127.0.0.1:9001,127.0.0.1:9002",
            "user-service.prod=[::1]:9001",
            "api.example.com=backend.local:80",
            "user-service=127.0.0.1:9001;weight=3;version=v1,127.0.0.1:9002;version=v2",
            "user-service=127.0.0.1:9001;locality=eu-west/a/rack-1;version=v1",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("a=:9001").to_string(), "a=127.0.0.1:9001");
    }

    #[test]
    fn names_are_taken_apart_as_kubernetes_writes_them() {
        let name = |text: &str| parse(text).mesh_name("default");
        let pair = |short: &str, namespace: &str| Some((short.to_owned(), namespace.to_owned()));
        assert_eq!(name("a=:1"), pair("a", "default"));
        assert_eq!(name("a.prod=:1"), pair("a", "prod"));
        assert_eq!(name("a.prod.svc=:1"), pair("a", "prod"));
        assert_eq!(name("a.prod.svc.cluster.local=:1"), pair("a", "prod"));
        assert_eq!(name("api.example.com=:1"), None);
    }

    #[test]
    fn a_bad_flag_says_what_is_wrong_and_what_is_allowed() {
        for (text, phrase) in [
            ("user-service", "has no `=`"),
            ("=127.0.0.1:1", "no service name"),
            ("a_b=:1", "no service name"),
            ("a=", "an address is missing"),
            ("a=127.0.0.1", "has no port"),
            ("a=127.0.0.1:0", "from 1 to 65535"),
            ("a=127.0.0.1:70000", "from 1 to 65535"),
            ("a=::1:9001", "needs brackets"),
            ("a=[zz]:9001", "no IPv6 address"),
            ("a=300.1.1.1:9001", "neither an IP address nor a host name"),
            ("a=:1;weight=0", "whole number from 1"),
            ("a=:1;locality=eu//a", "no locality"),
            ("a=:1;locality=a/b/c/d", "no locality"),
            ("a=:1;nonsense", "`weight=N` or `label=value`"),
            ("a=:1;v=1;v=2", "given twice"),
            ("a=:1;b!=1", "no label name"),
            ("a=:1;b=c!", "no value for the label"),
        ] {
            let error = text.parse::<ServiceFlag>().expect_err(text);
            assert!(error.contains(phrase), "{text}: {error}");
        }
    }
}
