//! The server's side of a WebSocket (RFC 6455): the handshake, text, pings and close frames.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use lgtm_core::http::{UpgradedStream, Upgrading};
use lgtm_core::{Error, Result};
use tokio_websockets::{CloseCode, Limits, Message, ServerBuilder, WebSocketStream};

use super::error::ApiError;

/// What keys of clients are hashed with, by the RFC.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a message of a client, from whom nothing is expected.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// How long a client has to take a message, and to answer that it heard of the end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the reason in a close frame, by the RFC.
const MAX_REASON_BYTES: usize = 123;

/// A WebSocket with a client.
#[derive(Debug)]
pub(super) struct WebSocket(WebSocketStream<UpgradedStream>);

/// The answer that makes a WebSocket of a request's connection, and the connection.
pub(super) fn accept(
    request: &mut Request,
) -> std::result::Result<(Response, Upgrading), ApiError> {
    let bad = |why: &str| {
        let why = format!("Bad Request: the client is not using the websocket protocol: {why}\n");
        ApiError::bad_request(why)
    };
    let headers = request.headers();
    if !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(bad("'upgrade' token not found in 'Connection' header"));
    }
    if !has_token(headers, header::UPGRADE, "websocket") {
        return Err(bad("'websocket' token not found in 'Upgrade' header"));
    }
    if !has_token(headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(bad(
            "unsupported version: 13 not found in 'Sec-Websocket-Version' header",
        ));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| bad("'Sec-WebSocket-Key' header is missing or blank"))?;
    let accepted = accept_key(key.as_bytes());
    let upgrading = Upgrading::of(request).ok_or_else(|| bad("the connection stays HTTP"))?;
    let headers = [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, accepted.as_str()),
    ];
    let answer = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    Ok((answer, upgrading))
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let mut tokens = values.flat_map(|v| v.split(','));
    tokens.any(|t| t.trim().eq_ignore_ascii_case(token))
}

fn accept_key(key: &[u8]) -> String {
    let mut hash = sha1_smol::Sha1::from(key);
    hash.update(MAGIC.as_bytes());
    STANDARD.encode(hash.digest().bytes())
}

impl WebSocket {
    pub(super) async fn begin(upgrading: Upgrading) -> Result<Self> {
        let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE_BYTES));
        let stream = upgrading.stream().await?;
        Ok(Self(ServerBuilder::new().limits(limits).serve(stream)))
    }

    /// Waits until the client ends it; answers its pings meanwhile. Cancel-safe.
    pub(super) async fn closed(&mut self) {
        while let Some(Ok(message)) = self.0.next().await {
            if message.is_close() {
                return;
            }
        }
    }

    pub(super) async fn send_text(&mut self, text: String) -> Result<()> {
        self.send(Message::text(text)).await
    }

    pub(super) async fn ping(&mut self) -> Result<()> {
        self.send(Message::ping(&b""[..])).await
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        let gone = |e: String| Error::Unavailable(format!("the client is gone: {e}"));
        let sent = tokio::time::timeout(PATIENCE, self.0.send(message)).await;
        let sent = sent.map_err(|_| gone("it takes nothing".into()))?;
        sent.map_err(|e| gone(e.to_string()))
    }

    /// Ends it with a reason that clients show, and waits until the client has heard it.
    pub(super) async fn close(mut self, reason: &str) {
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let code = CloseCode::INTERNAL_SERVER_ERROR;
        let message = Message::close(Some(code), &reason[..end]);
        if self.send(message).await.is_ok() {
            // Whoever does not answer knows it all the same.
            let _ = tokio::time::timeout(PATIENCE, self.closed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_answered_as_in_the_rfc() {
        let accepted = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
