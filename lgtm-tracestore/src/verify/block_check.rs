//! A block against its meta, its footer and what stands beside its data.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, Fault, Findings, ObjectFile, ObjectInfo, ReadAt, ReadPlan};
use lgtm_core::{Error, ErrorKind, Result};

use super::group_check::{GroupCheck, GroupFacts};
use crate::block::{
    BlockMeta, COMPACTED_META, DATA, META, ROW_GROUP_INDEX, RowGroupIndex, bloom_name,
};
use crate::block_id::BlockId;
use crate::bloom::{BloomShard, shard_of};
use crate::schema::{BlockFile, BlockVersion, FetchedRanges, RowPlan};
use crate::skip::{SKIP_FILE, SkipIndex, SkipOrigin};
use crate::trace::TraceId;

/// Bytes that a row group may take in memory, packed and unpacked: that of a large one of Tempo's is a fifth of it.
pub(super) const MAX_GROUP_BYTES: usize = 2 << 30;
/// Bytes that a footer may take in memory.
const MAX_FOOTER_BYTES: usize = 256 << 20;
/// Most shards of a bloom filter; Tempo makes no more.
const MAX_BLOOMS: u32 = 1000;
/// What 0 shards stand for.
const OLD_BLOOMS: u32 = 10;
/// Nanoseconds of a second.
const SECOND_NS: i64 = 1_000_000_000;

/// What was found in a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifiedBlock {
    /// Traces.
    pub traces: u64,
    /// Spans.
    pub spans: u64,
    /// Row groups.
    pub row_groups: u64,
    /// Bytes of all objects of the block.
    pub bytes: u64,
}

/// Reads all of a tenant's block and adds what is wrong with it to `findings`.
///
/// Checked are: the meta against its place, the sizes, the counts and the times of the data; the footer; each column's pages, levels, counts, bounds and page indexes; every trace, by
/// putting it together; the order of ids; the row group index; that the bloom filter lets every id through, and the side file every name and text value of
/// the attributes of resources and spans.
///
/// Costs a read of all its bytes; memory is that of a row group, and of the bloom filter.
///
/// # Errors
/// Those that say nothing of the block: a store that does not answer. Dropping the future ends the check.
pub async fn verify_block(
    bucket: &Bucket,
    tenant: &TenantId,
    block: BlockId,
    executor: &Executor,
    findings: &mut Findings,
) -> Result<VerifiedBlock> {
    let folder = format!("{tenant}/{block}");
    let objects: Vec<ObjectInfo> = bucket.list(&folder).try_collect().await?;
    let mut found = VerifiedBlock {
        bytes: objects.iter().map(|o| o.size_bytes).sum(),
        ..VerifiedBlock::default()
    };
    let name_of =
        |o: &ObjectInfo| Some(o.path.strip_prefix(&folder)?.strip_prefix('/')?.to_owned());
    let sizes: BTreeMap<String, u64> = (objects.iter())
        .filter_map(|o| Some((name_of(o)?, o.size_bytes)))
        .collect();
    let is_live = sizes.contains_key(META);
    let meta_name = match (is_live, sizes.contains_key(COMPACTED_META)) {
        (true, _) => META,
        (false, true) => COMPACTED_META,
        (false, false) => {
            let (fault, detail) = match sizes.is_empty() {
                true => (Fault::Missing, "there is no such block".to_owned()),
                false => (
                    Fault::Leftover,
                    format!("{} objects without a meta.json", sizes.len()),
                ),
            };
            findings.add(folder, fault, detail);
            return Ok(found);
        }
    };
    let meta_path = format!("{folder}/{meta_name}");
    let read = bucket.get(&meta_path).await;
    let decoded = read.and_then(|bytes| {
        BlockMeta::decode(&bytes).map_err(|e| Error::corrupt(meta_path.as_str(), e))
    });
    let Some(meta) = findings.good(&meta_path, decoded)? else {
        return Ok(found);
    };
    if meta.block_id != block || meta.tenant_id != tenant.as_str() {
        let detail = format!(
            "it is the meta of block {} of tenant {:?}",
            meta.block_id, meta.tenant_id
        );
        findings.add(&meta_path, Fault::WrongPlace, detail);
        return Ok(found);
    }
    if !is_live && !sizes.contains_key(DATA) {
        // Deletion takes the meta last.
        findings.add(folder, Fault::Leftover, "a superseded block without data");
        return Ok(found);
    }
    let mut check = BlockCheck {
        bucket,
        executor,
        folder,
        sizes,
        meta,
        meta_path,
        findings,
        blooms: Vec::new(),
    };
    check.all(&mut found).await?;
    Ok(found)
}

struct BlockCheck<'a> {
    bucket: &'a Bucket,
    executor: &'a Executor,
    folder: String,
    sizes: BTreeMap<String, u64>,
    meta: BlockMeta,
    meta_path: String,
    findings: &'a mut Findings,
    /// Shards that were read; `None` for those that cannot be.
    blooms: Vec<Option<Bytes>>,
}

