//! `meshwright services`, `resolve`, `deregister` and `drain`: the registry of a running process, from the command line.
//!
//! Paths and shapes are those of `meshwright-bridges`; this file only asks and shows.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use meshwright_message::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{
    DeregisterArgs, DrainArgs, EXIT_FAILURE, EXIT_OK, InstanceName, Output, RegistryClient, ResolveArgs, ServicesArgs,
};
use crate::remote::{columns, encoded, refusal, send};

/// Longest wait of one long poll; it is below the patience of the client.
const WAIT: &str = "8s";

#[derive(Deserialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    namespace: String,
    name: String,
    instances: usize,
    healthy: usize,
}

#[derive(Deserialize)]
struct Instances {
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    service: String,
    namespace: String,
    id: String,
    address: String,
    port: u16,
    status: String,
    version: String,
    weight: u32,
    lease: Lease,
    tags: Vec<String>,
    last_seen: Option<String>,
}

#[derive(Deserialize)]
struct Lease {
    kind: String,
    ttl: Option<String>,
}

#[derive(Deserialize)]
struct Changes {
    revision: u64,
    events: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    kind: String,
    reason: Option<String>,
    instance: Instance,
}

/// A question to the registry; the text of a good answer, nothing when there is no such thing.
pub async fn ask(registry: &RegistryClient, request: (Method, &str, &str)) -> anyhow::Result<Option<String>> {
    let answer = send(&registry.admin, registry.token.as_deref(), request).await?;
    match answer.status {
        200..=299 => Ok(Some(answer.text)),
        404 => Ok(None),
        status => bail!("refused ({status}): {}", refusal(&answer.text)),
    }
}

/// Path of the instances of a service, or of what is below one of them.
pub fn path(registry: &RegistryClient, service: &str, below: &str) -> String {
    format!("/v1/services/{}/instances{below}?namespace={}", encoded(service), encoded(&registry.namespace))
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn json_of<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_json::from_str(text).context("the answer is not what a registry gives")
}

/// Runs `meshwright services`.
///
/// # Errors
/// The process cannot be reached, or it refuses; the message says why.
pub fn services(args: &ServicesArgs) -> anyhow::Result<ExitCode> {
    block_on(async {
        // The revision comes first: a change between both questions is then shown twice rather than never.
        let status: Value = match ask(&args.registry, (Method::Get, "/v1/status", "")).await? {
            Some(text) => json_of(&text)?,
            None => bail!("the process at http://{} has no registry", args.registry.admin.0),
        };
        let target = match &args.name {
            Some(name) => path(&args.registry, name, ""),
            None => "/v1/services".to_owned(),
        };
        let text = ask(&args.registry, (Method::Get, &target, "")).await?.unwrap_or_default();
        show(args, &text)?;
        if args.watch {
            follow(args, status["revision"].as_u64().unwrap_or_default()).await?;
        }
        Ok(ExitCode::from(EXIT_OK))
    })
}

fn show(args: &ServicesArgs, text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if args.output == Output::Json {
        let value: Value = json_of(text)?;
        writeln!(out, "{value}")?;
        return Ok(());
    }
    if args.name.is_some() {
        let Instances { instances } = json_of(text)?;
        let mut rows =
            vec![["ID", "ADDRESS", "STATUS", "VERSION", "WEIGHT", "LEASE", "LAST SEEN", "TAGS"].map(str::to_owned)];
        rows.extend(instances.iter().map(|instance| {
            let lease = match &instance.lease.ttl {
                Some(ttl) => format!("{} {ttl}", instance.lease.kind),
                None => instance.lease.kind.clone(),
            };
            [
                instance.id.clone(),
                socket(instance),
                instance.status.clone(),
                instance.version.clone(),
                instance.weight.to_string(),
                lease,
                instance.last_seen.clone().unwrap_or_default(),
                instance.tags.join(","),
            ]
        }));
        write!(out, "{}", columns(&rows))?;
    } else {
        let Services { services } = json_of(text)?;
        let mut rows = vec![["NAMESPACE", "SERVICE", "HEALTHY", "INSTANCES"].map(str::to_owned)];
        rows.extend(services.into_iter().map(|service| {
            [service.namespace, service.name, service.healthy.to_string(), service.instances.to_string()]
        }));
        write!(out, "{}", columns(&rows))?;
    }
    Ok(())
}

