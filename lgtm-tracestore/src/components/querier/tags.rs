//! Names and values of attributes.

use lgtm_core::Result;
use lgtm_core::exec::move_to_pool;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, merge_warnings};

use super::{Querier, Reading};
use crate::components::clients::Heard;
use crate::components::requests::{
    Answered, TagNamesAnswer, TagNamesRequest, TagValuesAnswer, TagValuesRequest,
};
use crate::limits::{Limits, ReadLimits};
use crate::select::{AttributeScope, SelectEnd, SpanBatch, SpanRequest, TraceRange};
use crate::traceql::{TagNames, TagValues};

/// Names or values under way.
trait Tags: Send + Sized + 'static {
    /// Some of them.
    type News: Default;

    fn request(&self) -> &SpanRequest;
    fn needs_whole_traces(&self) -> bool;
    fn is_full(&self) -> bool;
    fn fold_without(&mut self, batch: &SpanBatch, traces: &[usize]);
    /// Those since it was last asked; none unless somebody listens.
    fn take_news(&mut self) -> Option<Self::News>;
}

impl Tags for TagNames {
    type News = TagNamesAnswer;

    fn request(&self) -> &SpanRequest {
        self.request()
    }

    fn needs_whole_traces(&self) -> bool {
        self.needs_whole_traces()
    }

    fn is_full(&self) -> bool {
        false
    }

    fn fold_without(&mut self, batch: &SpanBatch, traces: &[usize]) {
        self.fold_without(batch, traces);
    }

    fn take_news(&mut self) -> Option<Self::News> {
        let news = self.take_news();
        (!news.is_empty()).then_some(news)
    }
}

impl Tags for TagValues {
    type News = TagValuesAnswer;

    fn request(&self) -> &SpanRequest {
        self.request()
    }

    fn needs_whole_traces(&self) -> bool {
        self.needs_whole_traces()
    }

    fn is_full(&self) -> bool {
        self.is_full()
    }

    fn fold_without(&mut self, batch: &SpanBatch, traces: &[usize]) {
        self.fold_without(batch, traces);
    }

    fn take_news(&mut self) -> Option<Self::News> {
        let news = self.take_news();
        (!news.is_empty()).then_some(news)
    }
}

impl Querier {
    pub(super) async fn list_names(
        &self,
        tenant: &TenantId,
        request: &TagNamesRequest,
        listener: Heard<TagNamesAnswer>,
    ) -> Result<Answered<TagNamesAnswer>> {
        let bounds = TagBounds::of(&self.limits, tenant);
        let names = TagNames::new(request.scope, request.filter.as_deref(), request.limit)?;
        let names = names.bounded(bounds.max_bytes);
        let names = names.telling_news(listener.is_some());
        let mut scopes = AttributeScope::ALL.into_iter();
        if !scopes.any(|scope| request.scope.takes(scope)) {
            return Ok(Answered::default());
        }
        let listed = self.list(tenant, names, request.range, bounds, listener);
        let (names, mut end) = listed.await?;
        if names.is_cut() {
            merge_warnings(&mut end.warnings, vec![bounds.cut("names")]);
        }
        Ok(Answered {
            value: names.finish(),
            end: self.end_of(end),
        })
    }

    pub(super) async fn list_values(
        &self,
        tenant: &TenantId,
        request: &TagValuesRequest,
        listener: Heard<TagValuesAnswer>,
    ) -> Result<Answered<TagValuesAnswer>> {
        let bounds = TagBounds::of(&self.limits, tenant);
        let fields = request.fields.clone();
        let values = TagValues::new(fields, request.filter.as_deref(), request.limit)?;
        let values = values.bounded(bounds.max_bytes);
        let values = values.telling_news(listener.is_some());
        let listed = self.list(tenant, values, request.range, bounds, listener);
        let (values, mut end) = listed.await?;
        if values.is_cut() {
            merge_warnings(&mut end.warnings, vec![bounds.cut("values")]);
        }
        Ok(Answered {
            value: values.finish(),
            end: self.end_of(end),
        })
    }

    /// Looks at all that may have names or values, until there are enough.
    async fn list<T: Tags>(
        &self,
        tenant: &TenantId,
        mut tags: T,
        range: Option<TraceRange>,
        bounds: TagBounds,
        listener: Heard<T::News>,
    ) -> Result<(T, SelectEnd)> {
        if listener.is_some() {
            // What is new of a batch may be much to copy.
            move_to_pool().await;
        }
        let mut end = SelectEnd::default();
        let asked = SpanRequest {
            traces: range,
            max_blocks: bounds.max_blocks,
            ..tags.request().clone()
        };
        for tenant in tenant.parts() {
            let mut reading = self.read(&tenant, &asked).await?;
            while !tags.is_full()
                && let Some(batch) = reading.spans.next_batch().await?
            {
                tags = reading.tags(tags, batch, &asked).await?;
                let news = tags.take_news();
                if let (Some(listener), Some(news)) = (&listener, news) {
                    listener.hear(&news);
                }
            }
            end.merge(reading.spans.end());
        }
        Ok((tags, end))
    }
}

impl Reading {
    /// Takes up a batch, and traces of it whole where it has but a part of them and the rest matters.
    async fn tags<T: Tags>(
        &mut self,
        mut tags: T,
        batch: SpanBatch,
        asked: &SpanRequest,
    ) -> Result<T> {
        let (mut left_out, mut whole) = (Vec::new(), Vec::new());
        if tags.needs_whole_traces() {
            let all = 0..batch.traces.len();
            (left_out, whole) = self.spans.scattered(&batch, all).await?;
        }
        let _whole = self.hold_whole(0)?;
        let fold = move |tags: &mut T, batch: &SpanBatch| {
            tags.fold_without(batch, &left_out);
            Ok(())
        };
        tags = self.pool.fold(tags, batch, fold).await?;
        loop {
            let executor = &self.pool.executor;
            let next = self
                .spans
                .next_whole(&mut whole, executor, asked.traces, &asked.columns);
            let Some(batch) = next.await? else {
                return Ok(tags);
            };
            let fold = |tags: &mut T, batch: &SpanBatch| {
                tags.fold_without(batch, &[]);
                Ok(())
            };
            tags = self.pool.fold(tags, batch, fold).await?;
        }
    }
}

/// What of a tenant's limits bounds such an answer.
#[derive(Debug, Clone, Copy)]
struct TagBounds {
    max_bytes: usize,
    max_blocks: Option<usize>,
}

impl TagBounds {
    fn of(limits: &Overrides<Limits>, tenant: &TenantId) -> Self {
        let limits = limits.for_tenant(tenant);
        let ReadLimits {
            max_bytes_per_tag_values_query: bytes,
            max_blocks_per_tag_values_query: blocks,
            ..
        } = limits.read;
        Self {
            max_bytes: match bytes.as_usize() {
                0 => usize::MAX,
                max => max,
            },
            max_blocks: (blocks > 0).then(|| usize::try_from(blocks).unwrap_or(usize::MAX)),
        }
    }

    fn cut(self, what: &str) -> String {
        let max_bytes = self.max_bytes;
        format!(
            "there are more {what} than {max_bytes} bytes of them (max_bytes_per_tag_values_query); the rest is left out"
        )
    }
}
