//! `index`: the last trace of each row group (docs/format/block.md).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lgtm_core::go::json;
use lgtm_core::{DecodeError, Result};
use serde::{Deserialize, Serialize};

use crate::trace::TraceId;

/// The last, which is the largest, trace id of each row group, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowGroupIndex {
    last_ids: Vec<TraceId>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(rename = "rowGroups", deserialize_with = "json::null_as_default")]
    row_groups: Vec<String>,
}

impl RowGroupIndex {
    /// Of these ids, which ascend.
    pub fn new(last_ids: Vec<TraceId>) -> Self {
        Self { last_ids }
    }

    /// Reads the object.
    ///
    /// # Errors
    /// For what is no such JSON, ids of another length, and ids that do not ascend.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "row group index";
        let written: Written = json::decode(WHAT, bytes)?;
        let mut last_ids = Vec::with_capacity(written.row_groups.len());
        for text in &written.row_groups {
            let bytes = STANDARD.decode(text).ok();
            let id = bytes.and_then(|b| <[u8; 16]>::try_from(b).ok());
            let id = id.map(TraceId::new).ok_or_else(|| {
                let text = lgtm_core::error::first_chars(text, 100);
                DecodeError::new(WHAT, 0, format!("{text:?} is not a trace ID in base64"))
            })?;
            if last_ids.last().is_some_and(|before| *before >= id) {
                return Err(DecodeError::new(WHAT, 0, format!("{id} is out of order")));
            }
            last_ids.push(id);
        }
        Ok(Self { last_ids })
    }

    /// Writes it, byte for byte as Tempo does.
    ///
    /// # Errors
    /// `Internal` if JSON cannot be made of it, which does not happen.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let row_groups = self
            .last_ids
            .iter()
            .map(|id| STANDARD.encode(id.as_bytes()));
        json::encode_compact(&Written {
            row_groups: row_groups.collect(),
        })
    }

    /// The row group that has the id if the block does; `None` when it lies behind all.
    pub fn find(&self, id: TraceId) -> Option<usize> {
        let at = self.last_ids.partition_point(|last| *last < id);
        (at < self.last_ids.len()).then_some(at)
    }

    /// The ids.
    pub fn last_ids(&self) -> &[TraceId] {
        &self.last_ids
    }
}
