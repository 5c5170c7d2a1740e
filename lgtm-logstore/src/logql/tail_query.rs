//! A log query that entries go through as they come in.

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, Matcher, TimestampNs};

use super::answer::{AnswerEntry, AnswerStream};
use super::ast::Expr;
use super::error::ParseError;
use super::parser::parse;
use super::pipeline::{
    EntryLabels, FieldSource, Flow, Pipeline, PipelineScratch, PipelineUse, StreamLabels, compile,
};
use super::query_error::{QueryError, Result};
use super::settings::EngineSettings;
use crate::select::StreamBlock;

/// Bytes of lines after which a walk ends.
const MAX_BYTES: usize = 1 << 20;

/// Compiled, to be run by one thread at a time or many.
#[derive(Debug)]
pub(crate) struct TailQuery {
    matchers: Vec<Matcher>,
    pipeline: Pipeline,
}

impl TailQuery {
    /// Compiles a query. May take long for what users write: belongs on the compute pool.
    ///
    /// # Errors
    /// `Parse`; `Invalid` for a metric query.
    pub(crate) fn new(query: &str) -> Result<Self> {
        let Expr::Log(log) = parse(query)? else {
            return Err(QueryError::Invalid("only log selector is supported".into()));
        };
        let usage = PipelineUse {
            labels: None,
            reads_lines: true,
            max_template_bytes: EngineSettings::default().max_template_bytes.as_usize(),
        };
        let compiled: std::result::Result<Pipeline, ParseError> = compile(&log.stages, &usage);
        Ok(Self {
            pipeline: compiled?,
            matchers: log.matchers,
        })
    }

    /// Whether a stream of these labels is followed, if `value_of` gives their values.
    pub(crate) fn takes<'v>(&self, value_of: impl Fn(&str) -> Option<&'v str>) -> bool {
        let mut matchers = self.matchers.iter();
        matchers.all(|m| m.matches(value_of(m.name()).unwrap_or("")))
    }

    /// Puts the entries of a block that pass behind `out`, each a stream of its own, until there are `max` or a MiB of lines. Gives the number
    /// of the entry to go on from.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(crate) fn pass(
        &self,
        stream_block: &StreamBlock,
        max: usize,
        scratch: &mut TailScratch,
        cancel: &CancelToken,
        out: &mut Vec<AnswerStream>,
    ) -> Result<usize> {
        let block = &stream_block.block;
        if scratch.stream.as_ref().map(StreamLabels::labels) != Some(&stream_block.labels) {
            scratch.stream = Some(StreamLabels::new(&stream_block.labels));
        }
        let Some(stream) = &scratch.stream else {
            return Ok(block.len());
        };
        let (mut next, mut bytes) = (block.len(), 0);
        let pipeline = &mut scratch.pipeline;
        self.pipeline
            .run(stream, block, false, pipeline, cancel, &mut |passed| {
                out.push(answered(
                    passed.stream,
                    passed.labels,
                    passed.t_ns,
                    passed.line,
                ));
                bytes += passed.line.len();
                if out.len() >= max || bytes >= MAX_BYTES {
                    next = passed.entry + 1;
                    return Ok(Flow::Stop);
                }
                Ok(Flow::Continue)
            })?;
        Ok(next)
    }
}

/// Buffers of a walk.
#[derive(Debug)]
pub(crate) struct TailScratch {
    stream: Option<StreamLabels>,
    pipeline: PipelineScratch,
}

impl TailScratch {
    /// Buffers of a walk that takes place at a time.
    pub(crate) fn at(now_ns: TimestampNs) -> Self {
        Self {
            stream: None,
            pipeline: PipelineScratch::at(now_ns),
        }
    }
}

fn answered(
    stream: &StreamLabels,
    labels: &EntryLabels,
    t_ns: TimestampNs,
    line: &[u8],
) -> AnswerStream {
    let only = |wanted: Option<FieldSource>| labels.to_labels(stream, |_, source| source != wanted);
    let (own, metadata, parsed) = match labels.are_the_stream_s() {
        true => (stream.labels().clone(), Labels::empty(), Labels::empty()),
        false => (
            only(None),
            only(Some(FieldSource::Metadata)),
            only(Some(FieldSource::Parsed)),
        ),
    };
    AnswerStream {
        stream: own,
        metadata,
        parsed,
        entries: vec![AnswerEntry {
            t_ns,
            line: bytes::Bytes::copy_from_slice(line),
        }],
    }
}
