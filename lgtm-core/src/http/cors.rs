//! Lets pages of other sites read answers (cross-origin resource sharing).
//!
//! Without it a browser shows a page of another origin nothing of what it asked. The guard at the door is another thing: it keeps pages
//! from sending what changes something, and stands before these routes too. So a page may GET what is shared with it; what it POSTs must
//! also come from an origin that [`AccessSettings`](super::AccessSettings) lists.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use super::site_guard::is_origin;
use crate::error::{Error, Result};

/// What a page may send: what queries take, and the tenant.
const ALLOWED_HEADERS: &str = "accept, authorization, content-type, origin, x-scope-orgid";
const ALLOWED_METHODS: &str = "GET, POST, OPTIONS";
/// How long a browser may remember the permission, seconds: two hours, as long as Chromium does at most.
const MAX_AGE: &str = "7200";
/// Every origin.
const ANY: &str = "*";

/// The origins whose pages may read.
#[derive(Debug, Clone)]
pub struct Cors(Arc<[String]>);

impl Cors {
    /// Origins such as `https://ui.example:8443`; `*` is every one. An entry of another form matches nothing.
    pub fn new(origins: &[String]) -> Self {
        Self(origins.into())
    }

    /// Checks a list of origins.
    ///
    /// # Errors
    /// `InvalidInput` for an entry that can never match.
    pub fn validate(origins: &[String]) -> Result<()> {
        match origins
            .iter()
            .find(|o| *o != ANY && (!is_origin(o) || o.contains('*')))
        {
            Some(bad) => Err(Error::InvalidInput(format!(
                "cors_origins: {bad:?} is neither {ANY:?} nor like https://name:port"
            ))),
            None => Ok(()),
        }
    }

    /// The routes, with their answers shared and OPTIONS answered. Without an origin they stay as they are.
    pub fn around<S: Clone + Send + Sync + 'static>(&self, routes: Router<S>) -> Router<S> {
        if self.0.is_empty() {
            routes
        } else {
            routes.layer(from_fn_with_state(self.clone(), share))
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        let mut all = self.0.iter();
        all.any(|o| o == ANY || o.as_bytes().eq_ignore_ascii_case(origin))
    }

    fn headers(&self, origin: Option<&HeaderValue>, is_preflight: bool, out: &mut HeaderMap) {
        // Whatever the origin is: a cache must not give one page what was said to another.
        out.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|o| self.allows(o)) else {
            return;
        };
        let mut set = |name, value| out.insert(name, HeaderValue::from_static(value));
        if is_preflight {
            set(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            set(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        } else {
            set(header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date");
        }
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

async fn share(State(cors): State<Cors>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = request.method() == Method::OPTIONS;
    let mut answer = if is_preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    cors.headers(origin.as_ref(), is_preflight, answer.headers_mut());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(listed: &[&str], origin: Option<&'static str>, is_preflight: bool) -> HeaderMap {
        let listed: Vec<String> = listed.iter().map(|o| (*o).to_owned()).collect();
        Cors::validate(&listed).unwrap();
        let mut out = HeaderMap::new();
        let origin = origin.map(HeaderValue::from_static);
        Cors::new(&listed).headers(origin.as_ref(), is_preflight, &mut out);
        out
    }

    #[test]
    fn answers_are_shared_with_listed_origins_alone() {
        let ui = "https://ui.example";
        for (listed, origin, is_shared) in [
            (&["https://ui.example"][..], Some(ui), true),
            (&["https://a.example", "HTTPS://UI.example"], Some(ui), true),
            (&["*"], Some(ui), true),
            (&["*"], Some("null"), true),
            (&["http://ui.example"], Some(ui), false),
            (&["https://ui.example:8443"], Some(ui), false),
            (&["https://ui.example"], None, false),
            (&["*"], None, false),
        ] {
            for is_preflight in [true, false] {
                let found = headers(listed, origin, is_preflight);
                let allowed = found.get("access-control-allow-origin");
                let wanted = is_shared.then_some(origin).flatten();
                assert_eq!(allowed.map(|v| v.to_str().unwrap()), wanted, "{listed:?}");
                let methods = found.get("access-control-allow-methods");
                assert_eq!(methods.is_some(), is_shared && is_preflight);
                assert_eq!(found["vary"], "Origin");
                assert!(found.get("access-control-allow-credentials").is_none());
            }
        }
    }

    #[test]
    fn entries_that_never_match_are_faults() {
        for bad in ["", "ui.example", "https://ui.example/", "https://*.example"] {
            assert!(Cors::validate(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
