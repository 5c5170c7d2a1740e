//! Messages of a streamed answer, of bounded size.

use axum::body::Bytes;
use lgtm_core::http::GrpcStatus;
use tokio::sync::mpsc;

/// A message, or the status that ends the stream.
pub(super) type Sent = std::result::Result<Bytes, GrpcStatus>;

/// What `put` writes.
pub(super) fn encoded(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

/// Some of an answer, encoded.
#[derive(Debug)]
pub(super) struct Part {
    /// What may be spread over several messages.
    pub(super) items: Vec<Vec<u8>>,
    /// What ends each of them.
    pub(super) tail: Vec<u8>,
}

/// Sends items in messages of bounded size.
pub(super) struct Packets {
    pub(super) sender: mpsc::Sender<Sent>,
    pub(super) max_bytes: usize,
}

impl Packets {
    /// Sends a message. A client that is gone ends the stream, and the query with it.
    async fn send(&self, message: Vec<u8>) {
        let _ = self.sender.send(Ok(message.into())).await;
    }

    /// Sends a part, as many of its items in a message as fit; the last message ends with `last`.
    pub(super) async fn send_all(&self, part: Part, last: &[u8]) {
        let Part { items, tail } = part;
        let room = self.max_bytes.saturating_sub(tail.len() + last.len());
        let mut message: Vec<u8> = Vec::new();
        for item in items {
            if !message.is_empty() && message.len() + item.len() > room {
                message.extend_from_slice(&tail);
                self.send(std::mem::take(&mut message)).await;
            }
            if message.is_empty() {
                message = item;
            } else {
                message.extend_from_slice(&item);
            }
        }
        message.extend_from_slice(&tail);
        message.extend_from_slice(last);
        self.send(message).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(items: Vec<Vec<u8>>, max_bytes: usize) -> Vec<Vec<u8>> {
        let (sender, mut receiver) = mpsc::channel(1000);
        let packets = Packets { sender, max_bytes };
        let tail = b"t".to_vec();
        packets.send_all(Part { items, tail }, b"l").await;
        drop(packets);
        let mut out = Vec::new();
        while let Some(message) = receiver.recv().await {
            out.push(message.unwrap().to_vec());
        }
        out
    }

    #[tokio::test]
    async fn messages_are_bounded_and_only_the_last_one_says_how_it_ended() {
        let item = |c: u8, n: usize| vec![c; n];
        assert_eq!(sent(vec![], 10).await, [b"tl".to_vec()]);
        let all = sent(vec![item(b'a', 3), item(b'b', 4), item(b'c', 3)], 10).await;
        assert_eq!(all, [b"aaabbbbt".to_vec(), b"ccctl".to_vec()]);
        // One that is larger than a message goes alone.
        let all = sent(vec![item(b'a', 3), item(b'b', 30), item(b'c', 3)], 10).await;
        assert_eq!(all.len(), 3);
        assert_eq!(all[1].len(), 31);
    }
}
