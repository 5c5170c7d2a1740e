//! Which entries a log query takes: what delete requests name.

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, Matcher, TimestampNs};

use super::ast::Expr;
use super::error::ParseError;
use super::parser::parse;
use super::pipeline::{Flow, Pipeline, PipelineScratch, PipelineUse, StreamLabels, compile};
use super::query_error::{QueryError, Result};
use super::settings::EngineSettings;
use crate::entry::EntryBlock;

/// A log query of which nothing is wanted but which entries pass. Compiled, to be run by many threads.
#[derive(Debug)]
pub(crate) struct EntryFilter {
    matchers: Vec<Matcher>,
    pipeline: Pipeline,
    now_ns: TimestampNs,
}

impl EntryFilter {
    /// Compiles a query, for which it stays the same time. May take long for what users write.
    ///
    /// # Errors
    /// `Parse`; `Invalid` for a metric query.
    pub(crate) fn new(query: &str, now_ns: TimestampNs) -> Result<Self> {
        let Expr::Log(log) = parse(query)? else {
            return Err(QueryError::Invalid("only log selector is supported".into()));
        };
        let usage = PipelineUse {
            labels: None,
            reads_lines: true,
            max_template_bytes: EngineSettings::default().max_template_bytes.as_usize(),
        };
        let pipeline: std::result::Result<Pipeline, ParseError> = compile(&log.stages, &usage);
        Ok(Self {
            pipeline: pipeline?,
            matchers: log.matchers,
            now_ns,
        })
    }

    /// Which streams are meant; all must pass.
    pub(crate) fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Whether all entries of the streams pass.
    pub(crate) fn is_plain(&self) -> bool {
        self.pipeline.is_plain()
    }

    /// Whether structured metadata play any part.
    pub(crate) fn reads_metadata(&self) -> bool {
        self.pipeline.reads_metadata()
    }

    /// Whether a stream is meant.
    pub(crate) fn takes(&self, labels: &Labels) -> bool {
        let mut matchers = self.matchers.iter();
        matchers.all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
    }

    /// Calls `take` with the number of each entry of a block that passes; the stream is one that is meant.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(crate) fn each_passed(
        &self,
        labels: &Labels,
        block: &EntryBlock,
        cancel: &CancelToken,
        take: &mut dyn FnMut(usize),
    ) -> Result<()> {
        if self.is_plain() {
            (0..block.len()).for_each(take);
            return Ok(());
        }
        let stream = StreamLabels::new(labels);
        let mut scratch = PipelineScratch::at(self.now_ns);
        self.pipeline
            .run(&stream, block, false, &mut scratch, cancel, &mut |passed| {
                take(passed.entry);
                Ok(Flow::Continue)
            })
    }
}
