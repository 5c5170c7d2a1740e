//! How a network back end is reached: keys, and whether plain HTTP is allowed.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::storage::backend::backend::LocalDurability;

/// What a back end needs beside its URL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendSettings {
    /// Keys of the object store. Default: what the environment gives, as the vendors' own tools do.
    pub credentials: Credentials,
    /// Whether an endpoint may be `http://`. Default no: keys and data would travel in the clear.
    pub allow_http: bool,
    /// When an object on a local disk counts as stored: `os` or `fsync`.
    pub local_durability: LocalDurability,
}

/// Where keys come from: `{from: environment}`, `{from: static, id: …, secret: …}`, `{from: anonymous}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Credentials {
    /// The vendor's environment variables, web identity, instance metadata.
    #[default]
    Environment,
    /// Fixed keys.
    Static {
        /// The access key id (S3) or account name (Azure); GCS has none, leave it empty.
        id: String,
        /// The secret access key (S3), account key (Azure) or the service account's JSON key (GCS).
        secret: Secret,
        /// The session token (S3), if the keys are temporary.
        #[serde(default)]
        session_token: Option<Secret>,
    },
    /// No signature, for public buckets.
    Anonymous,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_but_never_shown() {
        let text =
            r#"{"credentials":{"from":"static","id":"AK","secret":"hush"},"allow_http":true}"#;
        let settings: BackendSettings = serde_json::from_str(text).unwrap();
        let Credentials::Static { secret, .. } = &settings.credentials else {
            panic!("{settings:?}");
        };
        assert_eq!(secret.reveal(), "hush");
        let shown = format!("{settings:?}{}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
        for wrong in [
            r#"{"allow_htp":true}"#,
            r#"{"credentials":{"from":"static","id":"A","sekret":"x"}}"#,
        ] {
            assert!(
                serde_json::from_str::<BackendSettings>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
