//! What several replicas have of recent traces, joined by id.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use lgtm_core::model::{TenantId, merge_warnings};
use lgtm_core::{Error, Result};
use lgtm_ring::replicas::is_terminal;

use crate::components::clients::IngesterClient;
use crate::select::{
    Places, RECENT_BYTES, RecentRequest, RecentTrace, RecentTraces, SelectEnd, TraceBytes,
    TraceReader, TraceSpot,
};
use crate::trace::TraceId;

/// Traces that are fetched together when they are looked at whole.
const FETCHED_TOGETHER: usize = 64;

/// Those of a set who were not needed for a quorum: any group of them makes up for one that fails.
#[derive(Debug)]
pub(crate) struct Reserve {
    groups: VecDeque<Vec<Arc<dyn IngesterClient>>>,
    tenant: TenantId,
}

impl Reserve {
    /// Groups of holders, each of which can go on in the place of one that fails.
    pub(crate) fn new(
        groups: impl IntoIterator<Item = Vec<Arc<dyn IngesterClient>>>,
        tenant: &TenantId,
    ) -> Self {
        Self {
            groups: groups.into_iter().collect(),
            tenant: tenant.clone(),
        }
    }
}

/// One who is read.
#[derive(Debug)]
struct Replica {
    answer: Box<dyn RecentTraces>,
    waiting: VecDeque<RecentTrace>,
    is_done: bool,
    /// The traces of the batch that is being made that came from here.
    gave: HashSet<TraceId>,
}

impl Replica {
    fn new(answer: Box<dyn RecentTraces>) -> Self {
        Self {
            answer,
            waiting: VecDeque::new(),
            is_done: false,
            gave: HashSet::new(),
        }
    }

    /// Reads on, where nothing waits.
    async fn read_on(&mut self) -> Result<()> {
        if self.waiting.is_empty() && !self.is_done {
            self.waiting = self.answer.next_traces().await?.into();
            self.is_done = self.waiting.is_empty();
        }
        Ok(())
    }

    /// What it has of those traces of a batch that did not come from here.
    async fn rest_of(&mut self, batch: &[TraceId]) -> Result<Vec<(TraceId, Vec<u8>)>> {
        let lacking = batch.iter().filter(|id| !self.gave.contains(*id));
        let lacking: Vec<TraceId> = lacking.copied().collect();
        let (mut rest, mut out) = (lacking.as_slice(), Vec::new());
        while !rest.is_empty() {
            let found = self.answer.whole_traces(rest).await?;
            if found.is_empty() {
                return Err(Error::Internal("a replica tells nothing of a trace".into()));
            }
            let (told, left) = rest.split_at(found.len().min(rest.len()));
            let some = told.iter().copied().zip(found);
            out.extend(some.filter(|(_, bytes)| !bytes.is_empty()));
            rest = left;
        }
        Ok(out)
    }
}

/// A trace as it is being joined: what replicas have of it that differs.
#[derive(Debug)]
struct TraceParts {
    id: TraceId,
    parts: Vec<Vec<u8>>,
}

impl TraceParts {
    /// Adds what a replica has, unless another one has the same bytes.
    fn add(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() && !self.parts.contains(&bytes) {
            self.parts.push(bytes);
        }
    }

    /// Parts one after the other, which is the trace; copies of spans are in it.
    fn joined(mut self) -> RecentTrace {
        let bytes = match self.parts.len() {
            1 => self.parts.swap_remove(0),
            _ => self.parts.concat(),
        };
        RecentTrace { id: self.id, bytes }
    }
}

/// What several replicas have of recent traces: those that one of them finds of interest, and of each all that any of them has. Where a replica fails
/// another one goes on behind the trace that came last.
///
/// Memory holds about a MiB of each replica.
#[derive(Debug)]
pub(crate) struct ReplicatedTraces {
    replicas: Vec<Replica>,
    reserve: Reserve,
    request: RecentRequest,
    /// The last trace that was taken: whoever goes on begins behind it.
    last: Option<TraceId>,
    /// The traces that came last: what is looked at a second time is mostly among them.
    came: HashMap<TraceId, Vec<u8>>,
    /// Traces that will be looked at whole, the last of them first.
    announced: Vec<TraceId>,
    /// Those that were fetched before they were asked for.
    fetched: HashMap<TraceId, Vec<u8>>,
    warnings: Vec<String>,
}

type Asked<'a, T> = BoxFuture<'a, Result<T>>;

