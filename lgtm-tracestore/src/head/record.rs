//! Records of the log; see `docs/format/head_records.md`.

use hashbrown::HashMap;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_uvarint};
use lgtm_core::model::TenantId;

use super::run::Run;
use crate::trace::TraceId;

/// What a record is.
pub(super) mod kind {
    /// Spans that were taken.
    pub(crate) const SPANS: u8 = 1;
    /// Traces as a checkpoint found them.
    pub(crate) const TRACES: u8 = 2;
    /// A batch of cut traces as a checkpoint found it.
    pub(crate) const BATCH: u8 = 3;
}

/// What an item of a record of spans is.
mod item {
    pub(super) const RESOURCE: u8 = 0;
    pub(super) const SCOPE: u8 = 1;
    pub(super) const TRACE: u8 = 2;
}

/// Bytes that a run takes in a record beside its spans, resource and scope, at most.
pub(super) const RUN_OVERHEAD: usize = 48;
/// The same of the record itself.
pub(super) const RECORD_OVERHEAD: usize = 64;

/// Writes a record of spans or of traces. Resources and scopes come once, before the first trace that names them.
#[derive(Debug, Default)]
pub(super) struct SpansRecord {
    out: Vec<u8>,
    begin: usize,
    /// Numbers in the record by those of whoever calls.
    resources: HashMap<u32, u32>,
    scopes: HashMap<u32, u32>,
    /// The runs of the trace that is being written.
    runs: Vec<u8>,
}

impl SpansRecord {
    /// Begins a record. For spans `sequence` is the record's number; for traces the number from which on records are not in it.
    pub(super) fn begin(&mut self, tenant: &TenantId, sequence: u64) {
        self.out.clear();
        put_bytes(&mut self.out, tenant.as_str().as_bytes());
        put_uvarint(&mut self.out, sequence);
        self.begin = self.out.len();
        self.resources.clear();
        self.scopes.clear();
        self.runs.clear();
    }

    /// Adds a run to the trace that is being written. Its numbers are the caller's; `resource` and `scope` are what they stand for.
    pub(super) fn push(&mut self, run: Run<'_>, resource: &[u8], scope: &[u8]) {
        let resource = number(&mut self.resources, run.resource, || {
            self.out.push(item::RESOURCE);
            put_bytes(&mut self.out, resource);
        });
        let scope = number(&mut self.scopes, run.scope, || {
            self.out.push(item::SCOPE);
            put_bytes(&mut self.out, scope);
        });
        let run = Run {
            resource,
            scope,
            ..run
        };
        run.put(&mut self.runs);
    }

    /// Ends the trace; one without runs leaves no trace.
    pub(super) fn end_trace(&mut self, id: TraceId) {
        if !self.runs.is_empty() {
            self.out.push(item::TRACE);
            self.out.extend_from_slice(id.as_bytes());
            put_bytes(&mut self.out, &self.runs);
            self.runs.clear();
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.out.len() == self.begin
    }

    /// The record.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Heap bytes that it keeps.
    pub(super) fn heap_bytes(&self) -> usize {
        self.out.capacity() + self.runs.capacity()
    }
}

fn number(numbers: &mut HashMap<u32, u32>, known_as: u32, first: impl FnOnce()) -> u32 {
    let next = numbers.len() as u32;
    *numbers.entry(known_as).or_insert_with(|| {
        first();
        next
    })
}

/// What takes the traces of a record: each with its runs, and the record's resources and scopes so far.
type TraceSink<'s, 'a> =
    dyn FnMut(TraceId, &'a [u8], &RecordTables<'a>) -> Result<(), DecodeError> + 's;

/// Reads a record of spans or traces from behind its sequence: gives `sink` each trace.
pub(super) fn decode_traces<'a>(
    r: &mut Reader<'a>,
    sink: &mut TraceSink<'_, 'a>,
) -> Result<(), DecodeError> {
    let mut tables = RecordTables::default();
    while !r.is_empty() {
        match r.u8()? {
            item::RESOURCE => tables.resources.push(r.bytes()?),
            item::SCOPE => tables.scopes.push(r.bytes()?),
            item::TRACE => {
                let mut id = [0; 16];
                id.copy_from_slice(r.take(16)?);
                sink(TraceId::new(id), r.bytes()?, &tables)?;
            }
            other => return Err(r.error(format!("unknown item {other}"))),
        }
    }
    Ok(())
}

/// Resources and scopes of a record, by number.
#[derive(Debug, Default)]
pub(super) struct RecordTables<'a> {
    resources: Vec<&'a [u8]>,
    scopes: Vec<&'a [u8]>,
}

impl<'a> RecordTables<'a> {
    /// What the run lies in.
    pub(super) fn of(&self, run: &Run<'_>) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
        let missing = |what: &str, n| {
            DecodeError::new("record of spans", 0, format!("{what} {n} is not there"))
        };
        let resource = self.resources.get(run.resource as usize);
        let scope = self.scopes.get(run.scope as usize);
        Ok((
            resource.ok_or_else(|| missing("resource", run.resource))?,
            scope.ok_or_else(|| missing("scope", run.scope))?,
        ))
    }
}

/// The tenant at the front of a record.
pub(super) fn record_tenant(r: &mut Reader<'_>) -> Result<TenantId, DecodeError> {
    let name = r.str()?;
    TenantId::new(name).map_err(|e| r.error(e.to_string()))
}