fn socket(instance: &Instance) -> String {
    match instance.address.contains(':') {
        true => format!("[{}]:{}", instance.address, instance.port),
        false => format!("{}:{}", instance.address, instance.port),
    }
}

/// Prints every change after `revision`, until the output is closed or the process cannot be reached.
async fn follow(args: &ServicesArgs, mut revision: u64) -> anyhow::Result<()> {
    loop {
        let service = args
            .name
            .as_ref()
            .map(|name| format!("&service={}&namespace={}", encoded(name), encoded(&args.registry.namespace)));
        let target = format!("/v1/watch?revision={revision}&wait={WAIT}{}", service.unwrap_or_default());
        let Some(text) = ask(&args.registry, (Method::Get, &target, "")).await? else { return Ok(()) };
        let mut out = io::stdout().lock();
        if args.output == Output::Json {
            let changes: Value = json_of(&text)?;
            for event in changes["events"].as_array().into_iter().flatten() {
                writeln!(out, "{event}")?;
            }
        }
        let Changes { revision: at, events } = json_of(&text)?;
        revision = at;
        for event in events.iter().filter(|_| args.output == Output::Text) {
            let Change { kind, reason, instance } = event;
            let what = reason.as_deref().unwrap_or(&instance.status);
            let sign = if kind == "put" { '+' } else { '-' };
            writeln!(
                out,
                "{sign} {}.{}/{} {} {what}",
                instance.service,
                instance.namespace,
                instance.id,
                socket(instance)
            )?;
        }
        out.flush()?;
    }
}

/// Runs `meshwright resolve`: exit code 1 when nobody is there.
///
/// # Errors
/// The process cannot be reached, or it refuses; the message says why.
pub fn resolve(args: &ResolveArgs) -> anyhow::Result<ExitCode> {
    let target = format!("{}&healthy=true", path(&args.registry, &args.name, ""));
    let text = block_on(ask(&args.registry, (Method::Get, &target, "")))?.unwrap_or_default();
    let Instances { instances } = json_of(&text)?;
    let mut out = io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", json_of::<Value>(&text)?["instances"])?,
        Output::Text => {
            for instance in &instances {
                writeln!(out, "{}", socket(instance))?;
            }
        }
    }
    if instances.is_empty() {
        writeln!(io::stderr(), "no healthy instance of {} is registered", args.name)?;
        return Ok(ExitCode::from(EXIT_FAILURE));
    }
    Ok(ExitCode::from(EXIT_OK))
}

/// Runs `meshwright deregister`.
///
/// # Errors
/// There is no such instance, the process cannot be reached, or it refuses; the message says why.
pub fn deregister(args: &DeregisterArgs) -> anyhow::Result<ExitCode> {
    act(&args.registry, &args.instance, (Method::Delete, "", String::new()))
}

/// Runs `meshwright drain`.
///
/// # Errors
/// As [`deregister`].
pub fn drain(args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let request = match args.undo {
        true => (Method::Delete, "/status", String::new()),
        false => (Method::Put, "/status", json!({ "status": "draining", "reason": args.reason }).to_string()),
    };
    act(&args.registry, &args.instance, request)
}

fn act(
    registry: &RegistryClient,
    instance: &InstanceName,
    (method, below, body): (Method, &str, String),
) -> anyhow::Result<ExitCode> {
    let target = path(registry, &instance.service, &format!("/{}{below}", encoded(&instance.id)));
    match block_on(ask(registry, (method, &target, &body)))? {
        Some(_) => Ok(ExitCode::from(EXIT_OK)),
        None => bail!(
            "there is no instance {}/{}; `meshwright services {}` shows all",
            instance.service,
            instance.id,
            instance.service
        ),
    }
}
