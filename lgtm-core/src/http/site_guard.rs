//! Keeps pages of other sites from speaking through a browser with a server that has no login.
//!
//! Three ways lead there. A page may send a request to us that needs no permission (`no-cors`, a form): it cannot read the answer, but
//! what it sends is done. It may open a WebSocket to any site, and read what comes. And it may have its own name point to our address (DNS
//! rebinding): to the browser we then are that page's own site. The first two are seen by `Sec-Fetch-Site` and `Origin`, which browsers
//! send and pages cannot forge, the third by `Host`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::telemetry::{Counter, Family, Registry};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whom a server without a login listens to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// Names, without port, by which clients may call a server that is bound to loopback, beside `localhost`, names without a dot and IP
    /// addresses. Default: none, for a name with a dot may be anyone's that points to 127.0.0.1. A server bound elsewhere takes every
    /// name while this list is empty, and only these when it is not.
    pub allowed_hosts: Vec<String>,
    /// Origins such as `https://ui.example:8443` whose pages may send what changes something. Default: none but the server's own.
    pub allowed_origins: Vec<String>,
}

impl AccessSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` for an entry that can never match.
    pub fn validate(&self) -> Result<()> {
        for host in &self.allowed_hosts {
            if host.is_empty() || host.contains(['/', ':', ' ']) {
                return Err(Error::InvalidInput(format!(
                    "access.allowed_hosts: {host:?} is not a name without scheme and port"
                )));
            }
        }
        for origin in &self.allowed_origins {
            if !is_origin(origin) {
                return Err(Error::InvalidInput(format!(
                    "access.allowed_origins: {origin:?} is not like https://name:port"
                )));
            }
        }
        Ok(())
    }
}

/// Refuses requests that a page of another site makes a browser send.
///
/// * Whatever is not GET, HEAD or OPTIONS is refused with `Sec-Fetch-Site` other than `same-origin` or `none`, or, where that is
///   missing, with an `Origin` that is not the `Host`. A request with neither does not come from a page.
/// * On loopback every request is refused whose `Host` (or absolute URL) is a foreign name. Names without a dot are none: nobody can
///   have one in public DNS.
#[derive(Debug)]
pub struct SiteGuard {
    settings: AccessSettings,
    refused: Arc<Family<Counter, 1>>,
}

/// The guard of one server.
#[derive(Debug, Clone)]
pub(super) struct GuardedDoor {
    guard: Arc<SiteGuard>,
    checks_host: bool,
}

impl SiteGuard {
    /// # Errors
    /// `InvalidInput` for settings that can never match, and when the name of the metric is taken.
    pub fn new(settings: AccessSettings, registry: &Registry) -> Result<Arc<Self>> {
        settings.validate()?;
        let refused = registry.counter_vec(
            "lgtm_http_refused_requests_total",
            "Requests refused because a page of another site may have sent them, by what gave them away.",
            &["reason"],
        )?;
        Ok(Arc::new(Self { settings, refused }))
    }

    /// For a server that listens at `address`.
    pub(super) fn at(self: &Arc<Self>, address: SocketAddr) -> GuardedDoor {
        GuardedDoor {
            guard: Arc::clone(self),
            checks_host: address.ip().is_loopback() || !self.settings.allowed_hosts.is_empty(),
        }
    }

    fn check_host(&self, authority: &str) -> std::result::Result<(), String> {
        let name = without_port(authority);
        let allowed = &self.settings.allowed_hosts;
        let is_ours = is_ip(name)
            || !name.contains('.')
            || ends_with_ignore_case(name, ".localhost")
            || allowed.iter().any(|a| a.eq_ignore_ascii_case(name));
        if is_ours {
            Ok(())
        } else {
            Err(format!(
                "host {name:?} is not a name of this server; if it is, list it in server.access.allowed_hosts"
            ))
        }
    }

    fn check_site(
        &self,
        headers: &HeaderMap,
        host: Option<&str>,
    ) -> std::result::Result<(), String> {
        let text = |name: &HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        let origin = text(&header::ORIGIN);
        let allowed = &self.settings.allowed_origins;
        if origin.is_some_and(|o| allowed.iter().any(|a| a.eq_ignore_ascii_case(o))) {
            return Ok(());
        }
        let is_own = match (text(&SEC_FETCH_SITE), origin) {
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => is_same_host(origin, host.unwrap_or_default()),
            (None, None) => true,
        };
        if is_own {
            Ok(())
        } else {
            Err(format!(
                "a page of {} may not send this; if it is to, list its origin in server.access.allowed_origins",
                origin.unwrap_or("another site")
            ))
        }
    }

    fn refuse(&self, reason: &str, why: &str) -> Response {
        self.refused.with(&[reason]).inc();
        (StatusCode::FORBIDDEN, format!("{why}\n")).into_response()
    }
}

impl GuardedDoor {
    /// The answer to a request that is refused. No future and no memory is made for one that is not.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Response> {
        let headers = request.headers();
        let of_url = request.uri().authority().map(|a| a.as_str());
        let hosts = headers.get_all(header::HOST);
        if self.checks_host {
            // Bytes that are no text are no name of ours either.
            let named = hosts.iter().map(|v| v.to_str().unwrap_or("?.?"));
            for host in named.chain(of_url) {
                if let Err(why) = self.guard.check_host(host) {
                    return Some(self.guard.refuse("host", &why));
                }
            }
        }
        let is_read = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        );
        // Browsers let a page read what comes over a WebSocket from any site.
        let is_read = is_read && !headers.contains_key(header::UPGRADE);
        if !is_read {
            let host = of_url.or_else(|| hosts.iter().next()?.to_str().ok());
            if let Err(why) = self.guard.check_site(headers, host) {
                return Some(self.guard.refuse("site", &why));
            }
        }
        None
    }
}

/// `[::1]:80` and `[::1]` are `[::1]`, `a:80` and `a` are `a`.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn is_ip(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    inside.unwrap_or(name).parse::<IpAddr>().is_ok()
}

fn ends_with_ignore_case(text: &str, end: &str) -> bool {
    let at = text.len().checked_sub(end.len());
    at.and_then(|at| text.get(at..))
        .is_some_and(|t| t.eq_ignore_ascii_case(end))
}

/// Scheme and authority.
fn split_origin(origin: &str) -> Option<(&str, &str)> {
    let (scheme, authority) = origin.split_once("://")?;
    (!scheme.is_empty() && !authority.is_empty()).then_some((scheme, authority))
}

/// Whether a text is like `https://name:port`.
pub(super) fn is_origin(text: &str) -> bool {
    split_origin(text).is_some_and(|(_, host)| !host.contains('/'))
}

