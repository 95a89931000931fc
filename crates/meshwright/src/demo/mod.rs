//! A small mesh in one process: two services of several instances, a gateway with a 90/10 split, and a gentle load.
//!
//! One instance fails now and then, so that ejection and retries can be watched. The configuration is `demo.yaml`;
//! the backends are those of `echo`, the gateway is started as `run` starts it, the load is in `load`.

mod gateway;
mod load;
mod story;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::value::Delay;
use crate::args::{DemoArgs, EXIT_OK};
use crate::echo::{self, EchoSettings};

/// The configuration of the demo, as `run -f` would read it.
const CONFIGURATION: &str = include_str!("demo.yaml");
/// Gateway port in [`CONFIGURATION`].
const GATEWAY_PORT: u16 = 8080;
/// Time between the begins of two outages of the failing instance.
const OUTAGE_EVERY: Duration = Duration::from_secs(30);
/// Length of one outage.
const OUTAGE: Duration = Duration::from_secs(5);
/// Time between two lines about the load.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// An instance of a service of the demo: service, version label, name, preferred port.
const INSTANCES: [Instance; 5] = [
    Instance { service: "user-service", version: "v1", name: "users-v1-a", port: 9001 },
    Instance { service: "user-service", version: "v1", name: "users-v1-b", port: 9002 },
    Instance { service: "user-service", version: "v2", name: "users-v2", port: 9003 },
    Instance { service: "post-service", version: "v1", name: "posts-a", port: 9004 },
    Instance { service: "post-service", version: "v1", name: "posts-b", port: 9005 },
];
/// The instance that fails now and then.
const FAILING: &str = "users-v1-b";

struct Instance {
    service: &'static str,
    version: &'static str,
    name: &'static str,
    port: u16,
}

/// A backend that listens: which one, and where.
struct Started {
    instance: &'static Instance,
    address: SocketAddr,
}

/// Runs `meshwright demo` until SIGINT or SIGTERM.
///
/// # Errors
/// Something cannot listen, or the gateway does not start.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play(args))?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn play(args: &DemoArgs) -> anyhow::Result<()> {
    let interrupted = echo::stop_signal()?;
    let (stop, stopping) = watch::channel(());
    let mut backends = JoinSet::new();
    let (broken, is_broken) = watch::channel(false);
    let started = start_backends(&mut backends, &stopping, &is_broken).await?;
    let gateway = gateway::start(args, &services(&started)).await?;
    let addresses = gateway::addresses(&gateway)?;
    say(&story::tell(&addresses, &started, args.rate))?;

    let tally = load::Tally::default();
    let mut traffic = JoinSet::new();
    traffic.spawn(load::run(addresses.gateway, args.rate, tally.clone()));
    traffic.spawn(break_now_and_then(broken));
    if args.rate > 0 {
        traffic.spawn(report(tally.clone()));
    }
    interrupted.await;
    traffic.shutdown().await;
    gateway.drain().await;
    drop(stop);
    while backends.join_next().await.is_some() {}
    say(&format!("ended; since the last line: {}\n", tally.report()))
}

/// Starts every instance of [`INSTANCES`] on its port, or on a free one when that is busy.
async fn start_backends(
    backends: &mut JoinSet<()>,
    stopping: &watch::Receiver<()>,
    broken: &watch::Receiver<bool>,
) -> anyhow::Result<Vec<Started>> {
    let mut started = Vec::new();
    for instance in &INSTANCES {
        let listener = listen(instance.port).await.with_context(|| format!("{} cannot listen", instance.name))?;
        started.push(Started { instance, address: listener.local_addr()? });
        let mut settings = EchoSettings::named(instance.name);
        settings.delay = Some(Delay::Exponential(Duration::from_millis(5)));
        if instance.name == FAILING {
            settings.broken = broken.clone();
        }
        let mut stopping = stopping.clone();
        backends.spawn(async move {
            let stopped = async move {
                let _ = stopping.changed().await;
            };
            echo::serve(listener, settings, stopped).await;
        });
    }
    Ok(started)
}

/// `--service` for the instances, one text per service.
fn services(started: &[Started]) -> Vec<String> {
    let mut services: Vec<(&str, Vec<String>)> = Vec::new();
    for Started { instance, address } in started {
        let endpoint = format!("{address};version={}", instance.version);
        match services.iter_mut().find(|(name, _)| *name == instance.service) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => services.push((instance.service, vec![endpoint])),
        }
    }
    services.into_iter().map(|(name, endpoints)| format!("{name}={}", endpoints.join(","))).collect()
}

/// Lets the failing instance fail for [`OUTAGE`] in every [`OUTAGE_EVERY`], for the first time after half of that.
async fn break_now_and_then(broken: watch::Sender<bool>) {
    tokio::time::sleep(OUTAGE_EVERY / 2).await;
    loop {
        broken.send_replace(true);
        let _ = say(&format!("{FAILING} fails from now on\n"));
        tokio::time::sleep(OUTAGE).await;
        broken.send_replace(false);
        let _ = say(&format!("{FAILING} works again\n"));
        tokio::time::sleep(OUTAGE_EVERY - OUTAGE).await;
    }
}

async fn report(tally: load::Tally) {
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let _ = say(&format!("{}\n", tally.report()));
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Listens on `port` of this machine, or on a free port when it is busy.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
        bound => bound,
    }
}

/// `port` when nobody listens on it, else a port that is free now.
fn free_port(port: u16) -> io::Result<u16> {
    let bound = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .or_else(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(bound.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_one_service_are_one_flag_with_their_versions() {
        let started: Vec<_> = INSTANCES
            .iter()
            .map(|instance| Started { instance, address: SocketAddr::from((Ipv4Addr::LOCALHOST, instance.port)) })
            .collect();
        assert_eq!(
            services(&started),
            [
                "user-service=127.0.0.1:9001;version=v1,127.0.0.1:9002;version=v1,127.0.0.1:9003;version=v2",
                "post-service=127.0.0.1:9004;version=v1,127.0.0.1:9005;version=v1",
            ]
        );
    }
}
