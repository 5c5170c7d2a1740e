//! Whether what is said of a tenant's blocks is true: its two lists.

use std::collections::BTreeMap;

use lgtm_core::codec::DecodeFail;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, Fault, Findings};
use lgtm_core::{Error, ErrorKind, Result};

use crate::block::{
    BlockMeta, META, MetaKind, REDACTIONS, TENANT_INDEX_JSON, TENANT_INDEX_PROTOBUF, TenantIndex,
    block_of_meta,
};
use crate::block_id::BlockId;
use crate::compact::RedactionBatch;

/// Bytes that a list may have when it is decompressed.
const MAX_INDEX_BYTES: usize = 512 << 20;

/// Compares the lists of a tenant's blocks with the blocks that there are, and adds what is wrong to `findings`; gives the blocks of the tenant, those
/// that are not whole too. Blocks themselves are [`verify_block`](super::verify_block)'s.
///
/// Costs a listing of the tenant's objects, and a read of both lists and of each `meta.json` that they name.
///
/// # Errors
/// Those that say nothing of an object: a store that does not answer.
pub async fn verify_tenant(
    bucket: &Bucket,
    tenant: &TenantId,
    findings: &mut Findings,
) -> Result<Vec<BlockId>> {
    let mut blocks: BTreeMap<BlockId, Option<MetaKind>> = BTreeMap::new();
    let mut redactions = Vec::new();
    for object in bucket.list_sorted(tenant.as_str()).await? {
        let below = object.path.strip_prefix(tenant.as_str());
        let Some(below) = below.and_then(|p| p.strip_prefix('/')) else {
            continue;
        };
        let folder = below.split('/').next().unwrap_or_default();
        if folder == REDACTIONS {
            redactions.push(object.path);
        } else if let Some((id, kind)) = block_of_meta(below) {
            let known = blocks.entry(id).or_default();
            // A block that has both serves.
            *known = known.filter(|k| *k == MetaKind::Live).or(Some(kind));
        } else if let Ok(id) = folder.parse::<BlockId>() {
            blocks.entry(id).or_default();
        }
    }
    for path in redactions {
        let read = bucket.get(&path).await.and_then(|bytes| {
            let read = lgtm_core::go::json::decode::<RedactionBatch>("redaction", &bytes);
            read.map_err(|e| Error::corrupt(path.as_str(), e))
        });
        findings.good(&path, read)?;
    }
    let lists = [TENANT_INDEX_PROTOBUF, TENANT_INDEX_JSON];
    let mut read = Vec::new();
    for name in lists {
        let path = format!("{tenant}/{name}");
        let bytes = match bucket.get(&path).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let decoded = match name {
            TENANT_INDEX_PROTOBUF => TenantIndex::decode_protobuf_zstd(&bytes, MAX_INDEX_BYTES),
            _ => TenantIndex::decode_json_gzip(&bytes, MAX_INDEX_BYTES),
        };
        let decoded = decoded.map_err(|e| match e {
            DecodeFail::Broken(e) => Error::corrupt(path.as_str(), e),
            DecodeFail::Refused(e) => e,
        });
        if let Some(index) = findings.good(&path, decoded)? {
            read.push((path, index));
        }
    }
    if let [(_, one), (path, other)] = &read[..]
        && one.created == other.created
        && one != other
    {
        let detail = format!("it says something else than {}", lists[0]);
        findings.add(path, Fault::Disagreement, detail);
    }
    for (path, index) in &read {
        compare(bucket, tenant, path, index, &blocks, findings).await?;
    }
    Ok(blocks.into_keys().collect())
}

async fn compare(
    bucket: &Bucket,
    tenant: &TenantId,
    path: &str,
    index: &TenantIndex,
    blocks: &BTreeMap<BlockId, Option<MetaKind>>,
    findings: &mut Findings,
) -> Result<()> {
    let mut listed = Vec::new();
    for told in &index.meta {
        let id = told.block_id;
        listed.push(id);
        match blocks.get(&id).copied().flatten() {
            Some(MetaKind::Live) => meta(bucket, tenant, path, told, findings).await?,
            // Superseded since the list was made.
            Some(MetaKind::Compacted) => {
                let detail = format!("block {id} is listed as one that serves, and is superseded");
                findings.add(path, Fault::Unlisted, detail);
            }
            None => {
                let detail = format!("block {id} is listed and has no meta.json");
                findings.add(path, Fault::Dangling, detail);
            }
        }
    }
    listed.extend(index.compacted.iter().map(|c| c.meta.block_id));
    listed.sort_unstable();
    if let Some(pair) = listed.windows(2).find(|pair| pair[0] == pair[1]) {
        let detail = format!("block {} is listed twice", pair[0]);
        findings.add(path, Fault::Disagreement, detail);
    }
    let live = blocks.iter().filter(|(_, k)| **k == Some(MetaKind::Live));
    for (id, _) in live.filter(|(id, _)| listed.binary_search(id).is_err()) {
        findings.add(path, Fault::Unlisted, format!("block {id} is not listed"));
    }
    Ok(())
}

/// The meta of a block against the list's.
async fn meta(
    bucket: &Bucket,
    tenant: &TenantId,
    path: &str,
    told: &BlockMeta,
    findings: &mut Findings,
) -> Result<()> {
    let meta_path = format!("{tenant}/{}/{META}", told.block_id);
    // What is wrong with the meta itself is told with its block.
    let Ok(bytes) = bucket.get(&meta_path).await else {
        return Ok(());
    };
    let Ok(found) = BlockMeta::decode(&bytes) else {
        return Ok(());
    };
    if found != *told {
        let detail = format!("block {} is listed with another meta", told.block_id);
        findings.add(path, Fault::Disagreement, detail);
    }
    Ok(())
}
