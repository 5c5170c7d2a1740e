//! Texts that are never shown, and texts that are shown without what is secret in them.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What stands for anything secret.
const STARS: &str = "********";
/// Parameters of URLs that hold nothing secret. All others are masked: a new one is a secret until it is listed here.
const PLAIN_PARAMETERS: [&str; 4] = ["allow_http", "endpoint", "path_style", "region"];
/// Words in the name of a setting whose text is secret.
const SECRET_NAMES: [&str; 8] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "authorization",
    "access_key",
    "api_key",
];

/// A text that is never shown: `Debug` and serialization give stars.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(STARS)
    }
}

/// The text of the setting `name` as it may be shown: stars when the name says that it is secret, otherwise as [`mask_url`].
pub fn mask_setting<'a>(name: &str, text: &'a str) -> Cow<'a, str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    if !text.is_empty() && SECRET_NAMES.iter().any(|s| name.contains(s)) {
        Cow::Borrowed(STARS)
    } else {
        mask_url(text)
    }
}

/// A URL as it may be shown: without user and password, and without the values of parameters that may be keys or signatures. URLs inside
/// of its parameters are masked too. A text that is no URL stays as it is.
///
/// ```
/// use lgtm_core::secret::mask_url;
///
/// let url = "s3://bucket/path?region=eu&endpoint=http://me:hush@host:9000&X-Amz-Signature=hush";
/// let shown = "s3://bucket/path?region=eu&endpoint=http://********@host:9000&X-Amz-Signature=********";
/// assert_eq!(mask_url(url), shown);
/// ```
pub fn mask_url(text: &str) -> Cow<'_, str> {
    if !is_url(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let place_end = text.find(['?', '#']).unwrap_or(text.len());
    let (place, mut rest) = text.split_at(place_end);
    out.push_str(&without_user(place));
    while let Some(separator) = rest.chars().next() {
        let end = rest[1..]
            .find(['?', '#', '&', ';'])
            .map_or(rest.len(), |at| at + 1);
        let (name, value) = match rest[1..end].split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&rest[1..end], None),
        };
        out.push(separator);
        let is_plain = PLAIN_PARAMETERS
            .iter()
            .any(|p| p.eq_ignore_ascii_case(name));
        match value {
            Some(value) => {
                out.push_str(name);
                out.push('=');
                if is_plain && !value.contains('%') {
                    out.push_str(&without_user(value));
                } else if !value.is_empty() {
                    out.push_str(STARS);
                }
            }
            None if is_plain || name.is_empty() => out.push_str(name),
            None => out.push_str(STARS),
        }
        rest = &rest[end..];
    }
    if out == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(out)
    }
}

/// Whether a text begins with a scheme.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut chars = scheme.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
        && !rest.is_empty()
}

/// Stars in place of what stands between `//` and `@`. A password with a slash in it, which is none by the rules, is found too: no place
/// has an `@` after a port that is no number.
fn without_user(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Cow::Borrowed(text);
    };
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    let has_strange_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err());
    let searched = if authority.contains('@') || !has_strange_port {
        authority
    } else {
        rest
    };
    match searched.rfind('@') {
        Some(at) => Cow::Owned(format!("{scheme}://{STARS}{}", &rest[at..])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_is_secret_in_them() {
        for (url, shown) in [
            (
                "s3://AKID:HUSH@bkt/a?region=r",
                "s3://********@bkt/a?region=r",
            ),
            ("https://HUSH@h", "https://********@h"),
            ("s3://AK:HU/SH@bkt/a", "s3://********@bkt/a"),
            ("s3://AK:HU@SH@bkt", "s3://********@bkt"),
            (
                "s3://b?endpoint=http://u:HUSH@127.0.0.1:1&region=r",
                "s3://b?endpoint=http://********@127.0.0.1:1&region=r",
            ),
            (
                "s3://b?endpoint=http%3A%2F%2Fu:HUSH%40h",
                "s3://b?endpoint=********",
            ),
            (
                "s3://b?access_key_id=HUSH&secret_access_key=HUSH",
                "s3://b?access_key_id=********&secret_access_key=********",
            ),
            (
                "s3://b?endpoint=http://h?token=HUSH&region=r",
                "s3://b?endpoint=http://h?token=********&region=r",
            ),
            (
                "https://h/p?X-Amz-Signature=HUSH#access_token=HUSH",
                "https://h/p?X-Amz-Signature=********#access_token=********",
            ),
            ("https://h/p?HUSH", "https://h/p?********"),
            ("az://c?sv=HUSH;sig=HUSH", "az://c?sv=********;sig=********"),
            ("file:x?secret=HUSH", "file:x?secret=********"),
            ("redis://:HUSH@h:6379/0", "redis://********@h:6379/0"),
        ] {
            assert_eq!(mask_url(url), shown);
            assert!(!mask_url(url).contains("HUSH"));
        }
    }

    #[test]
    fn what_is_not_secret_is_shown_as_it_is() {
        for text in [
            "",
            "file:./data/bucket",
            "memory:",
            "s3://bucket/team/x?region=eu&path_style=true&allow_http&endpoint=http://127.0.0.1:9000",
            "http://[::1]:9009/a@b",
            "lgtm_core=debug,info",
            "a?b=c",
            "12:30",
        ] {
            assert_eq!(mask_url(text), text);
            assert_eq!(mask_setting("url", text), text);
        }
    }

    #[test]
    fn settings_with_telling_names_are_secret() {
        for name in ["password", "Bearer-Token", "s3_secret_key", "access-key-id"] {
            assert_eq!(mask_setting(name, "HUSH"), STARS);
            assert_eq!(mask_setting(name, ""), "");
        }
    }

    #[test]
    fn secrets_show_stars() {
        let secret = Secret::new("hush");
        assert_eq!(secret.reveal(), "hush");
        assert_eq!(format!("{secret:?}"), STARS);
        assert_eq!(
            serde_json::to_string(&secret).unwrap(),
            format!("\"{STARS}\"")
        );
    }
}
