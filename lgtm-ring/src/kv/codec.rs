//! What a back end must know about a kind of value.
//!
//! Stores that agree by compare-and-set need nothing of this. A gossip store cannot agree: two members change their copies at the
//! same time, and each must come to the same value by merging what it hears, in whatever order and however often it hears it.

use std::fmt::Debug;

use bytes::Bytes;
use lgtm_core::Result;

/// Merging, for one kind of value. Bytes are the value's wire form (for rings: protobuf, then snappy's block format).
///
/// With [`MergeKind::Remote`], `merge` is commutative, associative and idempotent; the gossip store converges because of that and of
/// nothing else.
pub trait ValueCodec: Debug + Send + Sync + 'static {
    /// The name under which values of this kind travel, e.g. `ringDesc`. At most 255 bytes.
    fn id(&self) -> &'static str;

    /// Merges `incoming` into `current`; `None` is no value yet. `now_unix_s` stamps what a local change removed.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no value of this kind; the store then keeps `current`.
    fn merge(
        &self,
        current: Option<&[u8]>,
        incoming: &[u8],
        kind: MergeKind,
        now_unix_s: i64,
    ) -> Result<Merged>;

    /// Drops tombstones whose time is before `limit_unix_s`; all of them for `None`. Readers never see tombstones: the store hands out
    /// values through this with `None`.
    ///
    /// # Errors
    /// As [`ValueCodec::merge`].
    fn remove_tombstones(&self, value: &[u8], limit_unix_s: Option<i64>) -> Result<Tombstones>;

    /// Names of the members in the value, tombstones too. A queued broadcast is obsolete once a newer one of the same key names all
    /// of its members.
    ///
    /// # Errors
    /// As [`ValueCodec::merge`].
    fn member_names(&self, value: &[u8]) -> Result<Vec<String>>;
}

/// Where the value being merged comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeKind {
    /// A change made here, on the newest value known here: a member that is missing was removed and leaves a tombstone.
    Local,
    /// From another member: what is missing is merely not mentioned.
    Remote,
}

/// The outcome of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The new value.
    pub value: Bytes,
    /// What differs from the old value, as a value that others can merge; `None` if nothing does.
    pub change: Option<Bytes>,
}

/// The outcome of dropping tombstones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstones {
    /// The value without the dropped ones.
    pub value: Bytes,
    /// Tombstones that are still in it.
    pub left: usize,
    /// Tombstones that were dropped.
    pub removed: usize,
}
