//! A block appears whole or not at all, whatever the store does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::storage::{Backend, BackendKind, Bucket, DataKind, Layout, StorageSettings};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, ErrorKind, Result};
use lgtm_tsdb::block::{
    BlockId, BlockMeta, BlockReader, BlockReaderSettings, BlockWriter, BlockWriterSettings,
    MetaInput, ThanosMeta,
};
use lgtm_tsdb::chunk::{ChunkRef, Encoding};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};
use parking_lot::Mutex;

/// Fails the write request with number `fail_at` (from 0); notes the objects in the order in which they became visible.
#[derive(Debug)]
struct Failing {
    inner: InMemory,
    fail_at: usize,
    requests: Arc<AtomicUsize>,
    visible: Arc<Mutex<Vec<String>>>,
}

impl Failing {
    fn at(fail_at: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            fail_at,
            requests: Arc::default(),
            visible: Arc::default(),
        })
    }
}

fn next(requests: &AtomicUsize, fail_at: usize) -> object_store::Result<()> {
    match requests.fetch_add(1, Ordering::SeqCst) {
        n if n == fail_at => Err(object_store::Error::Generic {
            store: "failing",
            source: io::Error::new(io::ErrorKind::ConnectionReset, "asked to fail").into(),
        }),
        _ => Ok(()),
    }
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failing")
    }
}

#[derive(Debug)]
struct FailingUpload {
    inner: Box<dyn MultipartUpload>,
    path: String,
    fail_at: usize,
    requests: Arc<AtomicUsize>,
    visible: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl MultipartUpload for FailingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match next(&self.requests, self.fail_at) {
            Ok(()) => self.inner.put_part(data),
            Err(e) => Box::pin(async { Err(e) }),
        }
    }
    async fn complete(&mut self) -> object_store::Result<PutResult> {
        next(&self.requests, self.fail_at)?;
        self.visible.lock().push(self.path.clone());
        self.inner.complete().await
    }
    async fn abort(&mut self) -> object_store::Result<()> {
        self.inner.abort().await
    }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        next(&self.requests, self.fail_at)?;
        self.visible.lock().push(path.to_string());
        self.inner.put_opts(path, payload, opts).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        next(&self.requests, self.fail_at)?;
        Ok(Box::new(FailingUpload {
            inner: self.inner.put_multipart_opts(path, opts).await?,
            path: path.to_string(),
            fail_at: self.fail_at,
            requests: Arc::clone(&self.requests),
            visible: Arc::clone(&self.visible),
        }))
    }
    async fn get_opts(&self, path: &Path, opts: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(path, opts).await
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        opts: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, opts).await
    }
}

const ID: &str = "01M81S4Y5HSTNJNYGGEK41NWSC";

/// All of `store` as one bucket. What fails is not tried again.
fn bucket_over(store: Arc<dyn ObjectStore>) -> Bucket {
    let mut settings = StorageSettings {
        upload_concurrency: 2,
        ..StorageSettings::default()
    };
    settings.retry.max_attempts = 1;
    let layout = Layout::builder()
        .store(InMemory::new())
        .settings(settings)
        .store_for(
            DataKind::MetricBlocks,
            Backend::new(store, BackendKind::Memory),
        );
    layout.build().unwrap().bucket(DataKind::MetricBlocks)
}

fn writer(store: Arc<dyn ObjectStore>) -> BlockWriter {
    let values: Vec<String> = (0..200).map(|i| format!("v{i:03}")).collect();
    let symbols = ["", "job"]
        .into_iter()
        .chain(values.iter().map(String::as_str));
    let symbols = SymbolTable::from_sorted(symbols).unwrap();
    let settings = BlockWriterSettings {
        max_segment_bytes: 8000,
        flush_bytes: 1000,
        part_size: ByteSize::bytes(2500),
        ..BlockWriterSettings::default()
    };
    let id: BlockId = ID.parse().unwrap();
    let tenant = TenantId::new("tenant").unwrap();
    BlockWriter::new(bucket_over(store), &tenant, id, symbols, settings).unwrap()
}

/// Of ten samples, as far as its first two bytes say so.
fn chunk(data: &[u8]) -> ChunkRef<'_> {
    ChunkRef {
        min_ms: TimestampMs::new(100),
        max_ms: TimestampMs::new(199),
        encoding: Encoding::Xor,
        data,
    }
}

fn meta_input() -> MetaInput {
    MetaInput {
        min_ms: TimestampMs::new(100),
        max_ms: TimestampMs::new(200),
        level: 1,
        sources: Vec::new(),
        parents: Vec::new(),
        hints: Vec::new(),
        thanos: Some(ThanosMeta::new("receive", Default::default())),
    }
}

async fn write_block(store: Arc<dyn ObjectStore>) -> Result<Option<BlockMeta>> {
    let mut writer = writer(store);
    for i in 0..200 {
        let mut data = [i as u8; 90];
        data[..2].copy_from_slice(&[0, 10]);
        writer.add_series(&[(1, 2 + i)], &[chunk(&data)])?;
        if writer.wants_flush()
            && let Err(error) = writer.flush_pending().await
        {
            writer.abort().await;
            return Err(error);
        }
    }
    writer.finish(meta_input()).await
}

async fn objects(store: &dyn ObjectStore) -> Vec<String> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    listed.iter().map(|o| o.location.to_string()).collect()
}

