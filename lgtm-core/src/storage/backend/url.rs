//! A back end from one line of configuration.

use object_store::path::Path;

use crate::error::{Error, Result};
use crate::nearest::did_you_mean;
use crate::secret::mask_url;
use crate::storage::backend::backend::Backend;
use crate::storage::backend::cloud;
use crate::storage::backend::credentials::BackendSettings;
use crate::storage::object_path;

/// Opens the store that `url` names: `memory:`, `file:DIR`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
///
/// Parameters may follow a `?`: `endpoint`, `region`, `path_style=true`, `allow_http=true` for S3 and what speaks its protocol;
/// `endpoint` and `allow_http` for the others. `file:` makes the directory; nothing is sent over the network yet.
///
/// # Errors
/// `InvalidInput`, naming what is wrong; also when the back end was not built in, naming the cargo feature. `Unavailable` when a
/// directory cannot be used.
pub fn from_url(url: &str, settings: &BackendSettings) -> Result<Backend> {
    let (scheme, rest) = url.split_once(':').ok_or_else(|| {
        invalid(
            url,
            "has no scheme, expected memory:, file:DIR, s3://, gs:// or az://",
        )
    })?;
    match scheme {
        "memory" if rest.is_empty() => Ok(Backend::memory()),
        "memory" => Err(invalid(url, "has something after memory:")),
        "file" => {
            // `file:///dir` is the same as `file:/dir`.
            let dir = rest.strip_prefix("//").unwrap_or(rest);
            if dir.is_empty() {
                return Err(invalid(url, "names no directory"));
            }
            Backend::file(dir, settings.local_durability)
        }
        "s3" => cloud::s3(&CloudUrl::parse(url, rest)?, settings),
        "gs" => cloud::gcs(&CloudUrl::parse(url, rest)?, settings),
        "az" => cloud::azure(&CloudUrl::parse(url, rest)?, settings),
        _ => Err(invalid(
            url,
            "has an unknown scheme, expected memory:, file:DIR, s3://, gs:// or az://",
        )),
    }
}

pub(super) fn invalid(url: &str, why: &str) -> Error {
    Error::InvalidInput(format!("storage URL {:?} {why}", mask_url(url)))
}

/// The parts of a URL that names a bucket.
#[derive(Debug, Default)]
#[cfg_attr(
    not(any(feature = "s3", feature = "gcs", feature = "azure")),
    allow(
        dead_code,
        reason = "checked in every build, used by the network back ends"
    )
)]
pub(super) struct CloudUrl {
    pub(super) url: String,
    pub(super) bucket: String,
    pub(super) root: Path,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) path_style: bool,
    pub(super) allow_http: bool,
}

const PARAMETERS: [&str; 4] = ["endpoint", "region", "path_style", "allow_http"];

impl CloudUrl {
    fn parse(url: &str, rest: &str) -> Result<Self> {
        let rest = rest
            .strip_prefix("//")
            .ok_or_else(|| invalid(url, "lacks // after its scheme"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, root) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(invalid(url, "names no bucket"));
        }
        if let Some(bad) = bucket
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c))
        {
            return Err(invalid(url, &format!("has a bucket name with {bad:?}")));
        }
        let mut parsed = Self {
            url: url.into(),
            bucket: bucket.into(),
            root: object_path::parse_prefix(root)?,
            ..Self::default()
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = object_path::percent_decoded_text(value)
                .ok_or_else(|| invalid(url, &format!("has a value for {key} that is not UTF-8")))?;
            parsed.set(key, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, key: &str, value: String) -> Result<()> {
        let flag = |value: &str| match value {
            "true" | "" => Ok(true),
            "false" => Ok(false),
            _ => Err(invalid(
                &self.url,
                &format!("has {key}={value}, expected true or false"),
            )),
        };
        match key {
            "endpoint" => self.endpoint = Some(value),
            "region" => self.region = Some(value),
            "path_style" => self.path_style = flag(&value)?,
            "allow_http" => self.allow_http = flag(&value)?,
            _ => {
                let hint = did_you_mean(key, PARAMETERS);
                return Err(invalid(
                    &self.url,
                    &format!("has the unknown parameter {key}{hint}"),
                ));
            }
        }
        Ok(())
    }

    /// Whether plain HTTP may be used.
    ///
    /// # Errors
    /// `InvalidInput` when the endpoint is `http://` and nobody allowed that.
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure", test))]
    pub(super) fn http_allowed(&self, settings: &BackendSettings) -> Result<bool> {
        let allowed = self.allow_http || settings.allow_http;
        let plain = self
            .endpoint
            .as_deref()
            .is_some_and(|e| e.starts_with("http://"));
        if plain && !allowed {
            return Err(invalid(
                &self.url,
                "has an http:// endpoint, which sends keys and data in the clear; set allow_http to permit it",
            ));
        }
        Ok(allowed)
    }

    /// The same bucket gives the same text, whatever the root below it.
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(super) fn place(&self, scheme: &str) -> String {
        let endpoint = self.endpoint.as_deref().unwrap_or("").trim_end_matches('/');
        format!("{scheme}://{}@{}", self.bucket, mask_url(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::backend::backend::BackendKind;

    #[test]
    fn memory_and_directories_open() {
        let settings = BackendSettings::default();
        assert_eq!(
            from_url("memory:", &settings).unwrap().kind(),
            BackendKind::Memory
        );
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}/a b/c", dir.path().display());
        assert_eq!(from_url(&url, &settings).unwrap().kind(), BackendKind::File);
        assert!(dir.path().join("a b/c").is_dir());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        let settings = BackendSettings::default();
        for (url, word) in [
            ("bucket", "no scheme"),
            ("ftp://x", "unknown scheme"),
            ("file:", "no directory"),
            ("memory:x", "after memory:"),
            ("s3:x", "lacks //"),
            ("s3:///x", "no bucket"),
            ("s3://b/../c", "not valid"),
            ("s3://b?regio=x", "region"),
            ("s3://b?path_style=yes", "true or false"),
            ("s3://user:pw@b", "bucket name"),
        ] {
            let error = from_url(url, &settings).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{url}: {error}");
        }
        let leaky = "s3://user:hush@b?secret_access_key=hush";
        let error = from_url(leaky, &settings).unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn a_bucket_url_gives_up_its_parts() {
        let rest = "//b/team/x?endpoint=http://127.0.0.1:5000&path_style=true&region=eu%2Dwest-1";
        let url = CloudUrl::parse("s3:…", rest).unwrap();
        assert_eq!((url.bucket.as_str(), url.root.as_ref()), ("b", "team/x"));
        assert_eq!(url.endpoint.as_deref(), Some("http://127.0.0.1:5000"));
        assert_eq!(url.region.as_deref(), Some("eu-west-1"));
        assert!(url.path_style);
        let closed = BackendSettings::default();
        let open = BackendSettings {
            allow_http: true,
            ..Default::default()
        };
        assert!(
            url.http_allowed(&closed)
                .unwrap_err()
                .to_string()
                .contains("allow_http")
        );
        assert!(url.http_allowed(&open).unwrap());
    }

    #[test]
    #[cfg(not(feature = "s3"))]
    fn a_back_end_that_was_not_built_names_its_feature() {
        let error = from_url("s3://b", &BackendSettings::default()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("feature \"s3\""), "{error}");
    }
}
