//! What a language tells the frontend about its requests, and who answers them.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::{DecodeError, Result};
use crate::frontend::steps::StepRange;
use crate::frontend::sweep::{SweepRange, SweepStep};
use crate::model::TenantId;
use crate::timestamp::TimestampMs;

/// How a language's requests are cut and its answers joined. All of it is pure.
pub trait Splitter: Debug + Send + Sync + 'static {
    /// A query with its times.
    type Request: Clone + Debug + Send + Sync + 'static;
    /// What it gives. Cloning should be cheap.
    type Answer: Clone + Debug + Send + Sync + 'static;

    /// First step, end and distance of steps of any request.
    fn times(&self, request: &Self::Request) -> StepRange;

    /// The steps that are asked for; `None` for what cannot be cut in time, which is then neither split nor cached.
    fn steps(&self, request: &Self::Request) -> Option<StepRange>;

    /// The same request with whatever depends on its steps as a whole written out, so that [`Splitter::with_steps`] changes nothing
    /// but the steps. PromQL: `@ start()` and `range()`.
    fn settled(&self, request: Self::Request) -> Self::Request {
        request
    }

    /// A settled request for other steps.
    fn with_steps(&self, request: &Self::Request, steps: StepRange) -> Self::Request;

    /// All that tells a settled request's answer at a step from others': the query in a normal form and what changes its meaning.
    /// Not the tenant, not the steps.
    fn key(&self, request: &Self::Request) -> String;

    /// Whether answers to a settled request are final once their steps are older than `fresh_ms`: no part of it looks at later
    /// times than its step.
    fn is_cacheable(&self, request: &Self::Request, fresh_ms: TimestampMs) -> bool;

    /// Whether an answer is complete, so that it may be kept.
    fn is_storable(&self, answer: &Self::Answer) -> bool;

    /// The steps of a range out of an answer.
    fn extract(&self, answer: &Self::Answer, steps: StepRange) -> Self::Answer;

    /// Joins the answers of ranges that follow each other; there is at least one.
    ///
    /// # Errors
    /// `LimitExceeded` when the whole is too large.
    fn merge(&self, parts: Vec<Self::Answer>) -> Result<Self::Answer>;

    /// Hears of the answer to a piece of a settled request, whoever gave it, when it is known.
    fn piece_answered(&self, request: &Self::Request, answer: &Self::Answer) {
        let _ = (request, answer);
    }

    /// The answer to a request with a range when there is nothing in it; `None`: it is asked.
    fn nothing(&self, request: &Self::Request) -> Option<Self::Answer> {
        let _ = request;
        None
    }

    /// An answer as bytes for the cache.
    fn encode(&self, answer: &Self::Answer) -> Vec<u8>;

    /// The answer again.
    ///
    /// # Errors
    /// For bytes that [`Splitter::encode`] does not make; they count as a miss.
    fn decode(&self, bytes: &[u8]) -> Result<Self::Answer, DecodeError>;

    /// Whether the answers to legs can be joined; if not the request is asked whole after all.
    fn can_join(&self, legs: &[Vec<Self::Answer>]) -> bool {
        let _ = legs;
        true
    }

    /// The range of a request whose answer is so many entries from one end of it; `None` for all others. It is asked piece by piece, and
    /// has no steps.
    fn sweep(&self, request: &Self::Request) -> Option<SweepRange> {
        let _ = request;
        None
    }

    /// Such a request for another range.
    fn with_sweep(&self, request: &Self::Request, range: SweepRange) -> Self::Request {
        let _ = range;
        request.clone()
    }

    /// What to ask of a part of the range when `found` are the answers to all parts before it, in the order of the search.
    fn sweep_part(
        &self,
        request: &Self::Request,
        part: SweepRange,
        found: &[Self::Answer],
    ) -> SweepStep<Self::Request> {
        let _ = found;
        SweepStep::Ask(self.with_sweep(request, part))
    }

    /// Whether parts may be asked before the answers to those ahead of them are known.
    fn reads_ahead(&self, request: &Self::Request) -> bool {
        let _ = request;
        false
    }

    /// The answer to a request that wants less of the same part, out of the answer to one that wanted more; `None` if it does not tell.
    fn narrowed(&self, answer: Self::Answer, request: &Self::Request) -> Option<Self::Answer> {
        let _ = (answer, request);
        None
    }

    /// Whether an answer says that its range has no entry at all.
    fn is_nothing(&self, answer: &Self::Answer) -> bool {
        let _ = answer;
        false
    }

    /// The request as `shards` requests over disjoint series each, if that makes sense. With less than 2 shards it may still be cut in
    /// another way, as by time.
    fn shard(&self, request: &Self::Request, shards: u32) -> Option<ShardPlan<Self::Request>>;
}

/// A request cut by series.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardPlan<R> {
    /// What is asked of the answers of the legs.
    pub outer: R,
    /// For each part of the request that is cut: one request per shard, or a single one for a part that could not be cut.
    pub legs: Vec<Vec<R>>,
}

/// Who answers requests: in one process the querier itself, else a client of queriers.
#[async_trait]
pub trait Downstream<S: Splitter>: Debug + Send + Sync + 'static {
    /// Answers a request. Dropping the future stops it.
    ///
    /// # Errors
    /// `Unavailable` is asked again.
    async fn run(&self, tenant: &TenantId, request: &S::Request) -> Result<S::Answer>;

    /// Evaluates the outer part of a plan over the answers to its legs, which stand in the plan's order.
    ///
    /// # Errors
    /// As [`Downstream::run`].
    async fn join(
        &self,
        tenant: &TenantId,
        plan: &ShardPlan<S::Request>,
        legs: Vec<Vec<S::Answer>>,
    ) -> Result<S::Answer>;
}