impl ReplicatedTraces {
    /// Of these answers, of which each has its first traces beside it.
    pub(crate) fn new(
        answers: impl IntoIterator<Item = (Box<dyn RecentTraces>, Vec<RecentTrace>)>,
        request: RecentRequest,
        reserve: Reserve,
    ) -> Self {
        let replicas = answers.into_iter().map(|(answer, first)| Replica {
            is_done: first.is_empty(),
            waiting: first.into(),
            ..Replica::new(answer)
        });
        Self {
            replicas: replicas.collect(),
            reserve,
            last: request.behind,
            request,
            came: HashMap::new(),
            announced: Vec::new(),
            fetched: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Of one answer, in whose place nobody goes on.
    #[cfg(feature = "rpc")]
    pub(crate) fn alone(
        answer: (Box<dyn RecentTraces>, Vec<RecentTrace>),
        request: RecentRequest,
        tenant: &TenantId,
    ) -> Self {
        Self::new([answer], request, Reserve::new([], tenant))
    }

    /// Asks all replicas, and others in the place of those that fail.
    async fn ask_all<T: Send>(
        &mut self,
        ask: impl for<'a> Fn(&'a mut Replica) -> Asked<'a, T> + Send + Sync,
    ) -> Result<Vec<T>> {
        let answers = join_all(self.replicas.iter_mut().map(&ask)).await;
        let (mut out, mut failed) = (Vec::new(), Vec::new());
        for (n, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => out.push(answer),
                Err(e) if is_terminal(&e) => return Err(e),
                Err(e) => failed.push((n, e)),
            }
        }
        for (n, error) in failed.into_iter().rev() {
            tracing::debug!(%error, "an answer broke off; another replica goes on with it");
            self.replicas.remove(n);
            out.extend(self.ask_instead(error, &ask).await?);
        }
        Ok(out)
    }

    /// Has the next group of the reserve go on, and asks it.
    ///
    /// # Errors
    /// `why` when nobody is left.
    async fn ask_instead<T: Send>(
        &mut self,
        why: Error,
        ask: &(impl for<'a> Fn(&'a mut Replica) -> Asked<'a, T> + Send + Sync),
    ) -> Result<Vec<T>> {
        while let Some(group) = self.reserve.groups.pop_front() {
            let request = RecentRequest {
                behind: self.last,
                ..self.request.clone()
            };
            let tenant = &self.reserve.tenant;
            let begun = group.iter().map(|client| {
                let request = &request;
                async move {
                    let mut replica = Replica::new(client.recent(tenant, request).await?);
                    let answer = ask(&mut replica).await?;
                    Ok::<_, Error>((replica, answer))
                }
            });
            match futures::future::try_join_all(begun).await {
                Ok(begun) => {
                    let (replicas, answers): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
                    self.replicas.extend(replicas);
                    return Ok(answers);
                }
                Err(e) if is_terminal(&e) => return Err(e),
                Err(error) => tracing::debug!(%error, "a replica in reserve does not answer"),
            }
        }
        Err(why)
    }

    /// The next traces, each with all that any replica has of it.
    async fn next_joined(&mut self) -> Result<Vec<RecentTrace>> {
        let (mut batch, mut bytes): (Vec<TraceParts>, usize) = (Vec::new(), 0);
        self.replicas.iter_mut().for_each(|r| r.gave.clear());
        'batch: while bytes < RECENT_BYTES {
            self.ask_all(|r| Box::pin(r.read_on())).await?;
            // As long as each has one waiting, or no more, the least id is the next one.
            loop {
                let fronts = self.replicas.iter().filter_map(|r| r.waiting.front());
                let Some(id) = fronts.map(|trace| trace.id).min() else {
                    break 'batch;
                };
                let parts = Vec::new();
                let mut trace = TraceParts { id, parts };
                for replica in &mut self.replicas {
                    if let Some(own) = replica.waiting.pop_front_if(|t| t.id == id) {
                        replica.gave.insert(id);
                        bytes += own.bytes.len();
                        trace.add(own.bytes);
                    }
                }
                batch.push(trace);
                self.last = Some(id);
                let is_one_behind = |r: &Replica| r.waiting.is_empty() && !r.is_done;
                if bytes >= RECENT_BYTES || self.replicas.iter().any(is_one_behind) {
                    break;
                }
            }
        }
        if !batch.is_empty() && !self.request.is_for_all() {
            self.complete(&mut batch).await?;
        }
        Ok(batch.into_iter().map(TraceParts::joined).collect())
    }

    /// Adds what replicas have that find nothing of interest in it: others do.
    async fn complete(&mut self, batch: &mut [TraceParts]) -> Result<()> {
        let ids: Arc<[TraceId]> = batch.iter().map(|trace| trace.id).collect();
        for found in self
            .ask_all(|replica| {
                let ids = Arc::clone(&ids);
                Box::pin(async move { replica.rest_of(&ids).await })
            })
            .await?
        {
            for (id, bytes) in found {
                if let Ok(at) = batch.binary_search_by_key(&id, |trace| trace.id) {
                    batch[at].add(bytes);
                }
            }
        }
        Ok(())
    }

    /// All that any replica has of the first of these traces.
    async fn fetch(&mut self, ids: &[TraceId]) -> Result<Vec<Vec<u8>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Arc<[TraceId]> = ids.into();
        let mut answers = self
            .ask_all(|replica| {
                let ids = Arc::clone(&ids);
                Box::pin(async move { replica.answer.whole_traces(&ids).await })
            })
            .await?;
        let count = answers.iter().map(Vec::len).min().unwrap_or(0);
        if count == 0 {
            return Err(Error::Internal("a replica tells nothing of a trace".into()));
        }
        let traces = (0..count.min(ids.len())).map(|n| {
            let parts = Vec::new();
            let mut trace = TraceParts { id: ids[n], parts };
            for answer in &mut answers {
                trace.add(std::mem::take(&mut answer[n]));
            }
            trace.joined().bytes
        });
        Ok(traces.collect())
    }

    /// All that any replica has of a trace; those that were announced behind it are fetched with it.
    async fn whole(&mut self, id: TraceId) -> Result<Vec<u8>> {
        if let Some(bytes) = self.came.get(&id) {
            return Ok(bytes.clone());
        }
        if let Some(bytes) = self.fetched.remove(&id) {
            return Ok(bytes);
        }
        let behind = self
            .announced
            .iter()
            .rev()
            .skip_while(|known| **known != id);
        let mut ids = vec![id];
        ids.extend(behind.skip(1).take(FETCHED_TOGETHER - 1));
        let mut found = ids.iter().copied().zip(self.fetch(&ids).await?);
        let bytes = found.next().map(|(_, bytes)| bytes).unwrap_or_default();
        self.fetched = found.collect();
        Ok(bytes)
    }
}

