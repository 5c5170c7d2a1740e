//! One load for many who want the same.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::error::{ErrorKind, Result};

/// Loads under way, by key.
///
/// Who comes first leads and loads; the others wait for its outcome. If the leader is dropped, or its own caller cancels it, the next in
/// line loads with its own function: nobody depends on a stranger's patience.
#[derive(Debug)]
pub struct SingleFlight<V>(Mutex<HashMap<String, Weak<Flight<V>>>>);

/// Held locked by the leader; open and filled once it has landed.
type Flight<V> = tokio::sync::Mutex<Option<Result<V>>>;

impl<V> Default for SingleFlight<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone + Send + Sync> SingleFlight<V> {
    /// No loads under way.
    pub fn new() -> Self {
        Self::default()
    }

    /// The outcome of `load`, or of the same load by somebody else that is under way. Cancel-safe.
    ///
    /// # Errors
    /// Those of the load that was waited for, except `Cancelled`, which only the cancelled caller gets.
    pub async fn run<F>(&self, key: &str, load: impl FnOnce() -> F + Send) -> Result<V>
    where
        F: Future<Output = Result<V>> + Send,
    {
        let seat = self.board(key);
        let mut landed = seat.flight.lock().await;
        if let Some(outcome) = &*landed {
            return outcome.clone();
        }
        let outcome = load().await;
        if !matches!(&outcome, Err(e) if e.kind() == ErrorKind::Cancelled) {
            *landed = Some(outcome.clone());
            // Whoever comes now starts afresh; those on board read the outcome.
            self.forget(key, &seat.flight);
        }
        outcome
    }

    /// Loads under way.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether no load is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn board<'a>(&'a self, key: &'a str) -> Seat<'a, V> {
        let mut flights = self.0.lock();
        let flight = match flights.get(key).and_then(Weak::upgrade) {
            Some(flight) => flight,
            None => {
                let flight = Arc::new(Flight::new(None));
                flights.insert(key.to_owned(), Arc::downgrade(&flight));
                flight
            }
        };
        Seat {
            flights: &self.0,
            key,
            flight,
        }
    }

    fn forget(&self, key: &str, flight: &Arc<Flight<V>>) {
        let mut flights = self.0.lock();
        if is_same(flights.get(key), flight) {
            flights.remove(key);
        }
    }
}

fn is_same<V>(listed: Option<&Weak<Flight<V>>>, flight: &Arc<Flight<V>>) -> bool {
    listed.is_some_and(|listed| std::ptr::eq(listed.as_ptr(), Arc::as_ptr(flight)))
}

/// One caller's hold on a flight. The last to leave takes the flight off the list.
struct Seat<'a, V> {
    flights: &'a Mutex<HashMap<String, Weak<Flight<V>>>>,
    key: &'a str,
    flight: Arc<Flight<V>>,
}

impl<V> Drop for Seat<'_, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // Boarding needs the same lock, so the count cannot grow from one meanwhile.
        if Arc::strong_count(&self.flight) == 1 && is_same(flights.get(self.key), &self.flight) {
            flights.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use tokio::sync::Notify;

    use super::*;
    use crate::error::Error;

    async fn poke<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
    }

    #[tokio::test]
    async fn many_wait_for_one_load() {
        let (flights, loads, go) = (SingleFlight::new(), AtomicUsize::new(0), Notify::new());
        let one = || async {
            loads.fetch_add(1, Ordering::SeqCst);
            go.notified().await;
            Ok(7)
        };
        let all = futures::future::join_all((0..10).map(|_| flights.run("k", one)));
        let other = flights.run("other", || async { Ok(8) });
        let (all, other, ()) = tokio::join!(all, other, async { go.notify_one() });
        assert!(all.into_iter().all(|r| r.unwrap() == 7));
        assert_eq!((other.unwrap(), loads.load(Ordering::SeqCst)), (8, 1));
        assert!(flights.is_empty());
        assert_eq!(
            flights.run("k", || async { Ok(9) }).await.unwrap(),
            9,
            "afresh"
        );
    }

    #[tokio::test]
    async fn when_the_leader_is_dropped_another_takes_over() {
        let flights = SingleFlight::new();
        let mut leader = Box::pin(flights.run("k", std::future::pending::<Result<u8>>));
        assert!(poke(&mut leader).await.is_pending());
        let mut follower = Box::pin(flights.run("k", || async { Ok(2) }));
        assert!(poke(&mut follower).await.is_pending());
        assert_eq!(flights.len(), 1);
        drop(leader);
        assert_eq!(follower.await.unwrap(), 2);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn nobody_left_leaves_nothing() {
        let flights = SingleFlight::new();
        let mut only = Box::pin(flights.run("k", std::future::pending::<Result<u8>>));
        assert!(poke(&mut only).await.is_pending());
        drop(only);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn errors_are_shared_but_a_cancelled_leader_is_replaced() {
        let flights = SingleFlight::<u8>::new();
        let failing = || async {
            tokio::task::yield_now().await;
            Err(Error::Unavailable("store is down".into()))
        };
        let fine = || async { Ok(1) };
        let (a, b) = tokio::join!(flights.run("k", failing), flights.run("k", fine));
        assert!(a.is_err() && b.is_err());
        let cancelled = || async {
            tokio::task::yield_now().await;
            Err(Error::Cancelled("query".into()))
        };
        let (a, b) = tokio::join!(flights.run("k", cancelled), flights.run("k", fine));
        assert_eq!(a.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(b.unwrap(), 1);
    }
}
