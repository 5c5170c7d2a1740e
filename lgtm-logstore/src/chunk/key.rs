//! The names of chunk objects.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lgtm_core::DecodeError;
use lgtm_core::codec::crc32c;
use lgtm_core::model::TimestampMs;

use crate::schema::Schema;

const WHAT: &str = "chunk key";

/// How a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyForm {
    /// `tenant/fingerprint/from:through:checksum`, from schema v12 on.
    StreamFolders,
    /// `tenant/fingerprint:from:through:checksum`, schemas v9 to v11.
    Flat,
}

impl KeyForm {
    /// The form under the schema of a chunk's `from`.
    pub fn of(schema: Schema) -> Self {
        if schema.has_stream_folders() {
            Self::StreamFolders
        } else {
            Self::Flat
        }
    }
}

/// What names a chunk: all of it stands in its key, and in the index of its stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkKey {
    /// The tenant.
    pub tenant: String,
    /// The fingerprint of its stream's labels.
    pub fingerprint: u64,
    /// Time of the first entry, milliseconds, rounded down.
    pub from_ms: TimestampMs,
    /// Time of the last entry, milliseconds, rounded up.
    pub through_ms: TimestampMs,
    /// CRC-32C of the whole object.
    pub checksum: u32,
}

impl ChunkKey {
    /// The object's name in stores of the cloud.
    pub fn object_name(&self, form: KeyForm) -> String {
        let separator = match form {
            KeyForm::StreamFolders => '/',
            KeyForm::Flat => ':',
        };
        format!(
            "{}/{:x}{separator}{}:{}:{:x}",
            self.tenant,
            self.fingerprint,
            Hex(self.from_ms.get()),
            Hex(self.through_ms.get()),
            self.checksum
        )
    }

    /// The object's name in a file system: as Loki has it, its last part in base64, or all of it where keys are flat.
    pub fn file_name(&self, form: KeyForm) -> String {
        let name = self.object_name(form);
        let plain = match form {
            KeyForm::StreamFolders => name.rfind('/').map_or(0, |at| at + 1),
            KeyForm::Flat => 0,
        };
        format!("{}{}", &name[..plain], STANDARD.encode(&name[plain..]))
    }

    /// Reads what [`ChunkKey::file_name`] writes, of either form.
    ///
    /// # Errors
    /// A last part that is no base64; as [`ChunkKey::from_str`].
    pub fn from_file_name(name: &str) -> Result<Self, DecodeError> {
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        let plain = STANDARD
            .decode(last)
            .ok()
            .and_then(|plain| String::from_utf8(plain).ok());
        match plain {
            Some(plain) if folder.is_empty() => plain.parse(),
            Some(plain) => format!("{folder}/{plain}").parse(),
            None => {
                let reason = format!("{last:?} is no base64 of a key");
                Err(DecodeError::new(WHAT, 0, reason))
            }
        }
    }

    /// That `object` is the one that the key names.
    ///
    /// # Errors
    /// A checksum that does not fit.
    pub fn check_object(&self, object: &[u8]) -> Result<(), DecodeError> {
        let crc = crc32c(object);
        if crc == self.checksum {
            return Ok(());
        }
        let reason = format!("checksum {crc:08x}, its key says {:08x}", self.checksum);
        Err(DecodeError::new("chunk object", 0, reason))
    }
}

/// As Go writes signed numbers in hex: with a minus before the digits.
struct Hex(i64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:x}", self.0.unsigned_abs())
    }
}

impl FromStr for ChunkKey {
    type Err = DecodeError;

    /// Reads a key of either form.
    fn from_str(key: &str) -> Result<Self, DecodeError> {
        let fail = |reason: &str| DecodeError::new(WHAT, 0, format!("{key:?}: {reason}"));
        let (tenant, rest) = key
            .split_once('/')
            .filter(|(tenant, _)| !tenant.is_empty())
            .ok_or_else(|| fail("no tenant"))?;
        let mut parts = rest.splitn(2, ['/', ':']);
        let fingerprint = parts.next().unwrap_or_default();
        let rest = parts.next().unwrap_or_default();
        let parts: Vec<&str> = rest.split(':').collect();
        let [from, through, checksum] = parts[..] else {
            return Err(fail("not of four parts"));
        };
        let time = |text: &str| {
            i64::from_str_radix(text, 16)
                .ok()
                .filter(|_| !text.starts_with('+'))
                .map(TimestampMs::new)
        };
        let number = |text: &str| {
            u64::from_str_radix(text, 16)
                .ok()
                .filter(|_| !text.starts_with('+'))
        };
        Ok(Self {
            tenant: tenant.to_owned(),
            fingerprint: number(fingerprint).ok_or_else(|| fail("its fingerprint is no hex"))?,
            from_ms: time(from).ok_or_else(|| fail("its first time is no hex"))?,
            through_ms: time(through).ok_or_else(|| fail("its last time is no hex"))?,
            checksum: number(checksum)
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| fail("its checksum is no hex"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_come_back(
            tenant in "[a-z0-9!*'().-]{1,20}",
            fingerprint: u64, from_ms in -(1i64 << 50)..1i64 << 50, through_ms in -(1i64 << 50)..1i64 << 50, checksum: u32,
        ) {
            let key = ChunkKey { tenant, fingerprint, from_ms: TimestampMs::new(from_ms), through_ms: TimestampMs::new(through_ms), checksum };
            for form in [KeyForm::StreamFolders, KeyForm::Flat] {
                prop_assert_eq!(&key.object_name(form).parse::<ChunkKey>().unwrap(), &key);
                prop_assert_eq!(&ChunkKey::from_file_name(&key.file_name(form)).unwrap(), &key);
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}", hex in "[a-f0-9:/+-]{0,40}") {
            for text in [text, hex] {
                let _ = text.parse::<ChunkKey>();
                let _ = ChunkKey::from_file_name(&text);
            }
        }
    }
}
