//! Following a query over a WebSocket: `/tail`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use lgtm_core::exec::{CancelToken, Executor, move_if_heavy};
use lgtm_core::go::json::push_quoted;
use lgtm_core::http::{Upgrading, UrlQuery};
use lgtm_core::model::TenantId;
use lgtm_core::{Error, Result};

use super::error::ApiError;
use super::json::push_list;
use super::query::call;
use super::query_api::QueryApi;
use super::query_options::Asked;
use super::websocket::{self, WebSocket};
use crate::components::clients::{TailFeed, TailFrame, TailRequest};
use crate::logql::{AnswerStream, LabelEncoding, QueryError, parse_with, push_entry, push_labels};

/// Seconds that entries may wait, so that late ones can be shown in order.
const MAX_DELAY_S: i64 = 5;
/// Entries of the past where a request does not say.
const LIMIT: usize = 100;
/// How far back they are looked for.
const SINCE_NS: i64 = 3_600_000_000_000;
/// How often a client is asked whether it is there.
const PING: Duration = Duration::from_secs(1);
/// Bytes of lines that are printed where they stand.
const INLINE_BYTES: usize = 64 << 10;

/// `/tail`
pub(super) async fn tail(
    State(api): State<Arc<QueryApi>>,
    UrlQuery(query): UrlQuery,
    mut request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let c = call(&api, query.as_deref(), &headers, &Bytes::new())?;
    let tenant = api.tenant(&headers)?;
    let encoding = Asked::of(&headers, &api.settings, &api.parser)?.encoding;
    let delay_s = match c.params.get("delay_for").map(str::parse::<i64>) {
        None => 0,
        Some(Ok(delay)) if (0..=MAX_DELAY_S).contains(&delay) => delay,
        Some(Ok(_)) => return Err(ApiError::bad_request("delay_for can't be greater than 5")),
        Some(Err(_)) => {
            return Err(ApiError::bad_request(
                "delay_for is not a whole number of seconds",
            ));
        }
    };
    let start = c.params.time("start")?;
    let follow = TailRequest {
        query: c.params.query().to_owned(),
        start_ns: start.unwrap_or_else(|| c.now_ns.saturating_sub(SINCE_NS)),
        limit: c.params.count("limit")?.unwrap_or(LIMIT),
        delay_ns: delay_s * 1_000_000_000,
    };
    move_if_heavy(&follow.query).await;
    parse_with(&follow.query, &api.parser).map_err(QueryError::from)?;
    let (answer, upgrading) = websocket::accept(&mut request)?;
    let executor = api.executor(&headers);
    let tail = Tail {
        api: Arc::clone(&api),
        tenant,
        request: follow,
        encoding,
        executor,
    };
    drop(api.tails.spawn("tail", tail.run(upgrading)));
    Ok(answer)
}

/// A client that follows a query.
struct Tail {
    api: Arc<QueryApi>,
    tenant: TenantId,
    request: TailRequest,
    encoding: LabelEncoding,
    executor: Executor,
}

impl Tail {
    async fn run(self, upgrading: Upgrading) {
        // A client that is gone before it begins needs nothing.
        let Ok(mut socket) = WebSocket::begin(upgrading).await else {
            return;
        };
        let feed = self.api.queries.tail(&self.tenant, &self.request).await;
        let end = match feed {
            Ok(mut feed) => self.follow(&mut socket, &mut *feed).await,
            Err(e) => Some(e.to_string()),
        };
        if let Some(reason) = end {
            socket.close(&reason).await;
        }
    }

