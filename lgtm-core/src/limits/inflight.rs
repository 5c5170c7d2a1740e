//! How many requests, and how many bytes of them, may be in the process at a time: a bound of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// One bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InflightBound {
    /// The bound; 0: none.
    pub max: u64,
    /// What a refusal ends with: the setting's name, and whatever senders look for.
    pub hint: &'static str,
}

/// Counts what is under way.
#[derive(Debug)]
pub struct Inflight {
    requests: AtomicU64,
    bytes: AtomicU64,
    max_requests: InflightBound,
    max_bytes: InflightBound,
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    of: Arc<Inflight>,
    bytes: u64,
    is_entered: bool,
}

impl Inflight {
    /// Nothing under way.
    pub fn new(max_requests: InflightBound, max_bytes: InflightBound) -> Self {
        Self {
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            max_requests,
            max_bytes,
        }
    }

    /// Requests under way that have come in whole.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes under way: what has come of requests, and what they became.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A ticket that holds nothing yet.
    pub fn ticket(self: &Arc<Self>) -> Ticket {
        Ticket {
            of: Arc::clone(self),
            bytes: 0,
            is_entered: false,
        }
    }
}

impl Ticket {
    /// Counts `bytes` more to this request. Call it before the memory is taken.
    ///
    /// # Errors
    /// `Unavailable` beyond the bound; they stay counted until the ticket is dropped, which is to be soon.
    pub fn add(&mut self, bytes: u64) -> Result<()> {
        let now = self.of.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes += bytes;
        let InflightBound { max, hint } = self.of.max_bytes;
        if max > 0 && now > max {
            return Err(Error::Unavailable(format!(
                "the request has been rejected because {now} bytes would be in flight, the limit is {max} {hint}"
            )));
        }
        Ok(())
    }

    /// Counts the request itself, once.
    ///
    /// # Errors
    /// `Unavailable` beyond the bound.
    pub fn enter(&mut self) -> Result<()> {
        if self.is_entered {
            return Ok(());
        }
        self.is_entered = true;
        let now = self.of.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let InflightBound { max, hint } = self.of.max_requests;
        if max > 0 && now > max {
            return Err(Error::Unavailable(format!(
                "the request has been rejected because {max} others are in flight, which is the limit {hint}"
            )));
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.is_entered {
            self.of.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_counts_for_as_long_as_it_lives() {
        let bound = |max, hint| InflightBound { max, hint };
        let inflight = Arc::new(Inflight::new(bound(2, "(r)"), bound(100, "(b)")));
        let entered = || {
            let mut ticket = inflight.ticket();
            ticket.enter().map(|()| ticket)
        };
        let mut a = entered().unwrap();
        a.add(60).unwrap();
        let mut b = entered().unwrap();
        let error = b.add(41).unwrap_err().to_string();
        assert!(error.contains("101") && error.ends_with("(b)"), "{error}");
        drop(b);
        assert_eq!((inflight.requests(), inflight.bytes()), (1, 60));
        let mut b = entered().unwrap();
        b.enter().unwrap();
        assert!(entered().unwrap_err().to_string().ends_with("(r)"));
        drop((a, b));
        assert_eq!((inflight.requests(), inflight.bytes()), (0, 0));
    }
}