/// Whether an origin is that of a page that this server sent. The scheme is not compared: a proxy in front may speak TLS.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = split_origin(origin) else {
        return false;
    };
    let default_port = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    let plain = |text: &str| {
        let text = text.strip_suffix(default_port).unwrap_or(text);
        text.to_ascii_lowercase()
    };
    plain(authority) == plain(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(
        settings: &AccessSettings,
        bound: &str,
        method: &str,
        headers: &[(&str, &str)],
    ) -> u16 {
        let guard = SiteGuard::new(settings.clone(), &Registry::new()).unwrap();
        let door = guard.at(bound.parse().unwrap());
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let refusal = door.refusal(&request.body(()).unwrap());
        refusal.map_or(200, |r| r.status().as_u16())
    }

    const LOOPBACK: &str = "127.0.0.1:9009";
    const ANYWHERE: &str = "0.0.0.0:9009";

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let s = AccessSettings::default();
        let host = ("host", "127.0.0.1:9009");
        for (headers, expected) in [
            (&[][..], 200),
            (&[("sec-fetch-site", "same-origin")][..], 200),
            (&[("sec-fetch-site", "none")], 200),
            (&[("sec-fetch-site", "cross-site")], 403),
            (&[("sec-fetch-site", "same-site")], 403),
            (&[("sec-fetch-site", "whatever")], 403),
            (&[("origin", "http://evil.example")], 403),
            (&[("origin", "null")], 403),
            (&[("origin", "http://127.0.0.1:9010")], 403),
            (&[("origin", "http://127.0.0.1:9009")], 200),
            (
                &[
                    ("origin", "http://evil.example"),
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
                403,
            ),
        ] {
            let all: Vec<_> = headers.iter().copied().chain([host]).collect();
            for bound in [LOOPBACK, ANYWHERE] {
                for method in ["POST", "PUT", "DELETE", "PATCH"] {
                    assert_eq!(
                        status(&s, bound, method, &all),
                        expected,
                        "{method} {headers:?}"
                    );
                }
                // Reading is no harm: the page cannot see the answer. Of a WebSocket it can.
                assert_eq!(status(&s, bound, "GET", &all), 200);
                let upgrade: Vec<_> = all
                    .iter()
                    .copied()
                    .chain([("upgrade", "websocket")])
                    .collect();
                assert_eq!(status(&s, bound, "GET", &upgrade), expected, "{headers:?}");
            }
        }
    }

    #[test]
    fn origins_are_compared_with_the_host_and_the_list() {
        let s = AccessSettings {
            allowed_origins: vec!["https://ui.example".into()],
            ..Default::default()
        };
        for (origin, host, expected) in [
            ("https://A.example", "a.example:443", 200),
            ("http://a.example", "a.example", 200),
            ("http://a.example", "a.example:443", 403),
            ("https://ui.example", "b.example", 200),
            ("http://ui.example", "b.example", 403),
        ] {
            let headers = [("origin", origin), ("host", host)];
            assert_eq!(
                status(&s, ANYWHERE, "POST", &headers),
                expected,
                "{origin} {host}"
            );
        }
        let listed = [
            ("origin", "https://ui.example"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(status(&s, LOOPBACK, "POST", &listed), 200);
    }

    #[test]
    fn a_foreign_name_is_refused_on_loopback() {
        let s = AccessSettings::default();
        for (host, expected) in [
            ("evil.example", 403),
            ("evil.example:9009", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost.evil.example", 403),
            ("localhost.", 403),
            ("127.0.0.1", 200),
            ("127.0.0.1:9009", 200),
            ("[::1]:9009", 200),
            ("[::1]", 200),
            ("LocalHost:9009", 200),
            ("a.localhost", 200),
            ("lgtm:9009", 200),
        ] {
            let headers = [("host", host)];
            assert_eq!(status(&s, LOOPBACK, "GET", &headers), expected, "{host}");
            assert_eq!(status(&s, "[::1]:1", "GET", &headers), expected, "{host}");
            assert_eq!(status(&s, ANYWHERE, "GET", &headers), 200, "{host}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(status(&s, LOOPBACK, "GET", &twice), 403);
        let listed = AccessSettings {
            allowed_hosts: vec!["Metrics.example".into()],
            ..Default::default()
        };
        for bound in [LOOPBACK, ANYWHERE] {
            assert_eq!(
                status(&listed, bound, "GET", &[("host", "metrics.example:1")]),
                200
            );
            assert_eq!(
                status(&listed, bound, "GET", &[("host", "evil.example")]),
                403
            );
        }
    }

    #[test]
    fn entries_that_never_match_are_faults() {
        let hosts = |h: &str| AccessSettings {
            allowed_hosts: vec![h.into()],
            ..Default::default()
        };
        let origins = |o: &str| AccessSettings {
            allowed_origins: vec![o.into()],
            ..Default::default()
        };
        for bad in [
            hosts("a:80"),
            hosts("http://a"),
            hosts(""),
            origins("a"),
            origins("http://a/"),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        hosts("a.b").validate().unwrap();
        origins("http://a:1").validate().unwrap();
    }
}
