//! What the S3 client's answers mean, held against a server that gives the same answer to everybody.
//!
//! `object_store` hides the type that carries an HTTP status, so that `fault.rs` reads its words; these tests fail when they change.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::storage::{
    BackendSettings, Bucket, Credentials, DataKind, Layout, RetrySettings, Secret, StorageSettings,
    from_url,
};
use crate::telemetry::Registry;

/// A bucket at `port` that tries three times, quickly.
fn bucket_at(port: u16, registry: &Registry) -> Bucket {
    let settings = BackendSettings {
        credentials: Credentials::Static {
            id: "id".into(),
            secret: Secret::new("secret"),
            session_token: None,
        },
        allow_http: true,
        ..Default::default()
    };
    let url = format!("s3://b?endpoint=http://127.0.0.1:{port}&path_style=true");
    let retry = RetrySettings {
        max_attempts: 3,
        initial_backoff: Duration::from_millis(1),
        ..Default::default()
    };
    let layout = Layout::builder()
        .store(from_url(&url, &settings).unwrap())
        .registry(registry)
        .settings(StorageSettings {
            retry,
            ..Default::default()
        });
    layout.build().unwrap().bucket(DataKind::Traces)
}

/// Serves the same response for ever, on a thread that ends with the process.
fn server_that_says(status: &'static str, body: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // Requests of these tests have no body and fit one read.
            let mut request = [0; 8192];
            let _ = stream.read(&mut request);
            let len = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    port
}

fn requests(registry: &Registry) -> f64 {
    let sent = |name: &str| name == "lgtm_objstore_operations_total";
    registry
        .samples()
        .filter(|s| sent(&s.name))
        .map(|s| s.value)
        .sum()
}

#[tokio::test]
async fn each_status_has_its_kind_and_only_those_that_may_pass_are_repeated() {
    for (status, body, kind, tries) in [
        ("404 Not Found", "", ErrorKind::NotFound, 1.0),
        (
            "403 Forbidden",
            "<Error><Code>AccessDenied</Code></Error>",
            ErrorKind::Internal,
            1.0,
        ),
        ("401 Unauthorized", "", ErrorKind::Internal, 1.0),
        ("400 Bad Request", "", ErrorKind::Internal, 1.0),
        (
            "416 Range Not Satisfiable",
            "",
            ErrorKind::InvalidInput,
            1.0,
        ),
        ("429 Too Many Requests", "", ErrorKind::RateLimited, 3.0),
        ("500 Internal Server Error", "", ErrorKind::Unavailable, 3.0),
        ("503 Service Unavailable", "", ErrorKind::Unavailable, 3.0),
        (
            "503 Slow Down",
            "<Error><Code>SlowDown</Code></Error>",
            ErrorKind::RateLimited,
            3.0,
        ),
    ] {
        let registry = Registry::new();
        let bucket = bucket_at(server_that_says(status, body), &registry);
        let error = bucket.get_range("t/x", 0..10).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert_eq!(requests(&registry), tries, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    // Bound and closed again, so that nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let registry = Registry::new();
    let error = bucket_at(port, &registry).get("t/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("traces/t/x"), "{error}");
    assert_eq!(requests(&registry), 3.0);
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_not_taken_for_the_object() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 8192]);
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\netag: \"e\"\r\nlast-modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n";
            let _ = write!(stream, "{head}connection: close\r\n\r\nshort");
        }
    });
    let registry = Registry::new();
    let result = bucket_at(port, &registry).get("t/x").await;
    assert!(result.is_err(), "{result:?}");
}
