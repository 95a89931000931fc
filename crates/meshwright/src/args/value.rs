//! How single values are written on the command line: addresses, durations, sizes, shares, logs.
//!
//! Every parser answers an error with a sentence: what is wrong, what is allowed, an example.
//! Knows nothing of commands.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use meshwright_config::ServiceFlag;

use crate::logging;

/// `--map-port FROM=TO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// Port in the configuration.
    pub from: u16,
    /// Port to listen on.
    pub to: u16,
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Key.
    pub key: String,
    /// Value; may be empty.
    pub value: String,
}

/// Address of a listener that is meant for this machine, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalListener {
    /// Listen here.
    At(SocketAddr),
    /// Do not listen.
    Off,
}

/// `--access-log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// No access log.
    Off,
    /// Istio's default text format; `None` is standard output.
    Text(Option<PathBuf>),
    /// Istio's JSON format; `None` is standard output.
    Json(Option<PathBuf>),
}

/// How long `echo` waits before it answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Uniform between the two, both included.
    Uniform(Duration, Duration),
    /// Exponential with this mean.
    Exponential(Duration),
}

/// Where the admin API of another process is: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress(pub String);

/// The longest wait that `echo` accepts.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// The largest answer that `echo` accepts.
const LARGEST_ANSWER: u64 = 1 << 40;

impl Delay {
    /// One wait drawn from the distribution.
    pub fn sample(&self, rng: &mut fastrand::Rng) -> Duration {
        match *self {
            Self::Fixed(wait) => wait,
            Self::Uniform(least, most) => least + (most - least).mul_f64(rng.f64()),
            Self::Exponential(mean) => mean.mul_f64(-(1.0 - rng.f64()).ln()),
        }
    }
}

/// An address to listen on: `:8080` (every interface), `IP:PORT`, `[IPv6]:PORT`, `localhost:PORT`. Port 0 is a free one.
pub fn listener(text: &str) -> Result<SocketAddr, String> {
    address(text, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// An address to listen on where `:15000` means this machine only, or `off`.
pub fn local_listener(text: &str) -> Result<LocalListener, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(LocalListener::Off);
    }
    address(text, IpAddr::V4(Ipv4Addr::LOCALHOST)).map(LocalListener::At)
}

/// The address of an endpoint; `:9001` is 127.0.0.1:9001.
pub fn endpoint(text: &str) -> Result<SocketAddr, String> {
    address(text, IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn address(text: &str, unnamed: IpAddr) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let wanted = "allowed are IP:PORT, [IPv6]:PORT, localhost:PORT and :PORT, for example 127.0.0.1:8080";
    if text.parse::<u16>().is_ok() {
        return Err(format!("a port alone is not an address; write `:{text}`"));
    }
    if text.parse::<IpAddr>().is_ok() {
        let form = if text.contains(':') { format!("[{text}]:8080") } else { format!("{text}:8080") };
        return Err(format!("the port is missing; write for example `{form}`"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("this is not an address; {wanted}"));
    };
    let port = port.parse::<u16>().map_err(|_| format!("`{port}` is not a port from 0 to 65535; {wanted}"))?;
    match host {
        "" | "*" => Ok(SocketAddr::new(unnamed, port)),
        "localhost" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        _ => Err(format!("`{host}` is not an IP address; {wanted}")),
    }
}

/// An IP address.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| {
        "this is not an IP address; 0.0.0.0 is every IPv4 interface, [::] every interface, 127.0.0.1 this machine only"
            .to_owned()
    })
}

/// `FROM=TO`: FROM is a port of the configuration, from 1 to 65535; TO may be 0, which takes a free port.
pub fn port_mapping(text: &str) -> Result<PortMapping, String> {
    let port = |part: &str, least: u16| match part.trim().parse::<u16>() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("`{part}` is not a port from {least} to 65535; write FROM=TO, for example 80=8080")),
    };
    let (from, to) =
        text.split_once('=').ok_or("write FROM=TO, for example 80=8080 to listen on 8080 for port 80 of the YAML")?;
    Ok(PortMapping { from: port(from, 1)?, to: port(to, 0)? })
}

/// `KEY=VALUE`.
pub fn label(text: &str) -> Result<Label, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Label { key: key.to_owned(), value: value.to_owned() }),
        _ => Err("write KEY=VALUE, for example istio=ingressgateway".to_owned()),
    }
}

