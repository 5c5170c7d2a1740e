//! Every request to object storage is counted: requests are money, and a budget that tests hold.
//!
//! Counted are requests as they go to the back end, repeats included. A listing counts one request per 1000 entries, S3's page, also
//! on back ends that would need fewer; a delete counts each object.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::storage::data_kind::DataKind;
use crate::storage::fault;
use crate::telemetry::{Counter, Family, Histogram, Registry};

/// Entries per request of a listing, as S3 pages them.
pub(super) const LIST_PAGE: usize = 1000;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Reading a whole object.
    Get,
    /// Reading a part of an object.
    GetRange,
    /// Asking for an object's size and date.
    Head,
    /// Writing an object at once.
    Put,
    /// Copying or renaming within the store.
    Copy,
    /// Beginning an upload in parts.
    MultipartCreate,
    /// Sending one part.
    MultipartPart,
    /// Joining the parts.
    MultipartComplete,
    /// Giving the parts up.
    MultipartAbort,
    /// One page of a listing.
    List,
    /// Deleting one object.
    Delete,
}

impl Operation {
    const ALL: [Self; 11] = [
        Self::Get,
        Self::GetRange,
        Self::Head,
        Self::Put,
        Self::Copy,
        Self::MultipartCreate,
        Self::MultipartPart,
        Self::MultipartComplete,
        Self::MultipartAbort,
        Self::List,
        Self::Delete,
    ];

    /// The label `operation` of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::GetRange => "get_range",
            Self::Head => "head",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::MultipartCreate => "multipart_create",
            Self::MultipartPart => "multipart_part",
            Self::MultipartComplete => "multipart_complete",
            Self::MultipartAbort => "multipart_abort",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// The counters of one component.
#[derive(Debug)]
pub(super) struct Meter {
    component: DataKind,
    clock: Arc<dyn Clock>,
    /// By the operation's number.
    operations: Vec<PerOperation>,
    failures: Arc<Family<Counter, 3>>,
    read_bytes: Arc<Counter>,
    written_bytes: Arc<Counter>,
}

#[derive(Debug)]
struct PerOperation {
    count: Arc<Counter>,
    duration: Arc<Histogram>,
}

impl Meter {
    pub(super) fn new(
        component: DataKind,
        registry: &Registry,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let counts = registry.counter_vec(
            "lgtm_objstore_operations_total",
            "Requests sent to object storage, repeats included.",
            &["component", "operation"],
        )?;
        let durations = registry.histogram_vec(
            "lgtm_objstore_operation_duration_seconds",
            "Time until object storage answered; the body of a streamed object comes after.",
            &["component", "operation"],
            &Histogram::LATENCY_SECONDS,
        )?;
        let failures = registry.counter_vec(
            "lgtm_objstore_operation_failures_total",
            "Requests to object storage that failed. A missing object is not_found, a caller that went away cancelled.",
            &["component", "operation", "kind"],
        )?;
        let bytes = registry.counter_vec(
            "lgtm_objstore_bytes_total",
            "Bytes read from and written to object storage.",
            &["component", "direction"],
        )?;
        let name = component.as_str();
        let operations = Operation::ALL.map(|operation| PerOperation {
            count: counts.with(&[name, operation.as_str()]),
            duration: durations.with(&[name, operation.as_str()]),
        });
        Ok(Self {
            component,
            clock,
            operations: operations.into(),
            failures,
            read_bytes: bytes.with(&[name, "read"]),
            written_bytes: bytes.with(&[name, "written"]),
        })
    }

    /// One request goes out. Dropping the answer's guard before it is finished counts as cancelled.
    pub(super) fn send(&self, operation: Operation) -> Sent<'_> {
        self.count(operation, 1);
        Sent {
            meter: self,
            operation,
            since: self.clock.monotonic(),
            finished: false,
        }
    }

    /// Further requests of the same call, which are not timed.
    pub(super) fn count(&self, operation: Operation, n: usize) {
        self.operations[operation as usize].count.add(n as u64);
    }

    pub(super) fn failed(&self, operation: Operation, kind: ErrorKind) {
        let labels = [self.component.as_str(), operation.as_str(), kind.as_str()];
        self.failures.with(&labels).inc();
    }

    pub(super) fn read(&self, bytes: u64) {
        self.read_bytes.add(bytes);
    }

    pub(super) fn written(&self, bytes: usize) {
        self.written_bytes.add(bytes as u64);
    }
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    meter: &'a Meter,
    operation: Operation,
    since: Duration,
    finished: bool,
}

impl Sent<'_> {
    /// The answer, or the failure, is here.
    pub(super) fn finish(mut self, failure: Option<&object_store::Error>) {
        self.finished = true;
        let took = self.meter.clock.monotonic().saturating_sub(self.since);
        self.meter.operations[self.operation as usize]
            .duration
            .observe_duration(took);
        if let Some(error) = failure {
            self.meter.failed(self.operation, fault::kind_of(error));
        }
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.meter.failed(self.operation, ErrorKind::Cancelled);
        }
    }
}
