//! An object store that fails on purpose, the same way again for the same seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::give_way::give_way;
use crate::storage::Jitter;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFault {
    /// The connection breaks before anything is done.
    Reset,
    /// The request is done, and then the connection breaks.
    LostAck,
    /// The store is too busy (S3's `SlowDown`); nothing is done.
    Throttled,
    /// Keys or policy do not allow it; nothing is done.
    Denied,
    /// No answer, ever; nothing is done.
    Hang,
    /// One bit of what a read brings is wrong, once; the object is as it was. Nothing happens to other requests.
    FlippedBit,
}

/// How often what goes wrong. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// Share of requests that end in [`StoreFault::Reset`].
    pub reset: f64,
    /// Share of requests that end in [`StoreFault::LostAck`].
    pub lost_ack: f64,
    /// Share of requests that end in [`StoreFault::Throttled`].
    pub throttled: f64,
    /// Share of bodies and listings that break in the middle.
    pub broken_body: f64,
    /// Every request is denied, as long as this stands.
    pub denied: bool,
    /// How often a request lets other tasks go first, at most, before it is done and as often after: interleaves tasks without time.
    pub pauses: u32,
    /// How long a request takes, in tokio's time.
    pub latency: Option<Range<Duration>>,
    /// Listings show the store as it was so long ago.
    pub stale_lists: Duration,
}

/// Wraps a store; clones share plan, script and counts.
///
/// Prints its seed when it is dropped by a panicking test: the same seed and the same requests in the same order fail in the same way.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

struct Shared {
    seed: u64,
    dice: Jitter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: FaultPlan,
    script: VecDeque<Option<StoreFault>>,
    /// Numbers of requests, and what goes wrong with them.
    numbered: Vec<(Range<u64>, StoreFault)>,
    requests: BTreeMap<&'static str, u64>,
    faults: u64,
    /// What each recently changed object was before the change, oldest change first.
    changes: VecDeque<(Instant, Path, Option<ObjectMeta>)>,
}

impl FaultyStore {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        let shared = Shared {
            seed,
            dice: Jitter::seeded(seed),
            state: Mutex::default(),
        };
        Self {
            inner,
            shared: Arc::new(shared),
        }
    }

    /// Fails by this plan from now on.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.shared.state.lock().plan = plan;
    }

    /// What happens to the next requests, one entry each (`None`: nothing); after them the plan counts again.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<StoreFault>>) {
        self.shared.state.lock().script.extend(faults);
    }

    /// What happens to the requests with these numbers, as [`FaultyStore::all_requests`] counts: the next one has that number and one more.
    /// Goes before script and plan.
    pub fn fail_numbers(&self, numbers: Range<u64>, fault: StoreFault) {
        self.shared.state.lock().numbered.push((numbers, fault));
    }

    /// Nothing goes wrong from now on.
    pub fn heal(&self) {
        let mut state = self.shared.state.lock();
        state.numbered.clear();
        state.script.clear();
        state.plan = FaultPlan::default();
    }

    /// Requests seen so far by this name (`put`, `get`, `head`, `get_ranges`, `delete`, `list`, `copy`, `multipart_create`,
    /// `multipart_part`, `multipart_complete`, `multipart_abort`).
    pub fn requests(&self, operation: &str) -> u64 {
        self.shared
            .state
            .lock()
            .requests
            .get(operation)
            .copied()
            .unwrap_or(0)
    }

    /// Requests seen so far.
    pub fn all_requests(&self) -> u64 {
        self.shared.state.lock().requests.values().sum()
    }

    /// Faults injected so far.
    pub fn faults(&self) -> u64 {
        self.shared.state.lock().faults
    }
}

impl Shared {
    fn decide(&self, operation: &'static str) -> (Option<StoreFault>, Option<Duration>) {
        let mut state = self.state.lock();
        *state.requests.entry(operation).or_default() += 1;
        let number = state.requests.values().sum();
        let latency = state.plan.latency.clone().map(|range| {
            let width = range.end.saturating_sub(range.start);
            range.start + width.mul_f64(self.dice.next_unit())
        });
        let mut numbered = state.numbered.iter();
        let fault = match numbered.find(|(numbers, _)| numbers.contains(&number)) {
            Some((_, fault)) => Some(*fault),
            None => state
                .script
                .pop_front()
                .unwrap_or_else(|| self.roll(&state.plan)),
        };
        state.faults += u64::from(fault.is_some());
        (fault, latency)
    }