/// A DNS label, as Kubernetes wants namespaces.
pub fn namespace(text: &str) -> Result<String, String> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = text.as_bytes();
    if bytes.len() <= 63 && bytes.iter().all(|byte| fine(*byte)) && ends(bytes.first()) && ends(bytes.last()) {
        return Ok(text.to_owned());
    }
    Err("a namespace has 1 to 63 small letters, digits and dashes, none at the ends; for example default".to_owned())
}

/// The name of a load balancer, a type of service or a rule of Ribbon.
pub fn load_balancer(text: &str) -> Result<String, String> {
    match meshwright_config::balancing::preset(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("allowed are {}", meshwright_config::balancing::names().join(", "))),
    }
}

/// `REGION[/ZONE[/SUBZONE]]`; empty is unknown.
pub fn locality(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { meshwright_config::locality(text) }
}

/// `NAME=ADDR[;weight=N][;locality=R/Z/S][;label=value][,ADDR...]`.
pub fn service(text: &str) -> Result<ServiceFlag, String> {
    text.parse()
}

/// Path and query of a request: `/health`, `/ready?full=1`.
pub fn request_path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is no path; it begins with `/` and has no spaces, for example /health")),
    }
}

/// `ADDR[;weight=N][,ADDR...]` for the one service of `proxy`; `http://` before an address is accepted.
pub fn targets(text: &str) -> Result<String, String> {
    let mut addresses = Vec::new();
    for target in text.split(',') {
        if target.starts_with("https://") {
            return Err("TLS towards the target is not served; write the address of a plain HTTP port".to_owned());
        }
        let bare = target.strip_prefix("http://").unwrap_or(target);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        if bare.contains('/') {
            return Err("a target is an address, without a path; for example :3000 or 10.0.0.7:3000".to_owned());
        }
        addresses.push(bare);
    }
    let list = addresses.join(",");
    format!("{}={list}", super::run::PROXY_SERVICE).parse::<ServiceFlag>()?;
    Ok(list)
}

/// `off`, `text[:PATH]`, `json[:PATH]`; `-` as the path is standard output.
pub fn access_log(text: &str) -> Result<AccessLog, String> {
    let (format, path) = match text.split_once(':') {
        Some((format, path)) => (format, Some(path)),
        None => (text, None),
    };
    let path = match path {
        Some("") => return Err("the path after the colon is missing; for example json:/var/log/access.log".to_owned()),
        Some("-") | None => None,
        Some(path) => Some(PathBuf::from(path)),
    };
    match format {
        "off" if path.is_none() => Ok(AccessLog::Off),
        "text" => Ok(AccessLog::Text(path)),
        "json" => Ok(AccessLog::Json(path)),
        _ => {
            Err("allowed are off, text, json, text:PATH and json:PATH; for example json:/var/log/access.log".to_owned())
        }
    }
}

/// Log levels, kept as text after a check.
pub fn log_directives(text: &str) -> Result<String, String> {
    logging::check(text)?;
    Ok(text.to_owned())
}

/// A duration of parts such as `1h30m`, `1.5s`, `20ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let example = "for example 20ms, 1.5s, 30s, 5m, 1h30m";
    if text.parse::<f64>().is_ok() {
        return Err(format!("the unit is missing; write `{text}s` for seconds or `{text}ms` for milliseconds"));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("`{unit}` is not a unit of time; allowed are us, ms, s, m, h, {example}")),
        };
        let number = number.parse::<f64>().map_err(|_| format!("`{number}` is not a number; {example}"))?;
        let part = Duration::try_from_secs_f64(number * scale).map_err(|_| "this time is too long".to_owned())?;
        total = total.checked_add(part).ok_or("this time is too long")?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(format!("a time is missing; {example}"));
    }
    Ok(total)
}

/// A time limit: from 1 ms to 24 h.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_millis(1) || time > Duration::from_secs(24 * 3600) {
        return Err("allowed is 1ms to 24h; this limit cannot be switched off".to_owned());
    }
    Ok(time)
}

/// `20ms`, `10ms..50ms`, `exp:20ms`; at most an hour.
pub fn delay(text: &str) -> Result<Delay, String> {
    let bounded = |text: &str| match duration(text)? {
        time if time <= LONGEST_DELAY => Ok(time),
        _ => Err("a delay is at most 1h".to_owned()),
    };
    if let Some(mean) = text.strip_prefix("exp:") {
        return Ok(Delay::Exponential(bounded(mean)?));
    }
    match text.split_once("..") {
        None => Ok(Delay::Fixed(bounded(text)?)),
        Some((least, most)) => {
            let (least, most) = (bounded(least)?, bounded(most)?);
            if least > most {
                return Err("the first time of a range is the smaller one, for example 10ms..50ms".to_owned());
            }
            Ok(Delay::Uniform(least, most))
        }
    }
}

