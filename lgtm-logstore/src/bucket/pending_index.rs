//! Chunks that are in the store and in no index file yet.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use lgtm_core::Result;
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{Labels, TenantId};

use crate::index::{
    ChunkMeta, IndexEncoder, IndexEncoderSettings, IndexVersion, TENANT_LABEL, sort_chunks,
};

/// A stream of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StreamKey {
    pub(super) tenant: TenantId,
    pub(super) fingerprint: u64,
    pub(super) labels: Labels,
}

/// What one table's next index file will name.
#[derive(Debug, Default)]
pub(super) struct PendingTable {
    streams: HashMap<StreamKey, Vec<ChunkMeta>>,
}

impl PendingTable {
    pub(super) fn add(&mut self, stream: StreamKey, chunk: ChunkMeta) {
        self.streams.entry(stream).or_default().push(chunk);
    }

    /// Takes what another one has.
    pub(super) fn merge(&mut self, other: &Self) {
        for (stream, chunks) in &other.streams {
            let all = self.streams.entry(stream.clone()).or_default();
            all.extend_from_slice(chunks);
        }
    }

    /// The index file of these chunks, unpacked: all tenants in it, told apart by a label.
    ///
    /// # Errors
    /// Those of [`IndexEncoder`].
    pub(super) fn encode(&self, version: IndexVersion) -> Result<Vec<u8>> {
        let mut texts: BTreeSet<&str> = BTreeSet::from([TENANT_LABEL]);
        for stream in self.streams.keys() {
            texts.insert(stream.tenant.as_str());
            for (name, value) in stream.labels.iter() {
                texts.insert(name);
                texts.insert(value);
            }
        }
        let symbols = SymbolTable::from_sorted(texts)?;
        // All of them are in the table.
        let symbol = |text: &str| symbols.ordinal(text).unwrap_or(u32::MAX);
        let mut series = Vec::with_capacity(self.streams.len());
        for (stream, chunks) in &self.streams {
            let labels = stream.labels.iter().filter(|(n, _)| *n != TENANT_LABEL);
            let mut labels: Vec<(u32, u32)> = labels.map(|(n, v)| (symbol(n), symbol(v))).collect();
            labels.push((symbol(TENANT_LABEL), symbol(stream.tenant.as_str())));
            // Ordinals are in the order of the texts.
            labels.sort_unstable();
            let mut chunks = chunks.clone();
            sort_chunks(&mut chunks);
            series.push((stream.fingerprint, labels, chunks));
        }
        series.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let mut encoder = IndexEncoder::new(version, symbols, IndexEncoderSettings::default());
        for (fingerprint, labels, chunks) in &series {
            encoder.add_series(*fingerprint, labels, chunks)?;
        }
        Ok(encoder.finish_to_vec()?.0)
    }
}
