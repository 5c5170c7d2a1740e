//! How components reach each other. In one process a component implements these traits itself; over a network a client does. What
//! goes through them is plain data.
//!
//! ```text
//! PushApi -> Distributor -> IngesterClient
//! QueryApi -> Queries (QueryFrontend -> Querier) -> IngesterClient, StoreGatewayClient
//! ```

use std::fmt::Debug;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::{Labels, Listed, Matcher, TenantId, TimeRangeNs, TimestampNs};

use crate::limits::{PushPart, PushReport};
use crate::logql::{Answer, AnswerStream, Query, QueryError};
use crate::select::{Select, SelectRequest, StreamVolume};

/// What is known of a tenant's streams beside their entries.
#[async_trait]
pub trait Inspect: Debug + Send + Sync + 'static {
    /// How much the streams that match have in the range, in the order of their labels.
    ///
    /// # Errors
    /// `LimitExceeded` past the bounds of the request, `Unavailable`.
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>>;
}

/// Which patterns are wanted.
#[derive(Debug, Clone)]
pub struct PatternsRequest {
    /// Which streams; all must pass.
    pub matchers: Vec<Matcher>,
    /// Times of the lines.
    pub range: TimeRangeNs,
    /// Distance of two counts, nanoseconds, more than 0. Counts stand at its multiples.
    pub step_ns: i64,
    /// Whether those of each stream are wanted apart: whoever asks replicas takes those of one of them for each stream.
    pub by_stream: bool,
}

/// A template of lines, and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternCounts {
    /// The words that all lines share, `<_>` where they differ.
    pub pattern: String,
    /// Level of the lines.
    pub level: String,
    /// Time, nanoseconds, and lines of the step that begins there; ascending, without zeros.
    pub counts: Vec<(TimestampNs, u64)>,
    /// The hash of the stream that it is of, where they were wanted apart.
    pub stream: Option<u64>,
}

/// What recent lines have in common.
#[async_trait]
pub trait Patterns: Debug + Send + Sync + 'static {
    /// The patterns of the lines that match, the most frequent first.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn patterns(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>>;
}

/// What somebody who follows a query gets at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TailFrame {
    /// Entries that passed, in the order in which they are to be shown.
    pub streams: Vec<AnswerStream>,
    /// Time and labels of entries that were left out since the last frame, because they were not fetched fast enough: the first ones.
    pub dropped: Vec<(TimestampNs, Labels)>,
}

/// Entries as they come in.
#[async_trait]
pub trait TailFeed: Debug + Send {
    /// The next entries; waits until there are some. `None` when no more come. Cancel-safe.
    ///
    /// # Errors
    /// `Unavailable` when the holder went away.
    async fn next_frame(&mut self) -> Result<Option<TailFrame>>;
}

/// What is followed.
#[derive(Debug, Clone)]
pub struct TailRequest {
    /// A log query.
    pub query: String,
    /// Entries from here on.
    pub start_ns: TimestampNs,
    /// Entries of the past that are wanted at most.
    pub limit: usize,
    /// How long entries wait, so that late ones can be shown in order, nanoseconds.
    pub delay_ns: i64,
}

/// Follows queries.
#[async_trait]
pub trait Tail: Debug + Send + Sync + 'static {
    /// Entries that pass a query, from now on as they come in.
    ///
    /// # Errors
    /// `Parse`, `Invalid` for a query that gives no entries, `Limit` when the tenant follows too many.
    async fn tail(
        &self,
        tenant: &TenantId,
        request: &TailRequest,
    ) -> Result<Box<dyn TailFeed>, QueryError>;
}

/// Takes entries and answers for recent ones.
#[async_trait]
pub trait IngesterClient: Select + Inspect + Patterns + Tail {
    /// Stores what the rules allow of a part of a push. When it returns, that is as durable as the log's sync policy says.
    ///
    /// A push that failed may have been stored in part; pushing it again is harmless, as known entries count once.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<PushReport>;
}

/// Tells which holders of recent data have gone for good.
pub trait Departures: Debug + Send + Sync + 'static {
    /// The latest of them, a few dozen at most, each by a name that no other one ever bears.
    fn departed(&self) -> Vec<String>;
}

/// Answers for what stands in object storage.
pub trait StoreGatewayClient: Select + Inspect {}

/// All that a door may ask for: queries, streams and their labels, how much there is, patterns, and what comes in. What the tenant may fetch is
/// bounded whoever asks; how far back and how long a query may be is the query-frontend's to check.
#[async_trait]
pub trait Queries: Select + Inspect + Patterns + Tail {
    /// Answers a query.
    ///
    /// # Errors
    /// Those of [`QueryError`].
    async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError>;
}
