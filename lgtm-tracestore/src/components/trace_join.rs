//! What several holders have of one trace, made one: copies of spans are left out before it is said that the trace is too large.

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::{CancelToken, Executor, check_wanted};
use lgtm_core::{Error, Result};

use super::requests::{FoundTrace, TraceRequest};
use crate::trace::{Trace, TraceId};

/// Bytes that a trace takes decoded for each of its protobuf.
const DECODED_FACTOR: usize = 32;

/// What several holders have of a trace. Memory holds twice the bytes that were asked for, and what one holder has.
#[derive(Debug)]
pub(super) struct TraceJoin {
    executor: Executor,
    id: TraceId,
    max_bytes: usize,
    found: FoundTrace,
}

impl TraceJoin {
    /// Nothing yet. Copies are found on `executor`.
    pub(super) fn new(executor: Executor, request: &TraceRequest) -> Self {
        Self {
            executor,
            id: request.id,
            max_bytes: request.max_bytes,
            found: FoundTrace::default(),
        }
    }

    /// Whether there is so much of it that no more is added.
    pub(super) fn is_full(&self) -> bool {
        self.found.bytes.len() > self.max_bytes
    }

    /// Adds what another holder has.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no trace.
    pub(super) async fn add(&mut self, other: FoundTrace) -> Result<()> {
        let FoundTrace { bytes, is_cut, end } = other;
        self.found.end.merge(end);
        self.found.is_cut |= is_cut;
        // Replicas mostly have the same bytes.
        if bytes.is_empty() || bytes == self.found.bytes {
            return Ok(());
        }
        if self.is_full() {
            self.found.is_cut = true;
            return Ok(());
        }
        if self.found.bytes.is_empty() {
            self.found.bytes = bytes;
        } else {
            self.found.bytes.extend_from_slice(&bytes);
        }
        if self.is_full() {
            self.leave_out_copies().await?;
        }
        Ok(())
    }

    async fn leave_out_copies(&mut self) -> Result<()> {
        let (id, bytes) = (self.id, std::mem::take(&mut self.found.bytes));
        let job = move |_: &CancelToken| without_copies(id, &bytes);
        self.found.bytes = self.executor.run(job, &CancelToken::new()).await?;
        self.found.is_cut |= self.is_full();
        Ok(())
    }

    /// All of it; copies of spans may still be in it.
    pub(super) fn finish(self) -> FoundTrace {
        self.found
    }

    /// All of it, each span once.
    ///
    /// # Errors
    /// As [`TraceJoin::add`].
    pub(super) async fn finish_without_copies(mut self) -> Result<FoundTrace> {
        self.leave_out_copies().await?;
        Ok(self.found)
    }
}

/// A trace with each span once.
fn without_copies(id: TraceId, bytes: &[u8]) -> Result<Vec<u8>> {
    let max = bytes.len().saturating_mul(DECODED_FACTOR).max(1 << 20);
    let mut grow = |_| check_wanted("the joining of a trace");
    let trace = Trace::decode(bytes, &mut Allowance::new(max, &mut grow));
    let trace = trace.map_err(|e| match e {
        DecodeFail::Broken(e) => Error::corrupt(format!("trace {id}"), e),
        DecodeFail::Refused(e) => e,
    })?;
    let mut trace = trace.without_copies();
    trace.rebatch();
    let mut out = Vec::with_capacity(bytes.len());
    trace.encode(&mut out);
    Ok(out)
}
