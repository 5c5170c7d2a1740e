//! Asks everybody who may hold data and joins the answers.

use std::collections::HashSet;
use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::exec::Executor;
use lgtm_core::model::TenantId;

use crate::select::{
    Places, Select, SelectEnd, SpanBatch, SpanBatches, SpanRequest, TraceRange, TraceSpot,
    WantedColumns, WantedRows, batch_of_traces, without_copies_of,
};
use crate::trace::TraceId;

/// Bytes of protobuf of whole traces that become one batch, about.
const BATCH_BYTES: usize = 1 << 20;

/// Holders of spans, taken as one: those of recent data, and those of what has left these.
///
/// Order matters: recent data are asked first. What is flushed after that stays readable for this answer, and what was flushed before
/// is on the list of those who are asked next. So every span is in the answer, whatever moves meanwhile.
#[derive(Debug)]
pub struct Holders {
    recent: Vec<Arc<dyn Select>>,
    stored: Vec<Arc<dyn Select>>,
}

impl Holders {
    /// Asks `recent` (ingesters), then `stored` (store-gateways).
    pub fn new(recent: Vec<Arc<dyn Select>>, stored: Vec<Arc<dyn Select>>) -> Self {
        Self { recent, stored }
    }

    /// The spans of all holders that may pass the filter of the request.
    ///
    /// # Errors
    /// As [`Select::select`].
    pub async fn select(&self, tenant: &TenantId, request: &SpanRequest) -> Result<JoinedSpans> {
        let mut answers = Vec::with_capacity(self.recent.len() + self.stored.len());
        for holders in [&self.recent, &self.stored] {
            let asked = holders.iter().map(|s| s.select(tenant, request));
            answers.extend(futures::future::try_join_all(asked).await?);
        }
        Ok(JoinedSpans {
            answers,
            current: 0,
            whole: HashSet::new(),
        })
    }
}

/// The answers of all holders, one after the other: recent data first.
///
/// A trace may have parts in several places, and of a span there may be copies. Where the trace as a whole matters, [`scattered`](Self::scattered) tells of
/// which traces of a batch that is so; they are looked at whole ([`next_whole`](Self::next_whole)), once, and left out of the batches that have parts
/// of them. Where each span stands for itself it is enough to leave out copies ([`copied`](Self::copied), [`next_uncopied`](Self::next_uncopied)).
#[derive(Debug)]
pub struct JoinedSpans {
    answers: Vec<Box<dyn SpanBatches>>,
    /// Whose batch came last.
    current: usize,
    /// Traces that were, or will be, looked at whole.
    whole: HashSet<TraceId>,
}

impl JoinedSpans {
    /// The next batch; `None` at the end. Not cancel-safe.
    ///
    /// # Errors
    /// As [`SpanBatches::next_batch`].
    pub async fn next_batch(&mut self) -> Result<Option<SpanBatch>> {
        while let Some(answer) = self.answers.get_mut(self.current) {
            if let Some(batch) = answer.next_batch().await? {
                return Ok(Some(batch));
            }
            self.current += 1;
        }
        Ok(None)
    }

    /// More columns of rows of the batch that came last.
    ///
    /// # Errors
    /// As [`SpanBatches::rows`].
    pub async fn rows(&mut self, wanted: &WantedRows) -> Result<SpanBatch> {
        match self.answers.get_mut(self.current) {
            Some(answer) => answer.rows(wanted).await,
            None => Ok(SpanBatch::default()),
        }
    }

    /// See [`SpanBatches::newest_start_ns`]: of all that is to come.
    pub fn newest_start_ns(&self) -> Option<u64> {
        let rest = self.answers.get(self.current..).unwrap_or_default();
        let newest = rest.iter().map(|answer| answer.newest_start_ns());
        newest
            .into_iter()
            .try_fold(0, |most, newest| Some(most.max(newest?)))
    }

    /// See [`SpanBatches::leave_out_before`].
    pub fn leave_out_before(&mut self, start_ns: u64) {
        for answer in self.answers.iter_mut().skip(self.current) {
            answer.leave_out_before(start_ns);
        }
    }

