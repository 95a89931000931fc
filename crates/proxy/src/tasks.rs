//! Tasks that belong to somebody: the connections of a listener, the streams of a connection.
//!
//! As `tokio::task::JoinSet`, without its price: nobody is woken when one of many tasks ends, and nothing of a task is left
//! behind to be collected. It knows nothing of what the tasks do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use tokio::task::AbortHandle;

/// Places whose memory is kept while there is no task.
const KEPT: usize = 16;

/// Tasks that are ended when this is dropped.
#[derive(Default)]
pub(crate) struct Tasks {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    running: Cell<usize>,
    /// How to end each task, at its place.
    handles: RefCell<Vec<Option<AbortHandle>>>,
    free: RefCell<Vec<usize>>,
    /// Whoever waits for the last task to end.
    waiting: Cell<Option<Waker>>,
}

/// A task's place among the others, for as long as the task is there.
struct Place {
    shared: Rc<Shared>,
    index: usize,
}

impl Tasks {
    /// Begins a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let shared = &self.shared;
        let index = shared.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut handles = shared.handles.borrow_mut();
            handles.push(None);
            handles.len() - 1
        });
        shared.running.set(shared.running.get() + 1);
        let place = Place { shared: shared.clone(), index };
        // Boxed, because the runtime moves a task several times on its way in and out. It does not run before the present task
        // yields.
        let handle = tokio::task::spawn_local(Box::pin(task).map(move |()| drop(place)));
        shared.handles.borrow_mut()[index] = Some(handle.abort_handle());
    }

    /// Tasks that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.shared.running.get()
    }

    /// Whether all have ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ready when all have ended; for one who waits.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_empty() {
            return Poll::Ready(());
        }
        let waiting = self.shared.waiting.take().filter(|waker| waker.will_wake(cx.waker()));
        self.shared.waiting.set(Some(waiting.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    /// Waits until all have ended.
    pub(crate) async fn ended(&self) {
        std::future::poll_fn(|cx| self.poll_ended(cx)).await;
    }

    /// Ends all of them and waits until they are gone.
    pub(crate) async fn shutdown(&self) {
        self.abort();
        self.ended().await;
    }

    fn abort(&self) {
        self.shared.handles.borrow().iter().flatten().for_each(AbortHandle::abort);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.handles.borrow_mut()[self.index] = None;
        shared.free.borrow_mut().push(self.index);
        shared.running.set(shared.running.get() - 1);
        if shared.running.get() == 0 {
            // What a burst left behind goes away with the last of it.
            let (mut handles, mut free) = (shared.handles.borrow_mut(), shared.free.borrow_mut());
            handles.clear();
            handles.shrink_to(KEPT);
            free.clear();
            free.shrink_to(KEPT);
            if let Some(waker) = shared.waiting.take() {
                waker.wake();
            }
        }
        if std::thread::panicking() {
            tracing::error!("a connection ended by a defect of the proxy; others are not affected");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    #[test]
    fn whoever_waits_is_woken_by_the_last_task_and_ended_tasks_leave_their_places() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let tasks = Tasks::default();
            let done = Rc::new(Cell::new(0));
            for _ in 0..3 {
                let done = done.clone();
                tasks.spawn(async move {
                    tokio::task::yield_now().await;
                    done.set(done.get() + 1);
                });
            }
            assert_eq!(tasks.len(), 3);
            tasks.ended().await;
            assert_eq!((done.get(), tasks.len()), (3, 0));
            tasks.ended().await;
        });
    }

    #[test]
    fn what_goes_on_for_ever_is_ended_and_dropped() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let held = Rc::new(());
            let forever = |held: Rc<()>| async move {
                std::future::pending::<()>().await;
                drop(held);
            };
            let tasks = Tasks::default();
            tasks.spawn(forever(held.clone()));
            tasks.spawn(async {});
            tokio::task::yield_now().await;
            assert_eq!(tasks.len(), 1, "one has ended, and its place is free");
            tasks.spawn(forever(held.clone()));
            tasks.shutdown().await;
            assert_eq!(Rc::strong_count(&held), 1);
            tasks.spawn(forever(held.clone()));
            drop(tasks);
            tokio::task::yield_now().await;
            assert_eq!(Rc::strong_count(&held), 1, "dropped with their owner");
        });
    }
}
