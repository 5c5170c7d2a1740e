//! What calls answer: JSON with the content type that Loki gives it.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lgtm_core::go::json::push_quoted;

/// The content type of most answers.
const JSON: &str = "application/json; charset=UTF-8";

/// An answer in JSON.
pub(super) fn json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body.into()).into_response()
}

/// An answer in JSON with the plainer content type that some calls have.
pub(super) fn plain_json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The beginning of a successful answer, up to its `data`: what it lacks stands before.
pub(super) fn success(warnings: &[String]) -> String {
    let mut out = String::from("{\"status\":\"success\"");
    if !warnings.is_empty() {
        // Each once, in order, as clients show them.
        let mut warnings: Vec<&String> = warnings.iter().collect();
        warnings.sort();
        warnings.dedup();
        out.push_str(",\"warnings\":");
        push_strings(&mut out, warnings);
    }
    out
}

/// A list of JSON strings.
pub(super) fn push_strings<S: AsRef<str>>(out: &mut String, items: impl IntoIterator<Item = S>) {
    push_list(out, items, |out, item| push_quoted(out, item.as_ref()));
}

/// A JSON list.
pub(super) fn push_list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}