    fn roll(&self, plan: &FaultPlan) -> Option<StoreFault> {
        if plan.denied {
            return Some(StoreFault::Denied);
        }
        let mut point = self.dice.next_unit();
        let shares = [
            (plan.reset, StoreFault::Reset),
            (plan.lost_ack, StoreFault::LostAck),
            (plan.throttled, StoreFault::Throttled),
        ];
        for (share, fault) in shares {
            if point < share {
                return Some(fault);
            }
            point -= share;
        }
        None
    }

    fn breaks_body(&self) -> bool {
        let mut state = self.state.lock();
        let share = state.plan.broken_body;
        let breaks = share > 0.0 && self.dice.next_unit() < share;
        state.faults += u64::from(breaks);
        breaks
    }

    /// Lets others go first, now and then.
    async fn pause(&self) {
        let most = u64::from(self.state.lock().plan.pauses);
        if most > 0 {
            for _ in 0..self.dice.next_u64() % (most + 1) {
                give_way().await;
            }
        }
    }

    /// Runs `work` with whatever goes wrong.
    async fn disturb<T>(
        &self,
        operation: &'static str,
        path: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (result, _) = self.disturb_read(operation, path, work).await?;
        Ok(result)
    }

    /// Runs `work` with whatever goes wrong, and says whether a bit of the result is to be flipped.
    async fn disturb_read<T>(
        &self,
        operation: &'static str,
        path: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, bool)> {
        let (fault, latency) = self.decide(operation);
        if let Some(latency) = latency {
            tokio::time::sleep(latency).await;
        }
        self.pause().await;
        match fault {
            None | Some(StoreFault::FlippedBit) => {
                let result = work.await?;
                self.pause().await;
                Ok((result, fault.is_some()))
            }
            Some(StoreFault::LostAck) => {
                work.await?;
                self.pause().await;
                Err(reset())
            }
            Some(StoreFault::Reset) => Err(reset()),
            Some(StoreFault::Throttled) => Err(generic("status code: 503 (SlowDown)".into())),
            Some(StoreFault::Denied) => Err(Error::PermissionDenied {
                path: path.into(),
                source: "AccessDenied (injected)".into(),
            }),
            Some(StoreFault::Hang) => std::future::pending().await,
        }
    }
}

impl Shared {
    /// The same bytes but for one bit.
    fn flip(&self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        let dice = self.dice.next_u64() as usize;
        if !bytes.is_empty() {
            let at = dice % bytes.len();
            bytes[at] ^= 1 << ((dice >> 32) & 7);
        }
        bytes.into()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "FaultyStore: seed {} ({} faults)",
                self.seed,
                self.state.lock().faults
            );
        }
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic {
        store: "FaultyStore",
        source,
    }
}

fn reset() -> Error {
    let kind = io::ErrorKind::ConnectionReset;
    generic(Box::new(io::Error::new(
        kind,
        "connection reset (injected)",
    )))
}

impl FaultyStore {
    /// Remembers what `path` was, for stale listings.
    async fn before_change(&self, path: &Path) {
        let lag = self.shared.state.lock().plan.stale_lists;
        if lag.is_zero() {
            return;
        }
        let before = self.inner.head(path).await.ok();
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        while state
            .changes
            .front()
            .is_some_and(|(at, ..)| *at + lag <= now)
        {
            state.changes.pop_front();
        }
        state.changes.push_back((now, path.clone(), before));
    }

    /// Everything below `prefix` as it was `stale_lists` ago, by name.
    async fn stale_view(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let now: Vec<_> = self.inner.list(prefix).try_collect().await?;
        let mut view: BTreeMap<Path, ObjectMeta> =
            now.into_iter().map(|m| (m.location.clone(), m)).collect();
        let state = self.shared.state.lock();
        let lag = state.plan.stale_lists;
        // Undone newest first, so that the oldest change in the window has the last word.
        for (at, path, before) in state.changes.iter().rev() {
            let inside = prefix.is_none_or(|prefix| path.prefix_matches(prefix));
            if !inside || at.elapsed() >= lag {
                continue;
            }
            match before {
                Some(meta) => view.insert(path.clone(), meta.clone()),
                None => view.remove(path),
            };
        }
        Ok(view.into_values().collect())
    }