/// A number of bytes: `1000`, `10kB`, `64KiB`, `1MiB`, `2GiB`; at most 1 TiB.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "k" => 1_000,
        "mb" | "m" => 1_000_000,
        "gb" | "g" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit of size; allowed are kB, MB, GB, KiB, MiB, GiB, for example 64KiB"
            ));
        }
    };
    let number = number.parse::<u64>().map_err(|_| "a size is a whole number, for example 1000 or 64KiB".to_owned())?;
    match number.checked_mul(scale) {
        Some(bytes) if bytes <= LARGEST_ANSWER => Ok(bytes),
        _ => Err("a size is at most 1TiB".to_owned()),
    }
}

/// A limit on parts of a message head: 256 bytes to 1 MiB.
pub fn head_size(text: &str) -> Result<usize, String> {
    match usize::try_from(size(text)?) {
        Ok(bytes) if (256..=1 << 20).contains(&bytes) => Ok(bytes),
        _ => Err("allowed is 256 to 1MiB".to_owned()),
    }
}

/// A limit on a small part of a message: 0 to 1 MiB.
pub fn part_size(text: &str) -> Result<usize, String> {
    match usize::try_from(size(text)?) {
        Ok(bytes) if bytes <= 1 << 20 => Ok(bytes),
        _ => Err("allowed is 0 to 1MiB".to_owned()),
    }
}

/// A limit on the number of headers: 1 to 1000.
pub fn field_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1000).contains(&count) => Ok(count),
        _ => Err("allowed is a whole number from 1 to 1000".to_owned()),
    }
}

/// A whole number of at least 1.
pub fn positive(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("allowed is a whole number from 1 to {}", u32::MAX)),
    }
}

/// A number of threads: 1 to 256.
pub fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=256).contains(&count) => Ok(count),
        _ => Err("allowed is a whole number from 1 to 256; leave the flag out for one per core".to_owned()),
    }
}

/// Requests per second of a gentle load.
pub fn rate(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rate) if rate <= 1000 => Ok(rate),
        _ => Err("allowed is a whole number from 0 to 1000".to_owned()),
    }
}

/// A final HTTP status that may have any meaning: 200 to 599.
pub fn status(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(status) if (200..=599).contains(&status) => Ok(status),
        _ => Err("allowed is an HTTP status from 200 to 599, for example 503".to_owned()),
    }
}

/// A share in percent, with or without the sign: 0 to 100.
pub fn percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("allowed is a share from 0 to 100 percent, for example 20 or 0.5%".to_owned()),
    }
}