    /// Sends frames until either side has enough; the reason that the client is told, if it is still there.
    async fn follow(&self, socket: &mut WebSocket, feed: &mut dyn TailFeed) -> Option<String> {
        let mut ping = tokio::time::interval(PING);
        loop {
            let sent = tokio::select! {
                () = socket.closed() => return None,
                _ = ping.tick() => socket.ping().await,
                frame = feed.next_frame() => match frame {
                    Ok(Some(frame)) => match self.text(frame).await {
                        Ok(text) => socket.send_text(text).await,
                        Err(e) => return Some(e.to_string()),
                    },
                    Ok(None) => return Some("all ingesters closed the connection".to_owned()),
                    Err(e) => return Some(e.to_string()),
                },
            };
            if sent.is_err() {
                return None;
            }
        }
    }

    /// A frame as JSON, in the pool if it is large.
    async fn text(&self, frame: TailFrame) -> Result<String> {
        let lines = frame.streams.iter().flat_map(|s| &s.entries);
        let bytes: usize = lines.map(|e| e.line.len()).sum();
        let encoding = self.encoding;
        if bytes <= INLINE_BYTES {
            return Ok(frame_json(&frame, encoding));
        }
        let job = move |_: &CancelToken| Ok::<_, Error>(frame_json(&frame, encoding));
        self.executor.run(job, &CancelToken::new()).await
    }
}

/// One object for each entry, as Loki has it.
fn frame_json(frame: &TailFrame, encoding: LabelEncoding) -> String {
    let entries = frame.streams.iter();
    let entries = entries.flat_map(|s| (0..s.entries.len()).map(move |at| (s, at)));
    let mut out = String::from("{\"streams\":");
    push_list(&mut out, entries, |out, (stream, at)| {
        push_stream(out, stream, at, encoding);
    });
    if !frame.dropped.is_empty() {
        out.push_str(",\"dropped_entries\":");
        push_list(&mut out, &frame.dropped, |out, (t_ns, labels)| {
            let _ = write!(out, "{{\"timestamp\":\"{t_ns}\",\"labels\":");
            push_labels(out, labels);
            out.push('}');
        });
    }
    if encoding == LabelEncoding::Categorized {
        out.push_str(",\"encodingFlags\":");
        push_list(&mut out, ["categorize-labels"], push_quoted);
    }
    out.push('}');
    out
}

fn push_stream(out: &mut String, stream: &AnswerStream, at: usize, encoding: LabelEncoding) {
    out.push_str("{\"stream\":");
    match encoding {
        LabelEncoding::Merged => push_labels(out, &stream.labels()),
        LabelEncoding::Categorized => push_labels(out, &stream.stream),
    }
    out.push_str(",\"values\":[");
    push_entry(out, stream, at, encoding);
    out.push_str("]}");
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::{Labels, TimestampNs};

    use super::*;
    use crate::logql::AnswerEntry;

    #[test]
    fn a_frame_has_one_object_for_each_entry() {
        let labels = |name, value| Labels::from_pairs([(name, value)]).unwrap();
        let entry = |t_ns| AnswerEntry {
            t_ns,
            line: Bytes::from_static(b"a line"),
        };
        let mut frame = TailFrame {
            streams: vec![AnswerStream {
                stream: labels("app", "x"),
                metadata: labels("id", "7"),
                parsed: Labels::empty(),
                entries: vec![entry(TimestampNs::new(1)), entry(TimestampNs::new(2))],
            }],
            dropped: Vec::new(),
        };
        assert_eq!(
            frame_json(&frame, LabelEncoding::Merged),
            r#"{"streams":[{"stream":{"app":"x","id":"7"},"values":[["1","a line"]]},{"stream":{"app":"x","id":"7"},"values":[["2","a line"]]}]}"#
        );
        frame.streams[0].entries.truncate(1);
        frame
            .dropped
            .push((TimestampNs::new(5), labels("app", "y")));
        assert_eq!(
            frame_json(&frame, LabelEncoding::Categorized),
            r#"{"streams":[{"stream":{"app":"x"},"values":[["1","a line",{"structuredMetadata":{"id":"7"}}]]}],"dropped_entries":[{"timestamp":"5","labels":{"app":"y"}}],"encodingFlags":["categorize-labels"]}"#
        );
    }
}
