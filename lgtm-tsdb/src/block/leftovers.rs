//! What a block leaves whose upload never ended, or its deletion.

use lgtm_core::storage::LeftoverRule;

use crate::block_id::BlockId;

/// Block folders without `meta.json`. Marks go last.
pub const BLOCK_LEFTOVERS: LeftoverRule = LeftoverRule {
    is_folder: |name| name.parse::<BlockId>().is_ok(),
    complete_by: "meta.json",
    is_last: |name| name.ends_with("-mark.json"),
};