/// The admin API of another process: `http://host:port`, `host:port` or `:port`.
pub fn admin_address(text: &str) -> Result<AdminAddress, String> {
    let example = "for example http://127.0.0.1:15000 or :15000";
    if text.starts_with("https://") {
        return Err(format!("the admin API speaks plain HTTP; {example}"));
    }
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let (host, port) = bare.rsplit_once(':').ok_or_else(|| format!("the port is missing; {example}"))?;
    if port.parse::<u16>().is_err() || host.contains('/') {
        return Err(format!("this is not the address of an admin API; {example}"));
    }
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Ok(AdminAddress(format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unnamed_host_is_every_interface_for_listeners_and_this_machine_for_targets() {
        assert_eq!(listener(":8080").unwrap().to_string(), "0.0.0.0:8080");
        assert_eq!(endpoint(":8080").unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(local_listener(":15000").unwrap(), LocalListener::At("127.0.0.1:15000".parse().unwrap()));
        assert_eq!(local_listener("off").unwrap(), LocalListener::Off);
        assert_eq!(listener("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(listener("localhost:80").unwrap().to_string(), "127.0.0.1:80");
    }

    #[test]
    fn a_bad_address_is_answered_with_what_to_write() {
        assert!(listener("8080").unwrap_err().contains("`:8080`"));
        assert!(listener("10.0.0.1").unwrap_err().contains("`10.0.0.1:8080`"));
        assert!(listener("::1").unwrap_err().contains("`[::1]:8080`"));
        assert!(listener(":99999").unwrap_err().contains("0 to 65535"));
        assert!(listener("example.com:80").unwrap_err().contains("not an IP address"));
        assert!(listener("").is_err());
    }

    #[test]
    fn durations_have_parts_and_always_a_unit() {
        assert_eq!(duration("20ms").unwrap(), Duration::from_millis(20));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert!(duration("5").unwrap_err().contains("`5s`"));
        for bad in ["", "s", "5 s", "5d", "1..2s", "-1s", "1e400s", "infs", "nans"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(timeout("0s").is_err());
        assert!(timeout("25h").is_err());
    }

    #[test]
    fn delays_are_fixed_uniform_or_exponential() {
        let ms = Duration::from_millis;
        assert_eq!(delay("20ms").unwrap(), Delay::Fixed(ms(20)));
        assert_eq!(delay("10ms..50ms").unwrap(), Delay::Uniform(ms(10), ms(50)));
        assert_eq!(delay("exp:20ms").unwrap(), Delay::Exponential(ms(20)));
        for bad in ["50ms..10ms", "exp:", "exp:5", "2h", "10ms..", "..10ms"] {
            assert!(delay(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn drawn_delays_follow_their_distribution() {
        let mut rng = fastrand::Rng::with_seed(7);
        let uniform = Delay::Uniform(Duration::from_millis(10), Duration::from_millis(50));
        let exponential = Delay::Exponential(Duration::from_millis(20));
        let mut sum = Duration::ZERO;
        for _ in 0..10_000 {
            let drawn = uniform.sample(&mut rng);
            assert!((Duration::from_millis(10)..=Duration::from_millis(50)).contains(&drawn));
            sum += exponential.sample(&mut rng);
        }
        let mean = sum / 10_000;
        assert!((Duration::from_millis(19)..Duration::from_millis(21)).contains(&mean), "{mean:?}");
    }

    #[test]
    fn sizes_know_both_kinds_of_thousand() {
        assert_eq!(size("1000"), Ok(1000));
        assert_eq!(size("10kB"), Ok(10_000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        for bad in ["", "MiB", "1.5MiB", "-1", "2TiB", "99999999999999999999", "1XB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_access_log_has_a_format_and_perhaps_a_path() {
        assert_eq!(access_log("off"), Ok(AccessLog::Off));
        assert_eq!(access_log("json"), Ok(AccessLog::Json(None)));
        assert_eq!(access_log("text:-"), Ok(AccessLog::Text(None)));
        assert_eq!(access_log("json:/a:b"), Ok(AccessLog::Json(Some(PathBuf::from("/a:b")))));
        for bad in ["", "on", "xml", "json:", "off:/x", ":x"] {
            assert!(access_log(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_mapped_only_between_real_ports() {
        assert_eq!(port_mapping("80=8080"), Ok(PortMapping { from: 80, to: 8080 }));
        assert_eq!(port_mapping("80=0"), Ok(PortMapping { from: 80, to: 0 }));
        for bad in ["80", "0=80", "a=b", "80=70000", "80:8080"] {
            assert!(port_mapping(bad).unwrap_err().contains("80=8080"), "{bad}");
        }
    }

    #[test]
    fn targets_may_be_written_as_plain_urls() {
        assert_eq!(targets("http://10.0.0.1:80/,:3001").unwrap(), "10.0.0.1:80,:3001");
        assert!(targets("https://10.0.0.1:443").unwrap_err().contains("TLS"));
        assert!(targets("http://10.0.0.1:80/api").unwrap_err().contains("path"));
        assert!(targets("").is_err());
    }

    #[test]
    fn shares_statuses_and_namespaces_are_bounded() {
        assert_eq!(percent("20%"), Ok(20.0));
        assert!(percent("101").is_err() && percent("NaN").is_err() && percent("-1").is_err());
        assert_eq!(status("503"), Ok(503));
        assert!(status("100").is_err() && status("600").is_err());
        assert!(namespace("Prod").is_err() && namespace("-a").is_err() && namespace("").is_err());
        assert!(namespace("prod-1").is_ok());
    }

    #[test]
    fn an_admin_address_is_a_url_or_an_address() {
        assert_eq!(admin_address("http://localhost:15000/"), Ok(AdminAddress("localhost:15000".to_owned())));
        assert_eq!(admin_address(":15000"), Ok(AdminAddress("127.0.0.1:15000".to_owned())));
        assert!(admin_address("https://x:1").unwrap_err().contains("plain HTTP"));
        assert!(admin_address("localhost").unwrap_err().contains("port"));
    }
}
