//! The one wrapper around a back end: every request of a component passes here.
//!
//! Outermost first: the path is checked; failures that may pass are repeated ([`retry`](super::retry)); an open circuit refuses
//! ([`circuit`](super::circuit)); the request waits for a slot ([`slots`](super::slots)), is counted ([`meter`](super::meter)) and has
//! a deadline ([`deadline`](super::deadline)). Since it is an [`ObjectStore`] itself, code that takes one (`BufWriter`, Parquet
//! readers) gets all of that.
//!
//! Deleting what does not exist succeeds, as on S3, whatever the back end says.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, Result,
};

use crate::error::ErrorKind;
use crate::storage::backend::BackendKind;
use crate::storage::circuit::Circuit;
use crate::storage::deadline::within;
use crate::storage::fault::{self, Fault};
use crate::storage::guarded_read::{list_stream, resuming_body};
use crate::storage::guarded_upload::GuardedUpload;
use crate::storage::meter::{LIST_PAGE, Meter, Operation};
use crate::storage::object_path;
use crate::storage::ranges::{RangeRule, read_ranges};
use crate::storage::retry::{Repeat, Retry};
use crate::storage::settings::StorageSettings;
use crate::storage::slots::{Slot, Slots};

/// Objects deleted by one request where the back end can, S3's bound.
const DELETE_BATCH: usize = 1000;
/// Ranges of a local file of so many bytes in all are read by one hand-over to a blocking thread, which costs more than most of the reads. Large reads
/// stay apart, so that they run side by side, and so that no more is allocated for a range than its file has.
const LOCAL_BATCH_BYTES: u64 = 4 << 20;

/// A component's back end below its prefix, with all rules around it. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Guarded(Arc<GuardParts>);

#[derive(Debug)]
struct GuardParts {
    store: PrefixStore<Arc<dyn ObjectStore>>,
    kind: BackendKind,
    settings: StorageSettings,
    retry: Retry,
    circuit: Circuit,
    slots: Slots,
    meter: Meter,
}

impl Guarded {
    pub(super) fn new(
        store: PrefixStore<Arc<dyn ObjectStore>>,
        kind: BackendKind,
        settings: StorageSettings,
        retry: Retry,
        circuit: Circuit,
        meter: Meter,
    ) -> Self {
        let slots = Slots::new(&settings);
        Self(Arc::new(GuardParts {
            store,
            kind,
            settings,
            retry,
            circuit,
            slots,
            meter,
        }))
    }

    pub(super) fn kind(&self) -> BackendKind {
        self.0.kind
    }

    pub(super) fn settings(&self) -> &StorageSettings {
        &self.0.settings
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.0.meter
    }

    pub(super) fn retry(&self) -> &Retry {
        &self.0.retry
    }

    /// The store below, for what the streams of `guarded_read.rs` open by themselves.
    pub(super) fn store(&self) -> &dyn ObjectStore {
        &self.0.store
    }

    /// Sends a request once, under all rules but the repeating, and keeps its slot.
    pub(super) async fn once<T>(
        &self,
        operation: Operation,
        limit: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Slot)> {
        let inner = &*self.0;
        inner.circuit.check(operation)?;
        let slot = inner.slots.enter().await?;
        let sent = inner.meter.send(operation);
        let result = within(limit, work).await;
        sent.finish(result.as_ref().err());
        inner.circuit.record(operation, result.as_ref().err());
        Ok((result?, slot))
    }

    /// Sends a request until it succeeds or the rule says stop.
    async fn run<T, F>(
        &self,
        operation: Operation,
        repeat: Repeat,
        mut make: impl FnMut() -> F,
    ) -> Result<(T, Slot)>
    where
        F: Future<Output = Result<T>>,
    {
        let settings = &self.0.settings;
        let limit = match operation {
            Operation::Put | Operation::Copy | Operation::MultipartComplete => {
                settings.upload_timeout
            }
            _ => settings.request_timeout,
        };
        let mut tries = self.0.retry.begin(repeat);
        loop {
            match self.once(operation, limit, make()).await {
                Ok(done) => return Ok(done),
                Err(error) => tries.again_after(error).await?,
            }
        }
    }

    /// Opens an object, or the part of it that `options` say.
    pub(super) async fn open(
        &self,
        location: &Path,
        options: &GetOptions,
    ) -> Result<(GetResult, Slot)> {
        let operation = match options {
            GetOptions { head: true, .. } => Operation::Head,
            GetOptions { range: Some(_), .. } => Operation::GetRange,
            _ => Operation::Get,
        };
        self.run(operation, Repeat::Always, || {
            self.0.store.get_opts(location, options.clone())
        })
        .await
    }