#[async_trait]
impl RecentTraces for ReplicatedTraces {
    async fn next_traces(&mut self) -> Result<Vec<RecentTrace>> {
        self.next_joined().await
    }

    async fn have(&mut self, ids: &[TraceId]) -> Result<Vec<bool>> {
        let ids: Arc<[TraceId]> = ids.into();
        let mut all = vec![false; ids.len()];
        for had in self
            .ask_all(|replica| {
                let ids = Arc::clone(&ids);
                Box::pin(async move { replica.answer.have(&ids).await })
            })
            .await?
        {
            all.iter_mut().zip(had).for_each(|(a, b)| *a |= b);
        }
        Ok(all)
    }

    async fn whole_traces(&mut self, ids: &[TraceId]) -> Result<Vec<Vec<u8>>> {
        self.fetch(ids).await
    }

    fn end(&mut self) -> SelectEnd {
        for replica in &mut self.replicas {
            merge_warnings(&mut self.warnings, replica.answer.end().warnings);
        }
        SelectEnd {
            warnings: std::mem::take(&mut self.warnings),
            ..SelectEnd::default()
        }
    }
}

#[async_trait]
impl TraceReader for ReplicatedTraces {
    async fn next_traces(&mut self, _: usize) -> Result<Vec<TraceBytes>> {
        let traces = self.next_joined().await?;
        let copies = traces.iter().map(|t| (t.id, t.bytes.clone()));
        self.came = copies.collect();
        let traces = traces.into_iter().map(|trace| TraceBytes {
            id: trace.id,
            place: 0,
            bytes: trace.bytes,
        });
        Ok(traces.collect())
    }

    async fn find(&mut self, id: TraceId, place: u32) -> Result<Option<TraceBytes>> {
        let bytes = self.whole(id).await?;
        Ok((!bytes.is_empty()).then_some(TraceBytes { id, place, bytes }))
    }

    async fn count_places(&mut self, traces: &[TraceSpot], places: Places) -> Result<Vec<u32>> {
        if places == Places::Before {
            return Ok(vec![0; traces.len()]);
        }
        let unknown = traces.iter().map(|t| t.id);
        let unknown = unknown.filter(|id| !self.came.contains_key(id));
        let unknown: Vec<TraceId> = unknown.collect();
        let mut had = Vec::new();
        if !unknown.is_empty() {
            had = self.have(&unknown).await?;
        }
        let mut had = had.into_iter();
        let counts = traces
            .iter()
            .map(|t| u32::from(self.came.contains_key(&t.id) || had.next() == Some(true)));
        Ok(counts.collect())
    }

    async fn whole_trace(&mut self, id: TraceId, places: Places) -> Result<Vec<u8>> {
        if places == Places::Before {
            return Ok(Vec::new());
        }
        self.whole(id).await
    }

    fn announce_whole(&mut self, ids: &[TraceId]) {
        let from = ids.len().saturating_sub(FETCHED_TOGETHER);
        self.announced = ids[from..].to_vec();
    }

    fn end(&mut self) -> SelectEnd {
        RecentTraces::end(self)
    }
}
