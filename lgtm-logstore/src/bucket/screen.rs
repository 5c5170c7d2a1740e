//! Chunks, and blocks of them, that surely have nothing of interest: left out before they are loaded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use lgtm_core::Result;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, TenantId};

use super::side_cache::SidePart;
use super::side_files::{SideFiles, SideKind};
use super::streams::FoundChunk;
use crate::select::SelectHints;
use crate::skip::{BlockChoice, SkipFilters, SkipQuestion};

/// Chunks that are looked up first; each time twice as many, as who reads on is taken to read on.
const FIRST_CHUNKS: usize = 1024;
const MOST_CHUNKS: usize = 4096;

/// Holds chunks against what a query looks for.
#[derive(Debug)]
pub(super) struct Screen {
    side: Arc<SideFiles>,
    question: Arc<SkipQuestion>,
    next: usize,
}

impl Screen {
    /// `None` when nothing is asked that side files could know.
    pub(super) fn new(side: Arc<SideFiles>, hints: &SelectHints) -> Option<Self> {
        let mut question = SkipQuestion::default();
        for needle in &hints.line_needles {
            question.line(needle);
        }
        for choices in &hints.line_choices {
            question.line_with_one_of(choices);
        }
        for (label, value) in &hints.field_needles {
            question.field(label, value);
        }
        for (label, value) in &hints.metadata_needles {
            question.metadata(label, value);
        }
        (!question.is_empty()).then(|| Self {
            side,
            question: Arc::new(question),
            next: FIRST_CHUNKS,
        })
    }

    /// How many chunks should be looked at now.
    pub(super) fn next_count(&mut self) -> usize {
        let count = self.next;
        self.next = (2 * self.next).min(MOST_CHUNKS);
        count
    }

    /// Of each chunk the blocks that may have something of interest; `None` where nothing is known.
    ///
    /// # Errors
    /// When the pool is shut down.
    pub(super) async fn choices(
        &self,
        tenant: &TenantId,
        chunks: Vec<FoundChunk>,
        streams: Vec<Labels>,
        executor: &Executor,
    ) -> Result<Vec<Option<BlockChoice>>> {
        let parts = self.side.parts(tenant, &chunks, SideKind::Filters).await;
        let question = Arc::clone(&self.question);
        let job = move |cancel: &CancelToken| -> Result<Vec<Option<BlockChoice>>> {
            let mut out = Vec::with_capacity(parts.len());
            let mut answers = KnownAnswers::default();
            for (n, (part, labels)) in parts.into_iter().zip(streams).enumerate() {
                if n % 64 == 0 {
                    cancel.check("looking through side files")?;
                }
                out.push(match part {
                    Some(SidePart::Filters(filters)) => {
                        Some(answers.choose(&filters, &question, &labels))
                    }
                    _ => None,
                });
            }
            Ok(out)
        };
        let choices = executor.run(job, &CancelToken::new()).await?;
        let skipped = choices.iter().flatten().filter(|c| c.is_empty()).count();
        let counts = &self.side.counts;
        counts.skipped.fetch_add(skipped as u64, Ordering::Relaxed);
        Ok(choices)
    }
}

/// The answers of the filters so far: small chunks share theirs.
#[derive(Debug, Default)]
struct KnownAnswers {
    /// By the address of the filter, which is kept; with each whether the stream had the labels that are asked for.
    known: HashMap<*const SkipFilters, (Arc<SkipFilters>, Vec<bool>, BlockChoice)>,
}

impl KnownAnswers {
    fn choose(
        &mut self,
        filters: &Arc<SkipFilters>,
        question: &SkipQuestion,
        stream: &Labels,
    ) -> BlockChoice {
        let of_stream = |label: &str| stream.get(label).is_some();
        let stream_has: Vec<bool> = question.labels().map(of_stream).collect();
        if let Some((_, has, choice)) = self.known.get(&Arc::as_ptr(filters))
            && *has == stream_has
        {
            return choice.clone();
        }
        let choice = filters.choose(question, of_stream);
        let known = (Arc::clone(filters), stream_has, choice.clone());
        self.known.insert(Arc::as_ptr(filters), known);
        choice
    }
}
