//! The tag that a path names: between `/tag/` and `/values`, escaped, and maybe with slashes of its own.

use super::error::ApiError;

/// The tag of a path whose part behind `/tag/` was unescaped once. Older clients escape twice; an escape that is left is resolved, as Tempo does.
pub(super) fn tag_of(behind: &str) -> Result<String, ApiError> {
    let Some(tag) = behind.strip_suffix("/values").filter(|t| !t.is_empty()) else {
        return Err(ApiError::new(
            axum::http::StatusCode::NOT_FOUND,
            "404 page not found\n",
        ));
    };
    Ok(unescaped(tag).unwrap_or_else(|| tag.to_owned()))
}

/// `None` for what is not escaped throughout.
fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || (bytes.next()? as char).to_digit(16);
        out.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_unescaped_once_more_where_that_can_be() {
        for (behind, tag) in [
            ("span.a b/values", "span.a b"),
            ("span.a/b/values", "span.a/b"),
            ("span.a%2Fb/values", "span.a/b"),
            ("span.a%b/values", "span.a%b"),
            ("span.\"a b\"/values", "span.\"a b\""),
            ("span.%22a%20b%22/values", "span.\"a b\""),
            ("a/values/values", "a/values"),
        ] {
            assert_eq!(tag_of(behind).unwrap(), tag);
        }
        for behind in ["", "/values", "a", "a/value"] {
            assert_eq!(tag_of(behind).unwrap_err().status.as_u16(), 404, "{behind}");
        }
    }
}
