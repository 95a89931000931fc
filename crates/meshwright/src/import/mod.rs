//! `meshwright import`: what is registered in an Eureka or Consul is registered here, too, for as long as it is there.
//!
//! Each round reads the source and our registry, plans (`mirror.rs`), and writes what differs on condition that it did not
//! change meanwhile. Nothing is remembered between rounds but what was said already: what we imported has a mark in its
//! metadata, so that a restart goes on where it was. Read next: `mirror.rs`, `source.rs`.

mod consul;
mod eureka;
mod mirror;
mod source;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use meshwright_message::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{EXIT_OK, ImportArgs};
use crate::services::{ask, path};
use mirror::{Plan, Present};
use source::Source;

/// Bytes and operations of one batch; both are below what the registry takes.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_OPERATIONS: usize = 500;

/// Runs `meshwright import`.
///
/// # Errors
/// With `--once`: either registry cannot be reached, or refuses. Otherwise that is said, and tried again.
pub fn run(args: &ImportArgs) -> Result<ExitCode> {
    let token = match &args.source_token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut import = Import::new(args, token);
        match args.once {
            true => {
                let round = import.round().await?;
                writeln!(io::stdout(), "imported {} instances from {}", round.kept, import.source)?;
            }
            false => import.follow().await?,
        }
        Ok(ExitCode::from(EXIT_OK))
    })
}

struct Import<'a> {
    args: &'a ImportArgs,
    source: Source,
    /// Services that have something of ours; unknown before the first round.
    held: Option<BTreeSet<String>>,
    /// Sentences that were said and are still true.
    said: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Services {
    services: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Instances {
    instances: Vec<Present>,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    detail: String,
}

impl<'a> Import<'a> {
    fn new(args: &'a ImportArgs, token: Option<String>) -> Self {
        let source = Source::new(args.kind, args.url.clone(), token);
        Self { args, source, held: None, said: BTreeSet::new() }
    }

    async fn follow(&mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            let work = async {
                match self.round().await {
                    Ok(round) if round.changes() => {
                        let (added, removed) = (round.added, round.removed);
                        let source = &self.source;
                        say(&format!("{source}: {} instances, {added} new, {removed} gone", round.kept));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let grace = self.args.grace;
                        self.warn([format!("{error:#}; what was imported stays for {grace:?}, and it is tried again")]);
                    }
                }
                tokio::time::sleep(self.args.interval).await;
            };
            tokio::select! {
                () = work => {}
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        say(&format!("what was imported stays for {:?}, or for as long as it renews here", self.args.grace));
        Ok(())
    }

    /// Says each of these unless it was said the last time, too.
    fn warn(&mut self, sentences: impl IntoIterator<Item = String>) {
        let now: BTreeSet<String> = sentences.into_iter().collect();
        for sentence in now.difference(&self.said) {
            say(&format!("warning: {sentence}"));
        }
        self.said = now;
    }

    /// Reads both sides and makes ours like the other.
    async fn round(&mut self) -> Result<Plan> {
        let found = self.source.read().await.with_context(|| format!("cannot import from {}", self.source))?;
        let mut services: BTreeSet<String> = match &self.held {
            Some(held) => held.clone(),
            None => self.services().await?,
        };
        services.extend(found.iter().map(|one| one.service.clone()));
        let mut present = HashMap::new();
        for service in services {
            let target = path(&self.args.registry, &service, "");
            let text = ask(&self.args.registry, (Method::Get, &target, "")).await?;
            let list = text.map(|text| serde_json::from_str::<Instances>(&text)).transpose();
            let list = list.context("the answer is not what a registry gives")?;
            present.insert(service, list.map_or_else(Vec::new, |list| list.instances));
        }
        let mark = self.source.to_string();
        let mut plan = mirror::plan(&mark, found, &present, (&self.args.registry.namespace, self.args.grace));
        let mut problems = std::mem::take(&mut plan.conflicts);
        self.carry_out(&plan, &mut problems).await?;
        self.held = Some(plan.services.clone());
        self.warn(problems);
        Ok(plan)
    }

    async fn services(&self) -> Result<BTreeSet<String>> {
        let target = format!("/v1/services?namespace={}", crate::remote::encoded(&self.args.registry.namespace));
        let Some(text) = ask(&self.args.registry, (Method::Get, &target, "")).await? else {
            bail!("the process at http://{} has no registry", self.args.registry.admin.0);
        };
        let Services { services } = serde_json::from_str(&text).context("the answer is not what a registry gives")?;
        Ok(services.into_iter().map(|service| service.name).collect())
    }

    /// Sends the operations of a plan, in batches. What is refused is a problem of one instance and not of the others.
    async fn carry_out(&self, plan: &Plan, problems: &mut Vec<String>) -> Result<()> {
        for batch in batches(&plan.operations) {
            let body = json!({ "operations": batch.iter().map(|one| &one.body).collect::<Vec<_>>() }).to_string();
            let Some(text) = ask(&self.args.registry, (Method::Post, "/v1/batch", &body)).await? else {
                bail!("the process at http://{} has no registry", self.args.registry.admin.0);
            };
            let Results { results } = serde_json::from_str(&text).context("the answer is not what a registry gives")?;
            for (operation, outcome) in batch.iter().zip(results) {
                // 404 and 409: it changed since it was read, and the next round sees how.
                if !matches!(outcome.status, 200..=299 | 404 | 409) {
                    problems.push(format!("{} cannot be imported: {}", operation.name, outcome.detail));
                }
            }
        }
        Ok(())
    }
}

fn batches(operations: &[mirror::Operation]) -> Vec<&[mirror::Operation]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, operation) in operations.iter().enumerate() {
        let size = operation.body.to_string().len();
        if index > start && (bytes + size > BATCH_BYTES || index - start == BATCH_OPERATIONS) {
            batches.push(&operations[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < operations.len() {
        batches.push(&operations[start..]);
    }
    batches
}

fn say(sentence: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "{sentence}");
}

/// A text, or a number written as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_small_enough_and_leave_nothing_out() {
        let operation = |size: usize| mirror::Operation { name: String::new(), body: json!("x".repeat(size)) };
        let operations: Vec<_> =
            (0..1200).map(|_| operation(10)).chain([operation(400 << 10), operation(400 << 10)]).collect();
        let sizes: Vec<usize> = batches(&operations).iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes, [500, 500, 201, 1]);
        assert!(batches(&[]).is_empty());
    }
}
