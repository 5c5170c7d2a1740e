//! Answers that their callers look traces up in: held as long as the stream of their traces is, which its caller ends when it needs them no more, and
//! which its time ends in any case.

use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::model::TenantId;
use lgtm_core::random::{RandomSource, os_random};
use lgtm_core::{Error, Result};
use parking_lot::Mutex;

use crate::select::RecentTraces;

/// One of them.
#[derive(Debug)]
pub(super) struct HeldAnswer {
    tenant: TenantId,
    pub(super) traces: tokio::sync::Mutex<Box<dyn RecentTraces>>,
}

/// All of a process, by numbers that another process, or this one after a start, does not give.
pub(super) struct HeldAnswers {
    by_number: Mutex<HashMap<u64, Arc<HeldAnswer>>>,
    random: RandomSource,
}

impl std::fmt::Debug for HeldAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldAnswers").finish_non_exhaustive()
    }
}

/// Holds an answer.
#[derive(Debug)]
pub(super) struct AnswerHold {
    of: Arc<HeldAnswers>,
    number: u64,
    pub(super) answer: Arc<HeldAnswer>,
}

impl Drop for AnswerHold {
    fn drop(&mut self) {
        self.of.by_number.lock().remove(&self.number);
    }
}

impl HeldAnswers {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            by_number: Mutex::default(),
            random: os_random(),
        })
    }

    /// Holds an answer from here on.
    pub(super) fn hold(
        self: &Arc<Self>,
        tenant: TenantId,
        traces: Box<dyn RecentTraces>,
    ) -> AnswerHold {
        let answer = Arc::new(HeldAnswer {
            tenant,
            traces: tokio::sync::Mutex::new(traces),
        });
        let mut by_number = self.by_number.lock();
        let number = loop {
            let mut bytes = [0; 8];
            (self.random)(&mut bytes);
            let number = u64::from_le_bytes(bytes);
            if !by_number.contains_key(&number) {
                break number;
            }
        };
        by_number.insert(number, Arc::clone(&answer));
        AnswerHold {
            of: Arc::clone(self),
            number,
            answer,
        }
    }

    /// A tenant's answer by its number.
    ///
    /// # Errors
    /// `Unavailable` when there is no such answer any more.
    pub(super) fn get(&self, tenant: &TenantId, number: u64) -> Result<Arc<HeldAnswer>> {
        let found = self.by_number.lock().get(&number).cloned();
        let found = found.filter(|answer| answer.tenant == *tenant);
        found.ok_or_else(|| Error::Unavailable("the answer is held no more".into()))
    }

    /// Number of answers that are held.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.by_number.lock().len()
    }
}

impl AnswerHold {
    /// The number by which it is known.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}
