//! An instance that stays registered: renewed by a task, registered again when the registry has lost it, taken away at the
//! end.
//!
//! What the program said since (its health, that it drains) is said again after a loss. A registry that is away is tried
//! again, soon at first and at every renewal then.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::line::{Ask, Line, Registry, encoded};
use crate::{Error, Registration, Status};

/// Renewals within the time of a lease.
const RENEWALS: u32 = 3;
/// First pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Time for the last word of a registration that was dropped.
const FAREWELL: Duration = Duration::from_secs(3);

/// How a registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The registry has not taken it yet; why not, after the first try.
    Waiting(Option<Error>),
    /// The registry has it.
    Registered,
    /// The registry had it, and the last renewal failed: its lease may end.
    Unrenewed(Error),
}

/// A registration that is kept. Dropping it takes the instance away, as long as the runtime still runs;
/// [`Registered::close`] waits for that.
#[derive(Debug)]
#[must_use = "the instance leaves when this is dropped"]
pub struct Registered {
    id: String,
    standing: watch::Receiver<Standing>,
    words: mpsc::Sender<Word>,
}

type Reply = oneshot::Sender<Result<(), Error>>;

/// What the program has to say.
enum Word {
    Health(Status, Reply),
    Drain(Reply),
    Leave(Reply),
}

impl Registered {
    pub(crate) async fn now(registry: Arc<Registry>, registration: Registration) -> Result<Self, Error> {
        let mut keeper = Keeper::new(registry, registration);
        keeper.register().await?;
        keeper.standing.send_replace(Standing::Registered);
        let first = keeper.interval();
        Ok(Self::keep(keeper, first))
    }

    pub(crate) fn soon(registry: Arc<Registry>, registration: Registration) -> Self {
        Self::keep(Keeper::new(registry, registration), Duration::ZERO)
    }

    fn keep(keeper: Keeper, first: Duration) -> Self {
        let (words, heard) = mpsc::channel(8);
        let (id, standing) = (keeper.registration.id(), keeper.standing.subscribe());
        tokio::spawn(keeper.run(heard, first));
        Self { id, standing, words }
    }

    /// The id of the instance.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it stands now.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until the registry has it.
    ///
    /// # Errors
    /// The registry refuses it for good: another try would be refused, too.
    pub async fn wait(&mut self) -> Result<(), Error> {
        loop {
            match &*self.standing.borrow_and_update() {
                Standing::Registered | Standing::Unrenewed(_) => return Ok(()),
                Standing::Waiting(Some(error)) if !error.is_transient() => return Err(error.clone()),
                Standing::Waiting(_) => {}
            }
            self.standing.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// Says how the instance fares; not [`Status::Draining`] or [`Status::OutOfService`], which are others' words.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses; it is said again with the next registration.
    pub async fn report(&self, health: Status) -> Result<(), Error> {
        self.say(|reply| Word::Health(health, reply)).await
    }

    /// Says that the instance takes no new requests and finishes those it has.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses.
    pub async fn drain(&self) -> Result<(), Error> {
        self.say(Word::Drain).await
    }

    /// Takes the instance away and waits for that.
    ///
    /// # Errors
    /// The registry cannot be reached: the instance stays until its lease ends.
    pub async fn close(self) -> Result<(), Error> {
        self.say(Word::Leave).await
    }

    async fn say(&self, word: impl FnOnce(Reply) -> Word) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.words.send(word(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

struct Keeper {
    line: Line,
    namespace: String,
    registration: Registration,
    health: Status,
    draining: bool,
    standing: watch::Sender<Standing>,
    pause: Duration,
}

impl Keeper {
    fn new(registry: Arc<Registry>, registration: Registration) -> Self {
        Self {
            namespace: registry.namespace.clone(),
            line: Line::new(registry),
            registration,
            health: Status::Passing,
            draining: false,
            standing: watch::Sender::new(Standing::Waiting(None)),
            pause: FIRST_PAUSE,
        }
    }

    /// Time to the next renewal, a tenth more or less, so that those that started together do not stay together.
    fn interval(&self) -> Duration {
        (self.registration.ttl / RENEWALS).mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    fn target(&self, below: &str) -> String {
        let (service, id) = (encoded(&self.registration.service), encoded(&self.registration.id()));
        format!("/v1/services/{service}/instances/{id}{below}?namespace={}", encoded(&self.namespace))
    }

    async fn register(&mut self) -> Result<(), Error> {
        let ask = Ask::new(Method::PUT, self.target("")).with_body(self.registration.body(self.health));
        self.line.ask_again(&ask).await?;
        match self.draining {
            true => self.drain().await,
            false => Ok(()),
        }
    }

    async fn drain(&mut self) -> Result<(), Error> {
        let word = json!({ "status": "draining", "reason": "it said so" });
        self.line.ask_again(&Ask::new(Method::PUT, self.target("/status")).with_body(word)).await.map(|_| ())
    }

    async fn report(&mut self) -> Result<(), Error> {
        let word = json!({ "status": self.health.as_str() });
        self.line.ask_again(&Ask::new(Method::PUT, self.target("/health")).with_body(word)).await.map(|_| ())
    }

    /// It is no error that it is gone already.
    async fn leave(&mut self) -> Result<(), Error> {
        match self.line.ask_again(&Ask::new(Method::DELETE, self.target(""))).await {
            Ok(_) | Err(Error::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Renews, or registers when the registry does not have it. Returns the time to the next renewal.
    async fn renew(&mut self) -> Duration {
        let had = !matches!(*self.standing.borrow(), Standing::Waiting(_));
        let renewed = match had {
            true => self.line.ask_again(&Ask::new(Method::POST, self.target("/renew"))).await.map(|_| ()),
            false => self.register().await,
        };
        let result = match renewed {
            Err(Error::Refused { status: 404, .. }) if had => self.register().await,
            result => result,
        };
        let interval = self.interval();
        let (standing, next) = match result {
            Ok(()) => {
                self.pause = FIRST_PAUSE;
                (Standing::Registered, interval)
            }
            Err(error) => {
                let next = self.pause.mul_f64(0.5 + fastrand::f64()).min(interval);
                self.pause = self.pause.saturating_mul(2).min(interval);
                (if had { Standing::Unrenewed(error) } else { Standing::Waiting(Some(error)) }, next)
            }
        };
        self.standing.send_if_modified(|now| std::mem::replace(now, standing.clone()) != standing);
        next
    }

    async fn run(mut self, mut words: mpsc::Receiver<Word>, first: Duration) {
        let mut next = Instant::now() + first;
        loop {
            let word = tokio::select! {
                word = words.recv() => word,
                () = sleep_until(next) => {
                    let pause = self.renew().await;
                    next = Instant::now() + pause;
                    continue;
                }
            };
            // Whoever said it may not wait for what came of it.
            match word {
                Some(Word::Health(health, reply)) => {
                    self.health = health;
                    let _ = reply.send(self.report().await);
                }
                Some(Word::Drain(reply)) => {
                    self.draining = true;
                    let _ = reply.send(self.drain().await);
                }
                Some(Word::Leave(reply)) => {
                    let _ = reply.send(self.leave().await);
                    return;
                }
                None => {
                    // It was dropped: when this does not reach the registry, the lease ends.
                    let _ = timeout(FAREWELL, self.leave()).await;
                    return;
                }
            }
        }
    }
}
