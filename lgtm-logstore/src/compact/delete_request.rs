//! What somebody wants deleted (`docs/format/delete_request.md`).

use lgtm_core::model::{TenantId, TimeRangeNs, TimestampMs};
use lgtm_core::{DecodeError, Error, Result};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const WHAT: &str = "delete request";
const VERSION: u32 = 1;

/// Entries that are to be deleted: those of a log query, between two times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    version: u32,
    /// The query: a selector, and what else an entry must pass.
    pub query: String,
    /// First millisecond.
    pub start_ms: TimestampMs,
    /// Last millisecond, inclusive.
    pub end_ms: TimestampMs,
    /// When it came, milliseconds.
    pub created_ms: TimestampMs,
}

impl DeleteRequest {
    /// The folder of all requests. No tenant can have that name.
    pub const FOLDER: &str = "@deletes";

    /// A request that came at a time.
    pub fn new(
        query: impl Into<String>,
        start_ms: impl Into<TimestampMs>,
        end_ms: impl Into<TimestampMs>,
        created_ms: impl Into<TimestampMs>,
    ) -> Self {
        Self {
            version: VERSION,
            query: query.into(),
            start_ms: start_ms.into(),
            end_ms: end_ms.into(),
            created_ms: created_ms.into(),
        }
    }

    /// A name for it; another one with each `attempt`.
    pub fn id(&self, attempt: u64) -> String {
        let text = format!(
            "{} {} {} {}",
            self.created_ms, self.start_ms, self.end_ms, self.query
        );
        let hash = xxh3_64_with_seed(text.as_bytes(), attempt);
        format!("{:08x}", hash as u32)
    }

    /// The times of the entries.
    pub fn range(&self) -> TimeRangeNs {
        // Times of requests are whole: the last one is the end itself.
        TimeRangeNs::new(self.start_ms.to_ns(), self.end_ms.to_ns().saturating_add(1))
    }

    /// Its bytes.
    ///
    /// # Errors
    /// `Internal` when it cannot be printed.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::Internal(format!("{WHAT}: {e}")))
    }

    /// Reads one. Members that are not known are left alone.
    ///
    /// # Errors
    /// For what is none, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let request: Self = serde_json::from_slice(bytes)
            .map_err(|e| DecodeError::new(WHAT, e.column() as u64, e.to_string()))?;
        if request.version != VERSION {
            let reason = format!("version {}, {VERSION} is known", request.version);
            return Err(DecodeError::new(WHAT, 0, reason));
        }
        Ok(request)
    }
}

/// An object that tells of a request, by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteObject {
    /// Whose request it is.
    pub tenant: TenantId,
    /// Its name.
    pub id: String,
    /// What the object says.
    pub says: DeleteState,
}

/// What an object says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteState {
    /// It is the request itself.
    Received,
    /// So many parts of a hundred are done.
    Percent(u8),
    /// It was done at a time, milliseconds.
    Processed(TimestampMs),
}

impl DeleteObject {
    /// Where it is.
    pub fn path(&self) -> String {
        let folder = format!("{}/{}/{}", DeleteRequest::FOLDER, self.tenant, self.id);
        match self.says {
            DeleteState::Received => format!("{folder}/request.json"),
            DeleteState::Percent(n) => format!("{folder}/percent-{n}"),
            DeleteState::Processed(t_ms) => format!("{folder}/processed-{t_ms}"),
        }
    }

    /// The path of an object that says from when on answers to a tenant's queries may be other ones.
    pub fn generation_path(tenant: &TenantId, since: TimestampMs) -> String {
        format!("{}/{tenant}/generation-{since}", DeleteRequest::FOLDER)
    }

    /// The tenant and the time of such a path; `None`: something else.
    pub fn parse_generation(path: &str) -> Option<(TenantId, TimestampMs)> {
        let inside = path
            .strip_prefix(DeleteRequest::FOLDER)?
            .strip_prefix('/')?;
        let (tenant, name) = inside.split_once('/')?;
        let since = name.strip_prefix("generation-")?.parse().ok()?;
        Some((TenantId::new(tenant).ok()?, TimestampMs::new(since)))
    }