    /// Reads ranges of a file of a local disk, which is opened once, by one blocking thread. Each counts as a request.
    async fn local_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let work = || {
            let more = ranges.len().saturating_sub(1);
            self.0.meter.count(Operation::GetRange, more);
            self.0.store.get_ranges(location, ranges)
        };
        let (parts, _slot) = self.run(Operation::GetRange, Repeat::Always, work).await?;
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.0.meter.read(bytes);
        Ok(parts)
    }

    async fn delete_one(&self, location: Path) -> Result<Path> {
        let work = || async {
            match self.0.store.delete(&location).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                result => result,
            }
        };
        self.run(Operation::Delete, Repeat::Always, work).await?;
        Ok(location)
    }

    /// Deletes many by as few requests as the back end can; what failed in a way that may pass is tried again one by one.
    async fn delete_batch(&self, batch: Vec<Result<Path>>) -> Vec<Result<Path>> {
        let (mut locations, mut results) = (
            Vec::with_capacity(batch.len()),
            Vec::with_capacity(batch.len()),
        );
        for location in batch {
            match location.and_then(|location| checked(&location).map(|()| location)) {
                Ok(location) => locations.push(location),
                Err(error) => results.push(Err(error)),
            }
        }
        match &locations[..] {
            [] => return results,
            [one] => {
                results.push(self.delete_one(one.clone()).await);
                return results;
            }
            _ => {}
        }
        let all = stream::iter(locations.clone()).map(Ok).boxed();
        let work = async { Ok(self.0.store.delete_stream(all).collect::<Vec<_>>().await) };
        let answers = match self
            .once(Operation::Delete, self.0.settings.upload_timeout, work)
            .await
        {
            Ok((answers, _slot)) => answers,
            Err(_) => Vec::new(),
        };
        self.0
            .meter
            .count(Operation::Delete, locations.len().saturating_sub(1));
        // Answers come in the order of the question; a failed batch may give fewer.
        let mut answers = answers.into_iter();
        for location in locations {
            match answers.next() {
                Some(Ok(_)) | Some(Err(object_store::Error::NotFound { .. })) => {
                    results.push(Ok(location))
                }
                _ => results.push(self.delete_one(location).await),
            }
        }
        results
    }
}

fn checked(location: &Path) -> Result<()> {
    object_path::check(location).map_err(|why| {
        let path = location.to_string();
        Fault::BadPath { path, why }.into()
    })
}

/// A conditional write done twice would meet itself.
fn repeat_of_put(mode: &PutMode) -> Repeat {
    match mode {
        PutMode::Overwrite => Repeat::Always,
        PutMode::Create | PutMode::Update(_) => Repeat::IfRefused,
    }
}

#[async_trait::async_trait]
impl ObjectStore for Guarded {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        checked(location)?;
        let repeat = repeat_of_put(&options.mode);
        let work = || {
            self.0
                .store
                .put_opts(location, payload.clone(), options.clone())
        };
        let (result, _slot) = self.run(Operation::Put, repeat, work).await?;
        self.0.meter.written(payload.content_length());
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        checked(location)?;
        let options = self.0.kind.with_part_retries(options, &self.0.retry);
        let work = || self.0.store.put_multipart_opts(location, options.clone());
        // A second try after a lost answer leaves an upload without parts behind, which a bucket's lifecycle rule removes.
        let (upload, _slot) = self
            .run(Operation::MultipartCreate, Repeat::Always, work)
            .await?;
        Ok(Box::new(GuardedUpload::new(self.clone(), upload)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        checked(location)?;
        let (result, slot) = self.open(location, &options).await?;
        if options.head {
            return Ok(result);
        }
        Ok(resuming_body(
            self.clone(),
            location.clone(),
            options,
            result,
            slot,
        ))
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        checked(location)?;
        let rule = match self.0.kind {
            BackendKind::File => RangeRule {
                gap: 0,
                batch_bytes: LOCAL_BATCH_BYTES,
            },
            _ => RangeRule {
                gap: self.0.settings.coalesce_gap.as_u64(),
                batch_bytes: 0,
            },
        };
        let fetch = |batch: Vec<Range<u64>>| async move {
            let bytes: u64 = batch.iter().map(|r| r.end - r.start).sum();
            // `object_store`'s local disk allocates whatever length it is asked for, but for single ranges.
            if self.0.kind == BackendKind::File && bytes <= LOCAL_BATCH_BYTES {
                match self.local_ranges(location, &batch).await {
                    // Of a file that ends before one of the ranges, single reads tell more.
                    Err(e)
                        if fault::kind_of(&e) == ErrorKind::Internal && !fault::is_denied(&e) => {}
                    told => return told,
                }
            }
            let mut out = Vec::with_capacity(batch.len());
            for range in batch {
                out.push(self.get_range(location, range).await?);
            }
            Ok(out)
        };
        read_ranges(ranges, rule, fetch).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .chunks(DELETE_BATCH)
            .then(move |batch| {
                let this = this.clone();
                async move { stream::iter(this.delete_batch(batch).await) }
            })
            .flatten()
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(Err(error)) = prefix.map(checked) {
            return stream::once(async { Err(error) }).boxed();
        }
        list_stream(self.clone(), prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(Err(error)) = prefix.map(checked) {
            return stream::once(async { Err(error) }).boxed();
        }
        list_stream(self.clone(), prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        prefix.map_or(Ok(()), checked)?;
        let work = || self.0.store.list_with_delimiter(prefix);
        let (result, _slot) = self.run(Operation::List, Repeat::Always, work).await?;
        let entries = result.objects.len() + result.common_prefixes.len();
        self.0
            .meter
            .count(Operation::List, entries.saturating_sub(1) / LIST_PAGE);
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        checked(from)?;
        checked(to)?;
        let repeat = match options.mode {
            CopyMode::Overwrite => Repeat::Always,
            CopyMode::Create => Repeat::IfRefused,
        };
        let work = || self.0.store.copy_opts(from, to, options.clone());
        self.run(Operation::Copy, repeat, work).await?;
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        checked(from)?;
        checked(to)?;
        let work = || self.0.store.rename_opts(from, to, options.clone());
        self.run(Operation::Copy, Repeat::IfRefused, work).await?;
        Ok(())
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({})", self.0.store)
    }
}
