//! What an answer is written as: the client's `Accept` says.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use lgtm_core::error::first_chars;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerForm {
    Protobuf,
    Json,
    /// JSON with fewer words, for language models.
    Llm,
}

const LLM: &str = "application/vnd.grafana.llm";

/// What an answer without a place for them lacks, and why.
const WARNING: HeaderName = HeaderName::from_static("x-lgtm-warning");
/// Warnings that are told.
const MAX_WARNINGS: usize = 10;
/// Characters of each.
const MAX_WARNING_CHARS: usize = 500;

impl AnswerForm {
    /// The first of these that occurs in `Accept`, in this order; JSON if none does.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter();
        let values: Vec<&str> = values.filter_map(|v| v.to_str().ok()).collect();
        let names = [
            ("application/protobuf", Self::Protobuf),
            ("application/json", Self::Json),
            (LLM, Self::Llm),
        ];
        let named = |name: &str| values.iter().any(|v| v.contains(name));
        let found = names.into_iter().find(|(name, _)| named(name));
        found.map_or(Self::Json, |(_, form)| form)
    }

    /// The same where there is nothing for language models.
    pub(super) fn plain(headers: &HeaderMap) -> Self {
        match Self::of(headers) {
            Self::Protobuf => Self::Protobuf,
            Self::Json | Self::Llm => Self::Json,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/protobuf",
            Self::Json => "application/json",
            Self::Llm => "application/vnd.grafana.llm+json",
        }
    }

    /// An answer of this form. What is missing from it stands in a header where the form has no place for it: strict clients take no field that
    /// they do not know.
    pub(super) fn answer(self, body: impl Into<Vec<u8>>, warnings: &[String]) -> Response {
        let content_type = [(header::CONTENT_TYPE, self.content_type())];
        let mut response = (content_type, body.into()).into_response();
        for warning in warnings.iter().take(MAX_WARNINGS) {
            let text: String = first_chars(warning, MAX_WARNING_CHARS)
                .chars()
                .map(|c| {
                    if c.is_ascii() && !c.is_ascii_control() {
                        c
                    } else {
                        '?'
                    }
                })
                .collect();
            if let Ok(text) = HeaderValue::try_from(text) {
                response.headers_mut().append(WARNING, text);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_our_forms_counts_not_the_first_of_theirs() {
        for (accept, form) in [
            ("", AnswerForm::Json),
            ("*/*", AnswerForm::Json),
            ("application/json", AnswerForm::Json),
            (
                "text/html, application/protobuf;q=0.1",
                AnswerForm::Protobuf,
            ),
            (
                "application/json, application/protobuf",
                AnswerForm::Protobuf,
            ),
            ("application/vnd.grafana.llm", AnswerForm::Llm),
            (
                "application/vnd.grafana.llm, application/json",
                AnswerForm::Json,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(AnswerForm::of(&headers), form, "{accept}");
        }
        assert_eq!(AnswerForm::of(&HeaderMap::new()), AnswerForm::Json);
    }

    #[test]
    fn warnings_stand_in_headers_whatever_they_say() {
        let warnings = vec!["block \u{1f4a5}\nbroken".to_owned(); 20];
        let answer = AnswerForm::Json.answer("{}", &warnings);
        let all: Vec<_> = answer.headers().get_all("x-lgtm-warning").iter().collect();
        assert_eq!(all.len(), MAX_WARNINGS);
        assert_eq!(all[0], "block ??broken");
    }
}