impl BlockCheck<'_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    async fn all(&mut self, found: &mut VerifiedBlock) -> Result<()> {
        let data = self.path(DATA);
        let Some(&size) = self.sizes.get(DATA) else {
            self.findings
                .add(data, Fault::Missing, "meta.json speaks of it");
            return Ok(());
        };
        if size != self.meta.size_bytes {
            let detail = format!("{size} bytes, meta.json says {}", self.meta.size_bytes);
            self.findings.add(&data, Fault::WrongSize, detail);
        }
        let version = match BlockVersion::of_name(&self.meta.format) {
            Ok(version) => version,
            Err(e) => return self.findings.add_error(&self.meta_path, e),
        };
        let file: Arc<dyn ReadAt> = Arc::new(ObjectFile::new(self.bucket, &data, size)?);
        let Some(footer) = self.footer(&data, &*file, size).await? else {
            return Ok(());
        };
        self.counts(&footer);
        self.read_blooms().await?;
        let index = self.row_group_index(&footer).await?;
        let skip = self.side_file().await?;
        let mut before: Option<TraceId> = None;
        for number in 0..footer.row_groups.len() {
            let fetched = fetch(&*file, &footer, number).await;
            let Some(fetched) = self.findings.good(&data, fetched)? else {
                continue;
            };
            let job = GroupCheck {
                file: Arc::clone(&footer),
                number,
                version,
                meta: self.meta.clone(),
                skip: skip.clone(),
            };
            let facts = self.look(job, fetched).await;
            let Some(facts) = self.findings.good(&data, facts)? else {
                continue;
            };
            found.row_groups += 1;
            found.traces += facts.ids.len() as u64;
            found.spans += facts.spans;
            self.group(number, &facts, before, index.as_ref());
            before = facts.ids.last().copied().or(before);
        }
        Ok(())
    }

    /// Goes through a row group on the compute pool.
    async fn look(&self, job: GroupCheck, fetched: FetchedRanges) -> Result<GroupFacts> {
        let place = self.path(DATA);
        let run = move |_: &CancelToken| {
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(MAX_GROUP_BYTES, &mut grow);
            match job.look(&fetched, &mut allowance) {
                Ok(facts) => Ok(facts),
                Err(DecodeFail::Broken(e)) => Err(Error::corrupt(place, e)),
                Err(DecodeFail::Refused(e)) => Err(e),
            }
        };
        self.executor.run(run, &CancelToken::new()).await
    }

    async fn footer(
        &mut self,
        path: &str,
        file: &dyn ReadAt,
        size: u64,
    ) -> Result<Option<Arc<BlockFile>>> {
        let footer_bytes = self.meta.footer_size_bytes;
        let (place, executor) = (path.to_owned(), self.executor);
        let decoded = async move {
            let range = BlockFile::footer_range(size, footer_bytes)
                .map_err(|e| Error::corrupt(place.as_str(), e))?;
            let bytes = file.read(range).await?;
            let job = move |_: &CancelToken| {
                let mut grow = |_| Ok(());
                let mut allowance = Allowance::new(MAX_FOOTER_BYTES, &mut grow);
                match BlockFile::decode(&bytes, size, &mut allowance) {
                    Ok(file) => Ok(Arc::new(file)),
                    Err(DecodeFail::Broken(e)) => Err(Error::corrupt(place, e)),
                    Err(DecodeFail::Refused(e)) => Err(e),
                }
            };
            executor.run::<_, Error>(job, &CancelToken::new()).await
        };
        let decoded = decoded.await;
        self.findings.good(path, decoded)
    }

    fn counts(&mut self, footer: &BlockFile) {
        let meta = &self.meta;
        let row_groups = footer.row_groups.len() as u64;
        for (what, found, told) in [
            ("traces", footer.rows(), meta.trace_count),
            ("row groups", row_groups, u64::from(meta.row_group_count)),
        ] {
            self.findings
                .compare(&self.meta_path, Fault::WrongCount, what, found, told);
        }
    }

    fn bloom_count(&self) -> u32 {
        match self.meta.bloom_shards {
            0 => OLD_BLOOMS,
            n => n.min(MAX_BLOOMS),
        }
    }

    async fn read_blooms(&mut self) -> Result<()> {
        for shard in 0..self.bloom_count() {
            let path = self.path(&bloom_name(shard));
            let read = self.bucket.get(&path).await.and_then(|bytes| {
                BloomShard::open(&bytes).map_err(|e| Error::corrupt(path.as_str(), e))?;
                Ok(bytes)
            });
            let read = self.findings.good(&path, read)?;
            self.blooms.push(read);
        }
        Ok(())
    }

    async fn row_group_index(&mut self, footer: &BlockFile) -> Result<Option<RowGroupIndex>> {
        let path = self.path(ROW_GROUP_INDEX);
        let read = self.bucket.get(&path).await;
        let decoded = read.and_then(|bytes| {
            RowGroupIndex::decode(&bytes).map_err(|e| Error::corrupt(path.as_str(), e))
        });
        let index = self.findings.good(&path, decoded)?;
        if let Some(index) = &index {
            let (found, told) = (index.last_ids().len(), footer.row_groups.len());
            let what = "row groups";
            self.findings
                .compare(&path, Fault::WrongCount, what, found as u64, told as u64);
        }
        Ok(index)
    }

    /// The side file, if there is one that is of this block.
    async fn side_file(&mut self) -> Result<Option<Arc<SkipIndex>>> {
        let path = self.path(SKIP_FILE);
        let file = match self.bucket.get(&path).await {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let place = path.clone();
        let job =
            move |_: &CancelToken| SkipIndex::decode(file).map_err(|e| Error::corrupt(place, e));
        let decoded = self.executor.run(job, &CancelToken::new()).await;
        let Some(index) = self.findings.good(&path, decoded)? else {
            return Ok(None);
        };
        let told = SkipOrigin {
            size_bytes: self.meta.size_bytes,
            footer_size_bytes: self.meta.footer_size_bytes,
            traces: self.meta.trace_count,
        };
        if index.origin() != told {
            let detail = format!(
                "it was made from {:?}, the block is {told:?}",
                index.origin()
            );
            self.findings.add(path, Fault::Disagreement, detail);
            return Ok(None);
        }
        Ok(Some(Arc::new(index)))
    }

    /// What a row group says against what stands beside the data.
    fn group(
        &mut self,
        number: usize,
        facts: &GroupFacts,
        before: Option<TraceId>,
        index: Option<&RowGroupIndex>,
    ) {
        let data = self.path(DATA);
        for (fault, detail) in &facts.faults {
            let detail = format!("row group {number}: {detail}");
            self.findings.add(&data, *fault, detail);
        }
        for detail in &facts.side_faults {
            let path = self.path(SKIP_FILE);
            let detail = format!("row group {number}: {detail}");
            self.findings.add(path, Fault::WrongLookup, detail);
        }
        if let (Some(before), Some(first)) = (before, facts.ids.first())
            && before >= *first
        {
            let detail = format!("row group {number}: trace {first} stands behind {before}");
            self.findings.add(&data, Fault::WrongOrder, detail);
        }
        if let (Some(last), Some(index)) = (facts.ids.last(), index)
            && let Some(told) = index.last_ids().get(number)
            && told != last
        {
            let detail = format!("row group {number} ends with trace {last}, it says {told}");
            let path = self.path(ROW_GROUP_INDEX);
            self.findings.add(path, Fault::WrongLookup, detail);
        }
        for id in &facts.ids {
            let shard = shard_of(*id, self.meta.bloom_shards);
            let Some(Some(bytes)) = self.blooms.get(shard as usize) else {
                continue;
            };
            if BloomShard::open(bytes).is_ok_and(|bloom| !bloom.may_contain(*id)) {
                let detail = format!("it does not let trace {id} through");
                let path = self.path(&bloom_name(shard));
                self.findings.add(path, Fault::WrongLookup, detail);
            }
        }
        let (start, end) = (self.meta.start, self.meta.end);
        // Tempo tells whole seconds, cut off.
        if let Some((first, last)) = facts.times
            && (first < start.get() || last >= end.get().saturating_add(SECOND_NS))
        {
            let detail = format!(
                "row group {number} has spans from {first} to {last}, it says {start} to {end}"
            );
            let path = self.meta_path.clone();
            self.findings.add(path, Fault::WrongTimeRange, detail);
        }
    }
}

/// All bytes of a row group: columns, and the indexes of their pages.
async fn fetch(file: &dyn ReadAt, footer: &BlockFile, number: usize) -> Result<FetchedRanges> {
    let mut ranges = RowPlan::row_group(footer, number).ranges();
    let group = footer.row_groups.get(number);
    for chunk in group.into_iter().flat_map(|g| &g.chunks) {
        ranges.push(chunk.range.clone());
        ranges.extend(chunk.offset_index.clone());
        ranges.extend(chunk.column_index.clone());
    }
    ranges.retain(|r| !r.is_empty());
    ranges.sort_unstable_by_key(|r| (r.start, r.end));
    ranges.dedup();
    let bytes: u64 = ranges.iter().map(|r| r.end - r.start).sum();
    if bytes > MAX_GROUP_BYTES as u64 {
        return Err(Error::LimitExceeded(format!(
            "{}: row group {number} of {bytes} bytes, at most {MAX_GROUP_BYTES} are read",
            file.place()
        )));
    }
    let read = file.read_many(&ranges, &ReadPlan::default()).await?;
    let mut fetched = FetchedRanges::default();
    for (range, bytes) in ranges.iter().zip(read) {
        fetched.insert(range.start, bytes);
    }
    Ok(fetched)
}
