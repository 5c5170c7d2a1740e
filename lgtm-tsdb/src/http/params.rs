//! Parameters of the query API.

use axum::body::Bytes;
use axum::http::HeaderMap;
use lgtm_core::http;
use lgtm_core::http::parse_time_ms;
use lgtm_core::model::{Matcher, TimestampMs};

use super::error::ApiError;
use crate::promql::{ParserOptions, parse_duration_ms, parse_selector};

/// Names and values, in order; a name may stand several times.
#[derive(Debug, Default)]
pub(super) struct Params(http::Params);

impl Params {
    /// Those of the URL, then those of a form body.
    pub(super) fn read(
        query: Option<&str>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Self, ApiError> {
        Ok(Self(http::Params::read(query, headers, body)?))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// All values of a name, in order.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.all(name)
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        Ok(self.0.required(name)?)
    }

    /// A time, milliseconds.
    pub(super) fn time(&self, name: &str) -> Result<Option<TimestampMs>, ApiError> {
        self.get(name)
            .map(|v| parse_time_ms(v).ok_or_else(|| invalid(name, v, "valid timestamp")))
            .transpose()
    }

    /// A duration, milliseconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|v| parse_duration_ms(v).ok_or_else(|| invalid(name, v, "valid duration")))
            .transpose()
    }

    /// A limit; 0 means none.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else {
            return Ok(0);
        };
        match text.parse::<i64>() {
            Ok(n) => usize::try_from(n).map_err(|_| {
                ApiError::bad_data("invalid parameter \"limit\": limit must be non-negative")
            }),
            Err(_) => Err(invalid("limit", text, "non-negative number")),
        }
    }

    /// The selectors of `match[]`, as many as a request may have.
    pub(super) fn selectors(&self, options: &ParserOptions) -> Result<Vec<Vec<Matcher>>, ApiError> {
        options.check_selectors(self.all("match[]").count())?;
        let all = self.all("match[]");
        all.map(|text| {
            let invalid =
                |why: String| ApiError::bad_data(format!("invalid parameter \"match[]\": {why}"));
            let selector = parse_selector(text, options).map_err(|e| invalid(e.to_string()))?;
            if selector.iter().all(Matcher::matches_empty) {
                return Err(invalid(
                    "match[] must contain at least one non-empty matcher".into(),
                ));
            }
            Ok(selector)
        })
        .collect()
    }
}

fn invalid(name: &str, value: &str, wanted: &str) -> ApiError {
    ApiError::bad_data(format!(
        "invalid parameter \"{name}\": cannot parse {value:?} to a {wanted}"
    ))
}
