//! How the network back ends send requests.
//!
//! `object_store`'s own repeats and total deadlines are switched off, since the guard around it does both and two layers would
//! multiply. Only the parts of an upload are repeated below the guard, by its rule, as they cannot be above.

use std::time::Duration;

use crate::storage::retry::Retry;
use object_store::client::HttpErrorKind;
use object_store::retry::{RetryContext, RetryFailure, RetryPolicy};
use object_store::{ClientOptions, RetryConfig};

/// No repeats of object_store's own.
pub(super) fn no_retry() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        retry_timeout: Duration::ZERO,
        ..Default::default()
    }
}

/// No deadline over a whole request with its body; the guard has one for each step.
pub(super) fn client(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(5))
}

/// Our rule for the parts of an upload, in the shape that `object_store` asks for.
#[derive(Debug)]
pub(in crate::storage) struct PartRetry(Retry);

impl PartRetry {
    pub(in crate::storage) fn new(retry: Retry) -> Self {
        Self(retry)
    }
}

#[async_trait::async_trait]
impl RetryPolicy for PartRetry {
    async fn retry(&self, context: RetryContext) -> bool {
        let may_pass = match context.failure {
            RetryFailure::Status(status) => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 429)
            }
            RetryFailure::Transport(kind) => matches!(
                kind,
                HttpErrorKind::Connect
                    | HttpErrorKind::Request
                    | HttpErrorKind::Timeout
                    | HttpErrorKind::Interrupted
            ),
            _ => false,
        };
        let tries = u32::try_from(context.attempt).unwrap_or(u32::MAX);
        let pause = self.0.pause(tries, context.elapsed).filter(|_| may_pass);
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        pause.is_some()
    }
}