    fn list_after(
        &self,
        prefix: Option<&Path>,
        offset: Option<Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let entries = async move {
            let view = this.stale_view(prefix.as_ref());
            let view = this.shared.disturb("list", "", view).await?;
            let kept = view
                .into_iter()
                .filter(|m| offset.as_ref().is_none_or(|o| m.location > *o));
            let mut entries: Vec<_> = kept.map(Ok).collect();
            if this.shared.breaks_body() {
                entries.truncate(entries.len() / 2);
                entries.push(Err(reset()));
            }
            Ok::<_, Error>(stream::iter(entries))
        };
        stream::once(entries).try_flatten().boxed()
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let work = async {
            self.before_change(location).await;
            self.inner.put_opts(location, payload, options).await
        };
        self.shared.disturb("put", location.as_ref(), work).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let work = self.inner.put_multipart_opts(location, options);
        let upload = self
            .shared
            .disturb("multipart_create", location.as_ref(), work)
            .await?;
        Ok(Box::new(FaultyUpload {
            store: self.clone(),
            location: location.clone(),
            upload,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let work = self.inner.get_opts(location, options);
        let name = if head { "head" } else { "get" };
        let disturbed = self.shared.disturb_read(name, location.as_ref(), work);
        let (result, flips) = disturbed.await?;
        let breaks = !head && self.shared.breaks_body();
        if head || !(breaks || flips) {
            return Ok(result);
        }
        let (meta, range, attributes) = (
            result.meta.clone(),
            result.range.clone(),
            result.attributes.clone(),
        );
        let mut bytes = result.bytes().await?;
        if flips {
            bytes = self.shared.flip(&bytes);
        }
        let pieces = if breaks {
            vec![Ok(bytes.slice(..bytes.len() / 2)), Err(reset())]
        } else {
            vec![Ok(bytes)]
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter(pieces).boxed()),
            meta,
            range,
            attributes,
            extensions: Default::default(),
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut pieces = Vec::with_capacity(ranges.len());
        // Each may fail by itself, as those that are read one by one.
        for range in ranges {
            let work = self.inner.get_ranges(location, std::slice::from_ref(range));
            let disturbed = self
                .shared
                .disturb_read("get_ranges", location.as_ref(), work);
            let (mut read, flips) = disturbed.await?;
            if flips && let Some(first) = read.first_mut() {
                *first = self.shared.flip(first);
            }
            if self.shared.breaks_body() {
                return Err(reset());
            }
            pieces.append(&mut read);
        }
        Ok(pieces)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let work = async {
                        this.before_change(&location).await;
                        this.inner.delete(&location).await
                    };
                    this.shared
                        .disturb("delete", location.as_ref(), work)
                        .await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let view = self
            .shared
            .disturb("list", "", self.stale_view(prefix))
            .await?;
        let depth = prefix.map_or(0, Path::parts_count);
        let mut folders = BTreeSet::new();
        let mut objects = Vec::new();
        for meta in view {
            if meta.location.parts_count() == depth + 1 {
                objects.push(meta);
            } else {
                folders.insert(meta.location.parts().take(depth + 1).collect::<Path>());
            }
        }
        Ok(ListResult {
            common_prefixes: folders.into_iter().collect(),
            objects,
            extensions: Default::default(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let work = async {
            self.before_change(to).await;
            self.inner.copy_opts(from, to, options).await
        };
        self.shared.disturb("copy", from.as_ref(), work).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    store: FaultyStore,
    location: Path,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait::async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.upload.put_part(data);
        let (store, path) = (self.store.clone(), self.location.to_string());
        Box::pin(async move { store.shared.disturb("multipart_part", &path, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let work = async {
            self.store.before_change(&self.location).await;
            self.upload.complete().await
        };
        self.store
            .shared
            .disturb("multipart_complete", self.location.as_ref(), work)
            .await
    }

    async fn abort(&mut self) -> Result<()> {
        let work = self.upload.abort();
        self.store
            .shared
            .disturb("multipart_abort", self.location.as_ref(), work)
            .await
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("seed", &self.shared.seed)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore(seed {}, {})", self.shared.seed, self.inner)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seed_replays_the_same_faults() {
        let run = async |seed| {
            let store = FaultyStore::new(Arc::new(InMemory::new()), seed);
            store.set_plan(FaultPlan {
                reset: 0.2,
                lost_ack: 0.2,
                ..Default::default()
            });
            let mut failed = Vec::new();
            for _ in 0..100 {
                failed.push(store.put(&Path::from("a"), "x".into()).await.is_err());
            }
            assert_eq!(failed.iter().filter(|f| **f).count() as u64, store.faults());
            failed
        };
        let first = run(5).await;
        assert_eq!(first, run(5).await);
        assert_ne!(first, run(6).await);
        let failures = first.iter().filter(|f| **f).count();
        assert!((20..60).contains(&failures), "{failures}");
    }

    #[tokio::test(start_paused = true)]
    async fn stale_lists_show_the_past() {
        let store = FaultyStore::new(Arc::new(InMemory::new()), 1);
        store.put(&Path::from("d/old"), "x".into()).await.unwrap();
        store.set_plan(FaultPlan {
            stale_lists: Duration::from_secs(5),
            ..Default::default()
        });
        store.put(&Path::from("d/new"), "x".into()).await.unwrap();
        store.delete(&Path::from("d/old")).await.unwrap();
        let names = async || {
            let found: Vec<_> = store
                .list(None)
                .map_ok(|m| m.location.to_string())
                .try_collect()
                .await
                .unwrap();
            let level = store
                .list_with_delimiter(Some(&Path::from("d")))
                .await
                .unwrap();
            assert_eq!(level.objects.len(), found.len());
            found
        };
        assert_eq!(names().await, ["d/old"]);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(names().await, ["d/new"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_ack_is_done_and_a_reset_is_not() {
        let store = FaultyStore::new(Arc::new(InMemory::new()), 1);
        store.script([Some(StoreFault::Reset), Some(StoreFault::LostAck)]);
        assert!(store.put(&Path::from("a"), "x".into()).await.is_err());
        assert!(store.inner.head(&Path::from("a")).await.is_err());
        assert!(store.put(&Path::from("a"), "x".into()).await.is_err());
        assert!(store.inner.head(&Path::from("a")).await.is_ok());
        assert_eq!((store.requests("put"), store.faults()), (2, 2));
    }

    #[tokio::test]
    async fn a_flipped_bit_spoils_one_read_and_not_the_object() {
        let store = FaultyStore::new(Arc::new(InMemory::new()), 1);
        let path = Path::from("a");
        store.put(&path, "0123456789".into()).await.unwrap();
        let next = store.all_requests() + 1;
        store.fail_numbers(next..next + 2, StoreFault::FlippedBit);
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
        let piece = store.get_ranges(&path, &[2..5, 0..1]).await.unwrap();
        for (read, wanted) in [(&whole[..], &b"0123456789"[..]), (&piece[0][..], b"234")] {
            let bits = read.iter().zip(wanted).map(|(a, b)| (a ^ b).count_ones());
            assert_eq!((read.len(), bits.sum::<u32>()), (wanted.len(), 1));
        }
        let again = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(again, "0123456789");
    }

    #[tokio::test]
    async fn faults_by_number_end_and_a_healed_store_has_none() {
        let store = FaultyStore::new(Arc::new(InMemory::new()), 1);
        let put = async || store.put(&Path::from("a"), "x".into()).await.is_ok();
        store.fail_numbers(2..4, StoreFault::Denied);
        assert_eq!(
            [put().await, put().await, put().await, put().await],
            [true, false, false, true]
        );
        store.set_plan(FaultPlan {
            reset: 1.0,
            ..Default::default()
        });
        assert!(!put().await);
        store.heal();
        assert!(put().await);
    }
}
