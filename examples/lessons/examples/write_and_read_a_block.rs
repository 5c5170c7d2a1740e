//! The unit in object storage: an immutable folder that Prometheus, Mimir, Cortex and Thanos read too.

use std::collections::BTreeMap;

use lgtm_core::Result;
use lgtm_core::index::SymbolTable;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{DataKind, Layout};
use lgtm_tsdb::block::{
    BlockId, BlockReader, BlockReaderSettings, BlockWriter, BlockWriterSettings, MetaInput,
    ThanosMeta,
};
use lgtm_tsdb::chunk::XorAppender;
use object_store::memory::InMemory;

#[tokio::main]
async fn main() -> Result<()> {
    let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::MetricBlocks);
    let tenant = TenantId::new("anonymous")?;
    let id = BlockId::new(1_700_000_000_000, [7; 10]);

    // All label names and values, sorted; series refer to them by number. The empty string comes first.
    let symbols = SymbolTable::from_sorted(["", "__name__", "api", "job", "up"])?;
    let number = |text: &str| symbols.ordinal(text).expect("one of the symbols");
    let labels = [
        (number("__name__"), number("up")),
        (number("job"), number("api")),
    ];

    let mut chunk = XorAppender::new();
    (0..10).for_each(|i| chunk.append(1_700_000_000_000 + i * 15_000, 1.0));
    let encoded = chunk.snapshot();

    // Series come in label order and stream into the store; `meta.json` is put last and makes the folder a block.
    let mut writer = BlockWriter::new(
        bucket.clone(),
        &tenant,
        id,
        symbols,
        BlockWriterSettings::default(),
    )?;
    writer.add_series(&labels, &[encoded.borrowed()])?;
    let meta = MetaInput {
        min_ms: encoded.min_ms,
        max_ms: encoded.max_ms + 1,
        level: 1,
        sources: Vec::new(),
        parents: Vec::new(),
        hints: Vec::new(),
        thanos: Some(ThanosMeta::new("receive", BTreeMap::new())),
    };
    let meta = writer.finish(meta).await?.expect("the block has samples");
    assert_eq!(meta.stats.num_samples, 10);

    // A reader asks for ranges of the objects, never for a whole one.
    let folder = format!("{tenant}/{id}");
    let block = BlockReader::open_object(&bucket, &folder, BlockReaderSettings::default()).await?;
    let found = block.index().postings("job", "api").await?;
    let series = block.index().series(&found).await?;
    assert_eq!(
        series[0].labels.to_string(),
        r#"{__name__="up", job="api"}"#
    );
    let chunks = block.chunks().read(&series[0].chunks[..1]).await?;
    assert_eq!(chunks[0].data, encoded.data);
    Ok(())
}
