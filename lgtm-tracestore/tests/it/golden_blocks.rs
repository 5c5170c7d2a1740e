//! What stands around the data of golden blocks: metas, indexes, lists of blocks. Read whole, written byte for byte where that is possible.

use std::path::{Path, PathBuf};

use crate::shared::{folder, folders};
use lgtm_core::codec::{Compression, Decompressor, OutputSize};
use lgtm_tracestore::block::{
    BlockMeta, COMPACTED_META, DATA, META, MetaKind, ROW_GROUP_INDEX, RowGroupIndex,
    TENANT_INDEX_JSON, TENANT_INDEX_PROTOBUF, TenantIndex, block_of_meta, bloom_name,
};

/// The folders of tenants in all golden buckets.
fn tenants() -> Vec<PathBuf> {
    let Some(golden) = folder("golden/tempo") else {
        return Vec::new();
    };
    let is_bucket = |f: &PathBuf| {
        f.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("bucket-")
    };
    let buckets = folders(&golden).into_iter().filter(is_bucket);
    let tenants: Vec<_> = buckets.flat_map(|b| folders(&b)).collect();
    assert!(!tenants.is_empty());
    tenants
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The metas of a tenant, as the objects say.
fn metas(tenant: &Path) -> Vec<(MetaKind, BlockMeta)> {
    let mut out = Vec::new();
    for block in folders(tenant) {
        for object in [META, COMPACTED_META] {
            let Ok(bytes) = std::fs::read(block.join(object)) else {
                continue;
            };
            let path = format!("{}/{object}", name(&block));
            let (id, kind) = block_of_meta(&path).unwrap();
            let meta = BlockMeta::decode(&bytes).unwrap();
            assert_eq!((meta.block_id, &*meta.tenant_id), (id, name(tenant)));
            assert_eq!(
                String::from_utf8(meta.encode().unwrap()).unwrap(),
                String::from_utf8(bytes).unwrap()
            );
            out.push((kind, meta));
        }
    }
    out
}

#[test]
fn metas_are_read_and_written_as_tempo_has_them_and_fit_their_blocks() {
    for tenant in tenants() {
        let metas = metas(&tenant);
        assert!(!metas.is_empty());
        for (_, meta) in metas {
            let block = tenant.join(meta.block_id.to_string());
            let data = std::fs::read(block.join(DATA)).unwrap();
            assert_eq!(meta.size_bytes, data.len() as u64);
            let at = data.len() - 8;
            let footer = u32::from_le_bytes(data[at..at + 4].try_into().unwrap());
            assert_eq!(meta.footer_size_bytes, footer);
            assert!(block.join(bloom_name(meta.bloom_shards - 1)).is_file());
            assert!(!block.join(bloom_name(meta.bloom_shards)).exists());
            let bytes = std::fs::read(block.join(ROW_GROUP_INDEX)).unwrap();
            let index = RowGroupIndex::decode(&bytes).unwrap();
            assert_eq!(index.encode().unwrap(), bytes);
            assert_eq!(index.last_ids().len(), meta.row_group_count as usize);
            for (n, id) in index.last_ids().iter().enumerate() {
                assert_eq!(index.find(*id), Some(n));
            }
        }
    }
}

fn unpack(with: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let size = OutputSize::at_most(1 << 20);
    Decompressor::default()
        .decompress(with, bytes, size, &mut out)
        .unwrap();
    out
}

#[test]
fn lists_of_blocks_are_read_and_written_as_tempo_has_them() {
    const MAX: usize = 1 << 20;
    for tenant in tenants() {
        let json = std::fs::read(tenant.join(TENANT_INDEX_JSON)).unwrap();
        let protobuf = std::fs::read(tenant.join(TENANT_INDEX_PROTOBUF)).unwrap();
        let index = TenantIndex::decode_protobuf_zstd(&protobuf, MAX).unwrap();
        let by_json = TenantIndex::decode_json_gzip(&json, MAX).unwrap();
        assert_eq!(index, by_json, "{}", tenant.display());

        let mut live: Vec<_> = index
            .meta
            .iter()
            .map(|m| (MetaKind::Live, m.clone()))
            .collect();
        live.extend(
            index
                .compacted
                .iter()
                .map(|c| (MetaKind::Compacted, c.meta.clone())),
        );
        live.sort_by_key(|(_, meta)| meta.block_id);
        assert_eq!(live, metas(&tenant));

        let mut plain = Vec::new();
        index.encode_protobuf(&mut plain).unwrap();
        assert_eq!(
            plain,
            unpack(Compression::Zstd, &protobuf),
            "{}",
            tenant.display()
        );
        let ours = index.encode_json_gzip().unwrap();
        assert_eq!(
            String::from_utf8(unpack(Compression::Gzip, &ours)).unwrap(),
            String::from_utf8(unpack(Compression::Gzip, &json)).unwrap()
        );
        let name = json.windows(11).position(|w| w == b"index.json\0");
        assert_eq!(ours.windows(11).position(|w| w == b"index.json\0"), name);
        let ours = index.encode_protobuf_zstd().unwrap();
        assert_eq!(
            TenantIndex::decode_protobuf_zstd(&ours, MAX).unwrap(),
            index
        );
    }
}
