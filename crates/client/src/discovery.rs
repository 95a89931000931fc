//! What is known of a service: a list that a task keeps as it is in the registry, by long polls.
//!
//! The cursor is the registry's revision. After any break it is forgotten, since the registry may have begun anew, and
//! everything is read again. While nobody answers, the last list stays.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use tokio::sync::watch;

use crate::line::{Answer, Ask, Line, Registry, encoded};
use crate::{Error, Instance};

/// Time that one long poll waits for a change.
const WAIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which instances of a service are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    service: String,
    parts: Vec<(&'static str, String)>,
    unhealthy: bool,
}

impl Query {
    /// All healthy instances of `service`.
    pub fn new(service: &str) -> Self {
        Self { service: service.to_owned(), parts: Vec::new(), unhealthy: false }
    }

    /// Only those of a version.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        self.with("label", format!("version={version}"))
    }

    /// Only those with a label.
    #[must_use]
    pub fn with_metadata(self, key: &str, value: &str) -> Self {
        self.with("label", format!("{key}={value}"))
    }

    /// Only those with a tag.
    #[must_use]
    pub fn with_tag(self, tag: &str) -> Self {
        self.with("tag", tag.to_owned())
    }

    /// Those that are not healthy, too.
    #[must_use]
    pub fn with_unhealthy(self) -> Self {
        Self { unhealthy: true, ..self }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.parts.push((name, value));
        self
    }

    pub(crate) fn target(&self, namespace: &str) -> String {
        let mut target = format!("/v1/services/{}/instances?namespace={}", encoded(&self.service), encoded(namespace));
        for name in ["label", "tag"] {
            let values: Vec<String> =
                self.parts.iter().filter(|(own, _)| *own == name).map(|(_, value)| encoded(value)).collect();
            if !values.is_empty() {
                target.push_str(&format!("&{name}={}", values.join(",")));
            }
        }
        if !self.unhealthy {
            target.push_str("&healthy=true");
        }
        target
    }
}

impl From<&str> for Query {
    fn from(service: &str) -> Self {
        Self::new(service)
    }
}

/// The instances of a service as they are, or as they were when the registry was last heard of. Cheap to clone; the task that
/// follows the registry ends with the last clone.
#[derive(Clone, Debug)]
pub struct Discovery {
    known: watch::Receiver<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    instances: Arc<[Instance]>,
    trouble: Option<Error>,
}

#[derive(Deserialize)]
struct List {
    instances: Vec<Instance>,
}

pub(crate) fn instances(answer: &Answer) -> Result<Vec<Instance>, Error> {
    answer.json::<List>().map(|list| list.instances)
}

impl Discovery {
    pub(crate) async fn start(registry: Arc<Registry>, query: Query) -> Result<Self, Error> {
        let target = query.target(&registry.namespace);
        let mut follower = Follower { line: Line::new(registry), target, revision: None, tag: None };
        let instances = follower.next().await?.unwrap_or_default();
        let (sender, known) = watch::channel(Known { instances: instances.into(), trouble: None });
        tokio::spawn(follower.run(sender));
        Ok(Self { known })
    }

    /// The instances, ordered by id. Costs a read lock and a reference count.
    pub fn instances(&self) -> Arc<[Instance]> {
        Arc::clone(&self.known.borrow().instances)
    }

    /// Why the registry cannot be followed at present, when it cannot: the instances may be out of date.
    pub fn trouble(&self) -> Option<Error> {
        self.known.borrow().trouble.clone()
    }

    /// Waits until something changed since the last call: the instances, or whether the registry answers.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            // The task ends after the last clone only, unless its runtime is ending.
            std::future::pending::<()>().await;
        }
    }
}

struct Follower {
    line: Line,
    target: String,
    revision: Option<u64>,
    tag: Option<String>,
}

impl Follower {
    /// The instances once they changed, or nothing when a poll ended without a change.
    async fn next(&mut self) -> Result<Option<Vec<Instance>>, Error> {
        let mut ask = Ask::new(Method::GET, self.target.clone());
        if let Some(revision) = self.revision {
            ask.target.push_str(&format!("&revision={revision}&wait={}s", WAIT.as_secs()));
            ask.wait = WAIT;
            ask.known = self.tag.clone();
        }
        let answer = self.line.ask(&ask).await?;
        self.revision = answer.revision;
        self.tag = answer.tag.clone();
        match answer.is_unchanged {
            true => Ok(None),
            false => instances(&answer).map(Some),
        }
    }

    async fn run(mut self, sender: watch::Sender<Known>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                () = sender.closed() => return,
            };
            let Err(error) = next else {
                pause = FIRST_PAUSE;
                publish(&sender, next.ok().flatten(), None);
                continue;
            };
            // The first question after a break that asks for all may be answered at once: nothing is wrong before that.
            let was_following = self.revision.take().is_some();
            self.tag = None;
            if was_following {
                continue;
            }
            publish(&sender, None, Some(error));
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())) => {}
                () = sender.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn publish(sender: &watch::Sender<Known>, instances: Option<Vec<Instance>>, trouble: Option<Error>) {
    sender.send_if_modified(|known| {
        let news = instances.filter(|instances| **instances != *known.instances);
        let changed = news.is_some() || known.trouble.is_some() != trouble.is_some();
        if let Some(instances) = news {
            known.instances = instances.into();
        }
        known.trouble = trouble;
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_it_wants_in_the_registrys_words() {
        let all = "/v1/services/users/instances?namespace=default";
        assert_eq!(Query::new("users").target("default"), format!("{all}&healthy=true"));
        let picky = Query::new("users").with_version("v2").with_tag("a,b").with_metadata("zone", "a").with_unhealthy();
        assert_eq!(picky.target("default"), format!("{all}&label=version%3Dv2,zone%3Da&tag=a%2Cb"));
    }
}