    /// Which of these traces of a batch, by number, have parts in several places; ascending, if the numbers do. Second: those of them that nobody looked at
    /// whole so far.
    ///
    /// # Errors
    /// As [`SpanBatches::count_places`].
    pub async fn scattered(
        &mut self,
        batch: &SpanBatch,
        numbers: impl Iterator<Item = usize>,
    ) -> Result<(Vec<usize>, Vec<TraceId>)> {
        let numbers: Vec<usize> = numbers.collect();
        let spots = numbers.iter().map(|n| TraceSpot {
            id: batch.traces[*n].id,
            range: None,
        });
        let spots: Vec<TraceSpot> = spots.collect();
        let mut places = vec![0; spots.len()];
        if !spots.is_empty() {
            for answer in &mut self.answers {
                add(&mut places, answer.count_places(&spots, Places::All).await?);
            }
        }
        let (mut scattered, mut new) = (Vec::new(), Vec::new());
        for ((number, spot), places) in numbers.iter().zip(&spots).zip(places) {
            if places > 1 {
                scattered.push(*number);
                if self.whole.insert(spot.id) {
                    new.push(spot.id);
                }
            }
        }
        Ok((scattered, new))
    }

    /// Takes some of these traces out of the list and makes a batch of all that anybody has of them; `None` at the end of the list.
    ///
    /// # Errors
    /// As [`SpanBatches::whole_trace`]; `Corrupt` for what is no trace.
    pub async fn next_whole(
        &mut self,
        ids: &mut Vec<TraceId>,
        executor: &Executor,
        range: Option<TraceRange>,
        columns: &WantedColumns,
    ) -> Result<Option<SpanBatch>> {
        if ids.is_empty() {
            return Ok(None);
        }
        (self.answers.iter_mut()).for_each(|answer| answer.announce_whole(ids));
        let (mut traces, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(id) = ids.pop()
        {
            let mut trace = Vec::new();
            for answer in &mut self.answers {
                trace.extend(answer.whole_trace(id, Places::All).await?);
            }
            bytes += trace.len();
            traces.push((id, trace));
        }
        let batch = batch_of_traces(executor, range, traces, columns).await?;
        Ok(Some(batch))
    }

    /// Which traces of a batch, by number, may have copies of their spans in places that were read before.
    ///
    /// # Errors
    /// As [`SpanBatches::count_places`].
    pub async fn copied(&mut self, batch: &SpanBatch) -> Result<Vec<usize>> {
        // A copy is of the same time.
        let spots = batch.traces.iter().map(|trace| TraceSpot {
            id: trace.id,
            range: Some(TraceRange {
                start_ns: trace.start_ns,
                end_ns: trace.start_ns.saturating_add(trace.duration_ns),
            }),
        });
        let spots: Vec<TraceSpot> = spots.collect();
        let mut before = vec![0; spots.len()];
        for (n, answer) in self.answers.iter_mut().enumerate().take(self.current + 1) {
            let places = places_before(n, self.current);
            add(&mut before, answer.count_places(&spots, places).await?);
        }
        let numbers = before.iter().enumerate().filter(|(_, count)| **count > 0);
        Ok(numbers.map(|(n, _)| n).collect())
    }

    /// Takes some of these traces out of the list and makes a batch of the spans of them that the place of the last batch has and those before it
    /// have not; `None` at the end of the list.
    ///
    /// # Errors
    /// As [`JoinedSpans::next_whole`].
    pub async fn next_uncopied(
        &mut self,
        ids: &mut Vec<TraceId>,
        executor: &Executor,
        columns: &WantedColumns,
    ) -> Result<Option<SpanBatch>> {
        if ids.is_empty() {
            return Ok(None);
        }
        (self.answers.iter_mut()).for_each(|answer| answer.announce_whole(ids));
        let (mut traces, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(id) = ids.pop()
        {
            let mut before = Vec::new();
            for (n, answer) in self.answers.iter_mut().enumerate().take(self.current + 1) {
                let places = places_before(n, self.current);
                before.extend(answer.whole_trace(id, places).await?);
            }
            let mut trace = match self.answers.get_mut(self.current) {
                Some(answer) => answer.whole_trace(id, Places::Current).await?,
                None => Vec::new(),
            };
            bytes += trace.len() + before.len();
            if !before.is_empty() {
                trace = without_copies_of(executor, trace, before).await?;
            }
            if !trace.is_empty() {
                traces.push((id, trace));
            }
        }
        let batch = batch_of_traces(executor, None, traces, columns).await?;
        Ok(Some(batch))
    }

    /// Traces that are remembered as looked at whole.
    pub fn whole_count(&self) -> usize {
        self.whole.len()
    }

    /// How the answers ended.
    pub fn end(&mut self) -> SelectEnd {
        let mut end = SelectEnd::default();
        for answer in &mut self.answers {
            end.merge(answer.end());
        }
        end
    }
}

/// Which places of the `n`th answer are before the one that is being read of the `current`th.
fn places_before(n: usize, current: usize) -> Places {
    if n < current {
        Places::All
    } else {
        Places::Before
    }
}

fn add(counts: &mut [u32], more: Vec<u32>) {
    let counts = counts.iter_mut().zip(more);
    counts.for_each(|(count, more)| *count += more);
}
