//! How much one query may fetch.

use lgtm_core::Result;
use parking_lot::Mutex;

use super::end::FetchStats;
use super::request::FetchBounds;

/// How much one query may fetch, counted over all its selects where the answers of their holders are joined: a series that stands in
/// twelve blocks counts once.
#[derive(Debug, Default)]
pub struct QueryBudget {
    bounds: FetchBounds,
    fetched: Mutex<FetchStats>,
}

impl QueryBudget {
    /// A budget with these bounds.
    pub fn new(bounds: FetchBounds) -> Self {
        Self {
            bounds,
            fetched: Mutex::default(),
        }
    }

    /// The bounds of the query: no holder needs to bring more.
    pub fn bounds(&self) -> FetchBounds {
        self.bounds
    }

    /// What has been fetched so far.
    pub fn fetched(&self) -> FetchStats {
        *self.fetched.lock()
    }

    /// Counts fetched data.
    ///
    /// # Errors
    /// `LimitExceeded` naming the setting and the bound.
    pub fn spend(&self, more: FetchStats) -> Result<()> {
        let all = {
            let mut fetched = self.fetched.lock();
            *fetched = fetched.plus(more);
            *fetched
        };
        self.bounds.check(&all)
    }
}
