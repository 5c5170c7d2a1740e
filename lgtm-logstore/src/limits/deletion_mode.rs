//! Whether a tenant may delete.

use serde::{Deserialize, Serialize};

/// What becomes of a tenant's delete requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionMode {
    /// None are taken, and those that there are hide nothing.
    Disabled,
    /// What they name is left out of answers, for ever.
    FilterOnly,
    /// What they name is left out of answers at once, and of chunks later.
    #[default]
    FilterAndDelete,
}
