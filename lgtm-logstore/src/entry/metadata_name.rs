//! Names of structured metadata, as Loki stores them.

/// The normal form of a name; `None` when there is none, of a name without a letter or digit.
///
/// Every run of characters other than ASCII letters and digits becomes one `_`. What then begins with a digit gets `key_` in front. A name
/// between double underscores keeps these.
pub fn normal_metadata_name(name: &str) -> Option<String> {
    let inner = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"));
    let mut out = String::with_capacity(name.len() + 4);
    let mut has_text = false;
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            has_text = true;
            out.push(c);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    if !has_text {
        return None;
    }
    if inner.is_some() {
        return Some(format!("__{}__", out.trim_matches('_')));
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "key_");
    }
    Some(out)
}

/// Whether a name is in its normal form. Allocates nothing.
pub fn is_normal_metadata_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = match bytes {
        [b'_', b'_', inner @ .., b'_', b'_'] => inner,
        _ => bytes,
    };
    let is_wrapped = inner.len() < bytes.len();
    let is_text = |b: &u8| b.is_ascii_alphanumeric();
    let first_fits = match inner.first() {
        Some(b'_') => !is_wrapped,
        Some(first) => is_wrapped || !first.is_ascii_digit(),
        None => false,
    };
    let last_fits = !is_wrapped || inner.last() != Some(&b'_');
    first_fits
        && last_fits
        && inner.iter().any(is_text)
        && inner.iter().all(|b| is_text(b) || *b == b'_')
        && !inner.windows(2).any(|pair| pair == b"__")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_what_loki_stores() {
        for (name, normal) in [
            ("user.name", Some("user_name")),
            ("a__b", Some("a_b")),
            ("1x", Some("key_1x")),
            ("_a", Some("_a")),
            ("__x__", Some("__x__")),
            ("a-..-b", Some("a_b")),
            ("naïve", Some("na_ve")),
            ("___", None),
            ("", None),
        ] {
            assert_eq!(normal_metadata_name(name).as_deref(), normal, "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(name in "[a-c0-1_.é]{0,8}") {
            let normal = normal_metadata_name(&name);
            let is_normal = normal.as_deref() == Some(name.as_str());
            prop_assert_eq!(is_normal_metadata_name(&name), is_normal);
            if let Some(normal) = normal {
                prop_assert!(is_normal_metadata_name(&normal), "{}", normal);
            }
        }
    }
}
