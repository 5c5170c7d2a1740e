//! The names of index files in the store.

use std::fmt;
use std::str::FromStr;

use lgtm_core::DecodeError;
use lgtm_core::model::{TimestampMs, TimestampNs};

const WHAT: &str = "index file name";
const SUFFIX: &str = ".tsdb";
const PACKED: &str = ".gz";
const COMPACTOR: &str = "compactor";
/// A time with more digits counts nanoseconds.
const MOST_DIGITS_OF_SECONDS: usize = 10;

/// The label that every series of a file of several tenants bears. It is no part of the fingerprint.
pub const TENANT_LABEL: &str = "__loki_tenant__";

/// Who wrote an index file, told by its name. The text is the name in the store, `.gz` at its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IndexFileName {
    /// An ingester's file, of several tenants; it stands in its table's folder.
    Uploaded {
        /// When its head began, seconds.
        created_s: i64,
        /// The ingester's name and the time of its first start.
        uploader: String,
    },
    /// A compactor's file, of one tenant; it stands in the tenant's folder in its table's.
    Compacted {
        /// When it was made, nanoseconds.
        created_ns: TimestampNs,
        /// Least time of a chunk, milliseconds.
        min_ms: TimestampMs,
        /// Greatest time of a chunk, milliseconds.
        max_ms: TimestampMs,
        /// The checksum of the file's table of contents.
        checksum: u32,
    },
}

impl fmt::Display for IndexFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uploaded {
                created_s,
                uploader,
            } => write!(f, "{created_s}-{uploader}{SUFFIX}{PACKED}"),
            Self::Compacted {
                created_ns,
                min_ms,
                max_ms,
                checksum,
            } => write!(
                f,
                "{created_ns}-{COMPACTOR}-{min_ms}-{max_ms}-{checksum:x}{SUFFIX}{PACKED}"
            ),
        }
    }
}

impl FromStr for IndexFileName {
    type Err = DecodeError;

    /// Reads a name with or without `.gz`.
    fn from_str(name: &str) -> Result<Self, DecodeError> {
        let fail = |reason: &str| DecodeError::new(WHAT, 0, format!("{name:?}: {reason}"));
        let stem = name.strip_suffix(PACKED).unwrap_or(name);
        let stem = stem.strip_suffix(SUFFIX).ok_or_else(|| fail("no .tsdb"))?;
        let (time, rest) = stem.split_once('-').ok_or_else(|| fail("no uploader"))?;
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| text.parse::<i64>().ok()).flatten()
        };
        let created = number(time).ok_or_else(|| fail("no time in front"))?;
        let parts: Vec<&str> = rest.split('-').collect();
        if let [COMPACTOR, min, max, checksum] = parts[..] {
            let is_seconds = time.len() <= MOST_DIGITS_OF_SECONDS;
            let scale = if is_seconds { 1_000_000_000 } else { 1 };
            let created_ns = created.checked_mul(scale).map(TimestampNs::new);
            let checksum = u32::from_str_radix(checksum, 16).ok();
            if let (Some(created_ns), Some(min_ms), Some(max_ms), Some(checksum)) =
                (created_ns, number(min), number(max), checksum)
            {
                return Ok(Self::Compacted {
                    created_ns,
                    min_ms: TimestampMs::new(min_ms),
                    max_ms: TimestampMs::new(max_ms),
                    checksum,
                });
            }
        }
        if rest.is_empty() {
            return Err(fail("no uploader"));
        }
        Ok(Self::Uploaded {
            created_s: created,
            uploader: rest.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_come_back(created in 0i64..i64::MAX, uploader in "[a-z0-9-]{1,20}", min_ms in 0i64..1 << 50, checksum: u32) {
            let compacted = IndexFileName::Compacted {
                created_ns: (10_000_000_000 + created / 2).into(), min_ms: TimestampMs::new(min_ms), max_ms: TimestampMs::new(min_ms + 1), checksum,
            };
            let uploaded = IndexFileName::Uploaded { created_s: created, uploader };
            for name in [compacted, uploaded] {
                let text = name.to_string();
                prop_assert_eq!(&text.parse::<IndexFileName>().unwrap(), &name);
                let plain = text.strip_suffix(".gz").unwrap();
                prop_assert_eq!(&plain.parse::<IndexFileName>().unwrap(), &name);
            }
        }
    }

    #[test]
    fn seconds_and_nanoseconds_are_told_apart() {
        let name: IndexFileName = "1700000000-compactor-1-2-ff.tsdb.gz".parse().unwrap();
        assert_eq!(
            name,
            IndexFileName::Compacted {
                created_ns: TimestampNs::new(1_700_000_000_000_000_000),
                min_ms: TimestampMs::new(1),
                max_ms: TimestampMs::new(2),
                checksum: 255
            }
        );
        for bad in [
            "",
            "x.tsdb",
            "1.tsdb",
            "1-.tsdb",
            "a-b.tsdb",
            "1-b.gz",
            "+1-b.tsdb",
        ] {
            assert!(bad.parse::<IndexFileName>().is_err(), "{bad}");
        }
        let odd: IndexFileName = "5-compactor-1-2-zz.tsdb".parse().unwrap();
        assert!(
            matches!(odd, IndexFileName::Uploaded { created_s: 5, .. }),
            "{odd:?}"
        );
    }
}
