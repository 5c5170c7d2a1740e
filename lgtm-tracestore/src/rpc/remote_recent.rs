//! The recent traces that another process brings.

use async_trait::async_trait;
use lgtm_core::model::{TenantId, merge_warnings};
use lgtm_core::rpc::{Remote, RpcStream};
use lgtm_core::{Error, Result};

use super::methods;
use super::recent_message::{self as message, TakenTraces};
use crate::select::{RecentRequest, RecentTrace, RecentTraces, SelectEnd};
use crate::trace::TraceId;

/// The answer of another process, which holds it as long as this lives.
#[derive(Debug)]
pub(super) struct RemoteRecent {
    stream: RpcStream,
    of: Remote,
    tenant: TenantId,
    /// Its number there.
    answer: u64,
    taken: TakenTraces,
    end: SelectEnd,
    is_done: bool,
}

impl RemoteRecent {
    /// Waits until the other side has fixed what is in the answer.
    pub(super) async fn begin(
        of: Remote,
        tenant: &TenantId,
        request: &RecentRequest,
    ) -> Result<Self> {
        let write = |out: &mut Vec<u8>| message::put_request(out, request);
        let stream = of.stream(methods::RECENT, tenant, write).await?;
        let mut this = Self {
            stream,
            of,
            tenant: tenant.clone(),
            answer: 0,
            taken: TakenTraces::default(),
            end: SelectEnd::default(),
            is_done: false,
        };
        this.take().await?;
        let number = this.taken.answer.take();
        this.answer = number.ok_or_else(|| {
            let why = Error::InvalidInput("it does not say its number".into());
            this.of.unreadable(methods::RECENT, &why)
        })?;
        Ok(this)
    }

    async fn take(&mut self) -> Result<()> {
        let Some(message) = self.stream.next().await? else {
            return Err(self.of.endless(methods::RECENT));
        };
        let taken = self.taken.take(&message);
        taken.map_err(|e| self.of.unreadable(methods::RECENT, &e))?;
        if let Some(end) = self.taken.end.take() {
            // The stream stays open: the other side holds the answer as long.
            self.end.merge(end);
            self.is_done = true;
        }
        Ok(())
    }
}

#[async_trait]
impl RecentTraces for RemoteRecent {
    async fn next_traces(&mut self) -> Result<Vec<RecentTrace>> {
        while self.taken.traces.is_empty() && !self.is_done {
            self.take().await?;
        }
        Ok(std::mem::take(&mut self.taken.traces))
    }

    async fn have(&mut self, ids: &[TraceId]) -> Result<Vec<bool>> {
        let write = |out: &mut Vec<u8>| message::put_look_up(out, self.answer, ids);
        let read = |answer: &[u8]| message::had(answer, ids.len());
        self.of.ask(methods::HAVE, &self.tenant, write, read).await
    }

    async fn whole_traces(&mut self, ids: &[TraceId]) -> Result<Vec<Vec<u8>>> {
        let method = methods::WHOLE_TRACES;
        let write = |out: &mut Vec<u8>| message::put_look_up(out, self.answer, ids);
        let mut stream = self.of.stream(method, &self.tenant, write).await?;
        let mut taken = TakenTraces::default();
        while let Some(message) = stream.next().await? {
            taken
                .take(&message)
                .map_err(|e| self.of.unreadable(method, &e))?;
        }
        let end = taken.end.ok_or_else(|| self.of.endless(method))?;
        merge_warnings(&mut self.end.warnings, end.warnings);
        let are_those = taken.traces.len() <= ids.len()
            && taken.traces.iter().zip(ids).all(|(t, id)| t.id == *id);
        if !are_those {
            let why = Error::InvalidInput("other traces than were asked for".into());
            return Err(self.of.unreadable(method, &why));
        }
        Ok(taken.traces.into_iter().map(|t| t.bytes).collect())
    }

    fn end(&mut self) -> SelectEnd {
        std::mem::take(&mut self.end)
    }
}