#[tokio::test]
async fn a_failing_request_leaves_nothing_behind() {
    let whole = Failing::at(usize::MAX);
    write_block(Arc::clone(&whole) as _).await.unwrap().unwrap();
    let requests = whole.requests.load(Ordering::SeqCst);
    assert!(requests > 12, "{requests}");
    for fail_at in 0..requests {
        let store = Failing::at(fail_at);
        let error = write_block(Arc::clone(&store) as _).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(objects(&store.inner).await, [""; 0], "request {fail_at}");
    }
}

#[tokio::test]
async fn meta_becomes_visible_last_and_tells_every_file() {
    let store = Failing::at(usize::MAX);
    let meta = write_block(Arc::clone(&store) as _).await.unwrap().unwrap();
    let visible = store.visible.lock().clone();
    let relative: Vec<_> = visible
        .iter()
        .map(|p| p.strip_prefix(&format!("tenant/{ID}/")).unwrap())
        .collect();
    assert_eq!(
        relative,
        [
            "chunks/000001",
            "chunks/000002",
            "chunks/000003",
            "index",
            "meta.json"
        ]
    );
    let thanos = meta.thanos.as_ref().unwrap();
    assert!(
        thanos
            .files
            .iter()
            .map(|f| f.rel_path.as_str())
            .eq(relative)
    );
    for file in &thanos.files[..4] {
        let path = Path::parse(format!("tenant/{ID}/{}", file.rel_path)).unwrap();
        assert_eq!(store.head(&path).await.unwrap().size, file.size_bytes);
    }
    assert_eq!(thanos.segment_files, ["000001", "000002", "000003"]);
    assert_eq!(thanos.index_stats.chunk_max_size_bytes, Some(96));
    assert_eq!((meta.stats.num_series, meta.stats.num_samples), (200, 2000));
    assert_eq!(meta.compaction.sources, [meta.ulid]);

    let bucket = bucket_over(store);
    let folder = format!("tenant/{ID}");
    let block = BlockReader::open_object(&bucket, &folder, BlockReaderSettings::default())
        .await
        .unwrap();
    assert_eq!(block.meta(), &meta);
    let refs = block.index().postings("job", "v123").await.unwrap();
    let series = block.index().series(&refs).await.unwrap();
    let data = block.chunks().read(&series[0].chunks[..1]).await.unwrap();
    assert_eq!(data[0].data[2..], [123; 88]);
}

#[tokio::test]
async fn a_block_without_samples_is_not_written() {
    let store = Failing::at(usize::MAX);
    let mut empty = writer(Arc::clone(&store) as _);
    empty.add_series(&[(1, 2)], &[]).unwrap();
    empty.flush_pending().await.unwrap();
    assert_eq!(empty.finish(meta_input()).await.unwrap(), None);
    assert_eq!(objects(&store.inner).await, [""; 0]);
}

#[tokio::test]
async fn samples_outside_of_the_time_range_are_refused() {
    for (min_ms, max_ms) in [(101, 200), (100, 199)] {
        let store = Failing::at(usize::MAX);
        let mut writer = writer(Arc::clone(&store) as _);
        writer.add_series(&[(1, 2)], &[chunk(b"\0\nx")]).unwrap();
        let input = MetaInput {
            min_ms: min_ms.into(),
            max_ms: max_ms.into(),
            ..meta_input()
        };
        let error = writer.finish(input).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput(_)), "{error}");
        assert_eq!(objects(&store.inner).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_refused_series_leaves_the_writer_usable() {
    let store = Failing::at(usize::MAX);
    let mut writer = writer(Arc::clone(&store) as _);
    writer.add_series(&[(1, 3)], &[chunk(b"\0\nx")]).unwrap();
    assert!(writer.add_series(&[(1, 2)], &[chunk(b"\0\ny")]).is_err());
    assert!(
        writer
            .add_series(&[(1, 4)], &[chunk(b"\0\ny"), chunk(b"\0\ny")])
            .is_err()
    );
    writer.add_series(&[(1, 4)], &[chunk(b"\0\nz")]).unwrap();
    let meta = writer.finish(meta_input()).await.unwrap().unwrap();
    assert_eq!((meta.stats.num_series, meta.stats.num_chunks), (2, 2));
    // What was refused takes no room: a header and two chunks of three bytes.
    assert_eq!(meta.thanos.unwrap().files[0].size_bytes, 8 + 2 * 9);
}

#[tokio::test]
async fn aborting_deletes_the_segments_that_were_complete() {
    let store = Failing::at(usize::MAX);
    let mut writer = writer(Arc::clone(&store) as _);
    for i in 0..200 {
        writer
            .add_series(&[(1, 2 + i)], &[chunk(&[0; 90])])
            .unwrap();
    }
    writer.flush_pending().await.unwrap();
    assert_eq!(objects(&store.inner).await.len(), 2);
    writer.abort().await;
    assert_eq!(objects(&store.inner).await, [""; 0]);
    assert_eq!(store.list(None).count().await, 0);
}

#[tokio::test]
async fn the_futures_of_a_writer_may_change_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let store = Failing::at(usize::MAX);
    let mut writer = writer(store);
    writer.add_series(&[(1, 2)], &[chunk(b"\0\nx")]).unwrap();
    is_send(writer.flush_pending()).await.unwrap();
    assert!(
        is_send(writer.finish(meta_input()))
            .await
            .unwrap()
            .is_some()
    );
}
