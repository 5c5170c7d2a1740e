//! What a back end must know about a kind of value.
//!
//! Stores that agree by compare-and-set need nothing of this. A gossip store cannot agree: two members change their copies at the
//! same time, and each must come to the same value by merging what it hears, in whatever order and however often it hears it.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::Result;

/// Merging, for one kind of value. Bytes are the value's wire form (for rings: protobuf, then snappy's block format).
///
/// With [`MergeKind::Remote`], `merge` is commutative, associative and idempotent; the gossip store converges because of that and of
/// nothing else.
pub trait ValueCodec: Debug + Send + Sync + 'static {
    /// The name under which values of this kind travel, e.g. `ringDesc`. At most 255 bytes.
    fn id(&self) -> &'static str;

    /// Merges `incoming` into `current`; `None` is no value yet. `time` stamps what a local change removed, and says which members of a remote value are
    /// from too far ahead: they are refused, and those beside them taken.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no value of this kind; the store then keeps `current`.
    fn merge(
        &self,
        current: Option<&[u8]>,
        incoming: &[u8],
        kind: MergeKind,
        time: MergeTime,
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

    /// `change` in parts that are changes of their own, each of at most `max_bytes` unless one member alone is larger. A store that learns of a thousand
    /// members at once tells of them in messages of a bounded size, and what it says of one can be outdated alone. By default one part.
    ///
    /// # Errors
    /// As [`ValueCodec::merge`].
    fn split(&self, change: &Bytes, max_bytes: usize) -> Result<Vec<Bytes>> {
        let _ = max_bytes;
        Ok(vec![change.clone()])
    }

    /// `value` in decoded form, so that merging one member into a thousand does not decode and encode the thousand. `None`, which is
    /// the default, lets the store keep the bytes and use the methods above.
    ///
    /// # Errors
    /// As [`ValueCodec::merge`].
    fn open(&self, value: Option<&[u8]>) -> Result<Option<Box<dyn OpenValue>>> {
        let _ = value;
        Ok(None)
    }
}

/// One value, decoded. Its methods do what those of the same name of [`ValueCodec`] do.
pub trait OpenValue: Debug + Send + Sync {
    /// Merges; yields the change.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no value of this kind, `LimitExceeded` for a value that would grow too large; it is then as it was.
    fn merge(&mut self, incoming: &[u8], kind: MergeKind, time: MergeTime) -> Result<MergeOutcome>;

    /// Drops tombstones older than the limit.
    ///
    /// # Errors
    /// As [`ValueCodec::remove_tombstones`].
    fn remove_tombstones(&mut self, limit_unix_s: i64) -> Result<TombstoneCount>;

    /// The wire form, tombstones and all. Equal values have equal bytes.
    ///
    /// # Errors
    /// `LimitExceeded` for a value that merging should not have let grow so large.
    fn encode(&self) -> Result<Bytes>;

    /// The wire form that readers get, without tombstones.
    ///
    /// # Errors
    /// As [`OpenValue::encode`]; those of [`ValueCodec::remove_tombstones`].
    fn encode_visible(&self) -> Result<Bytes>;

    /// Roughly the bytes of the wire form before compression. Asked for each message that comes.
    fn size_bytes(&self) -> usize;
}

/// Tombstones in a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TombstoneCount {
    /// Still there.
    pub left: usize,
    /// Dropped just now.
    pub removed: usize,
}

/// The value `value` of `codec`, decoded if the codec can keep it so.
pub(crate) fn open_value(
    codec: &Arc<dyn ValueCodec>,
    value: Option<&[u8]>,
) -> Result<Box<dyn OpenValue>> {
    if let Some(open) = codec.open(value)? {
        return Ok(open);
    }
    Ok(Box::new(BytesValue {
        codec: codec.clone(),
        value: value.map(Bytes::copy_from_slice),
    }))
}

/// A value kept as bytes.
#[derive(Debug)]
struct BytesValue {
    codec: Arc<dyn ValueCodec>,
    value: Option<Bytes>,
}

impl OpenValue for BytesValue {
    fn merge(&mut self, incoming: &[u8], kind: MergeKind, time: MergeTime) -> Result<MergeOutcome> {
        let merged = self
            .codec
            .merge(self.value.as_deref(), incoming, kind, time)?;
        self.value = Some(merged.value);
        Ok(merged.outcome)
    }

    fn remove_tombstones(&mut self, limit_unix_s: i64) -> Result<TombstoneCount> {
        let Some(value) = &self.value else {
            return Ok(TombstoneCount::default());
        };
        let tombstones = self.codec.remove_tombstones(value, Some(limit_unix_s))?;
        if tombstones.removed > 0 {
            self.value = Some(tombstones.value);
        }
        Ok(TombstoneCount {
            left: tombstones.left,
            removed: tombstones.removed,
        })
    }

    fn encode(&self) -> Result<Bytes> {
        Ok(self.value.clone().unwrap_or_default())
    }

    fn encode_visible(&self) -> Result<Bytes> {
        match &self.value {
            Some(value) => Ok(self.codec.remove_tombstones(value, None)?.value),
            None => Ok(Bytes::new()),
        }
    }

    fn size_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Where the value being merged comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeKind {
    /// A change made here, on the newest value known here: a member that is missing was removed and leaves a tombstone.
    Local,
    /// From another member: what is missing is merely not mentioned.
    Remote,
}

/// The time of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeTime {
    /// What the clock here shows.
    pub now_unix_s: i64,
    /// How far beyond it the time of a member may be that another store sent, e.g. the heartbeat of an instance.
    pub max_ahead_s: i64,
}

impl MergeTime {
    /// How far ahead of the clock here `time_s` is; negative when it is past.
    pub fn ahead_s(self, time_s: i64) -> i64 {
        time_s.saturating_sub(self.now_unix_s)
    }

    /// Whether `time_s` is not too far ahead.
    pub fn allows(self, time_s: i64) -> bool {
        self.ahead_s(time_s) <= self.max_ahead_s
    }
}

/// What a merge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeOutcome {
    /// What differs from the old value, as a value that others can merge; `None` if nothing does.
    pub change: Option<Bytes>,
    /// How far ahead of the clock here the furthest member was that was refused for it; `None` if none was.
    pub refused_ahead_s: Option<i64>,
}

/// A merged value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The new value.
    pub value: Bytes,
    /// How it came about.
    pub outcome: MergeOutcome,
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