    /// What a path names; `None`: something else.
    pub fn parse(path: &str) -> Option<Self> {
        let inside = path
            .strip_prefix(DeleteRequest::FOLDER)?
            .strip_prefix('/')?;
        let mut parts = inside.split('/');
        let (tenant, id, name) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |text: &str| text.parse::<i64>().ok();
        let says = match name.split_once('-') {
            None if name == "request.json" => DeleteState::Received,
            Some(("percent", n)) => DeleteState::Percent(u8::try_from(number(n)?).ok()?.min(99)),
            Some(("processed", t)) => DeleteState::Processed(TimestampMs::new(number(t)?)),
            _ => return None,
        };
        (parts.next().is_none()).then_some(())?;
        Some(Self {
            tenant: TenantId::new(tenant).ok()?,
            id: id.to_owned(),
            says,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_is_read_and_written_as_it_was() {
        let golden = include_bytes!("../../tests/golden/delete_request_v1.json").trim_ascii_end();
        let wanted = DeleteRequest::new(
            r#"{app="1"} |= "x""#,
            1_795_353_446_000,
            1_795_357_046_000,
            1_795_357_047_759,
        );
        assert_eq!(DeleteRequest::decode(golden).unwrap(), wanted);
        assert_eq!(wanted.encode().unwrap(), golden);
        assert_eq!(wanted.id(0).len(), 8);
        assert_ne!(wanted.id(0), wanted.id(1));
    }

    #[test]
    fn paths_say_what_became_of_a_request() {
        for (says, path) in [
            (DeleteState::Received, "@deletes/a/5a746cfe/request.json"),
            (DeleteState::Percent(40), "@deletes/a/5a746cfe/percent-40"),
            (
                DeleteState::Processed(TimestampMs::new(17)),
                "@deletes/a/5a746cfe/processed-17",
            ),
        ] {
            let object = DeleteObject {
                tenant: TenantId::new("a").unwrap(),
                id: "5a746cfe".into(),
                says,
            };
            assert_eq!(object.path(), path);
            assert_eq!(DeleteObject::parse(path), Some(object));
        }
        let of = TenantId::new("a").unwrap();
        let path = DeleteObject::generation_path(&of, TimestampMs::new(17));
        assert_eq!(path, "@deletes/a/generation-17");
        let parsed = DeleteObject::parse_generation(&path);
        assert_eq!(parsed, Some((of, TimestampMs::new(17))));
        for path in [
            "@deletes/a/generation-x",
            "@deletes/a/b/generation-1",
            "@deletes/generation-1",
        ] {
            assert_eq!(DeleteObject::parse_generation(path), None, "{path}");
        }
        for path in [
            "@deletes/a/b",
            "@deletes/a/generation-17",
            "@deletes/a/b/request.json/c",
            "@deletes/a/b/other.json",
            "@deletes/a/b/percent-x",
            "a/b/c/request.json",
        ] {
            assert_eq!(DeleteObject::parse(path), None, "{path}");
        }
    }

    #[test]
    fn other_versions_and_other_bytes_are_refused() {
        let later = br#"{"version":2,"query":"","start_ms":1,"end_ms":2,"created_ms":3}"#;
        let error = DeleteRequest::decode(later).unwrap_err();
        assert!(error.reason.contains("version 2"), "{error}");
        for bad in [&b""[..], b"{}", b"[1]", b"\xff"] {
            assert!(DeleteRequest::decode(bad).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>, path in "\\PC*") {
            let _ = DeleteRequest::decode(&bytes);
            let _ = DeleteObject::parse(&format!("@deletes/{path}"));
            let _ = DeleteObject::parse_generation(&format!("@deletes/{path}"));
        }
    }
}
