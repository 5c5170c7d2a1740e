//! Messages, with the five bytes before each: whether it is compressed, and its length.

use axum::body::Bytes;
use bytes::BytesMut;

use super::settings::RpcCompression;
use crate::codec::{Allowance, ContentEncoding, SizeBound};
use crate::error::{Error, Result};
use crate::exec::{CancelToken, Executor};

/// Bytes before a message.
const PREFIX_BYTES: usize = 5;
/// Smaller messages are sent as they are.
const MIN_COMPRESSED_BYTES: usize = 1 << 10;
/// What is compressed and decompressed where it stands.
const INLINE_BYTES: usize = 64 << 10;
/// What is taken at once for a message that announces more.
const FIRST_BYTES: usize = 1 << 20;
/// Zstandard's quickest level that still finds repeated labels.
const LEVEL: i32 = 1;

/// A message that is being written. It has room for its prefix, so that it is never copied to be sent.
#[derive(Debug, Clone)]
pub struct RpcMessage(Vec<u8>);

impl Default for RpcMessage {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl RpcMessage {
    /// An empty message with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(PREFIX_BYTES + bytes);
        out.resize(PREFIX_BYTES, 0);
        Self(out)
    }

    /// The message of what `write` appends.
    pub fn of(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = Self::default();
        write(&mut out.0);
        out
    }

    /// What to append to. It begins with the prefix, which is not to be touched.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.0.len() - PREFIX_BYTES
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As it is sent.
    pub(super) async fn framed(
        self,
        compression: RpcCompression,
        executor: &Executor,
    ) -> Result<Bytes> {
        if compression == RpcCompression::None || self.len() < MIN_COMPRESSED_BYTES {
            return Ok(self.with_prefix(0));
        }
        if self.len() <= INLINE_BYTES {
            return self.compressed();
        }
        let job = move |_: &CancelToken| self.compressed();
        executor.run(job, &CancelToken::new()).await
    }

    fn compressed(self) -> Result<Bytes> {
        let mut out = Self::default();
        let message = &self.0[PREFIX_BYTES..];
        let packed = zstd::bulk::compress(message, LEVEL)
            .map_err(|e| Error::Internal(format!("compression of a message: {e}")))?;
        out.0.extend_from_slice(&packed);
        Ok(out.with_prefix(1))
    }

    fn with_prefix(mut self, flag: u8) -> Bytes {
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.0[0] = flag;
        self.0[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        self.0.into()
    }
}

/// Finds messages in the pieces in which they come.
#[derive(Debug)]
pub(super) struct MessageReader {
    /// The last piece, of which nothing was copied yet.
    piece: Bytes,
    /// The beginning of a message whose end has not come.
    held: BytesMut,
    encoding: ContentEncoding,
    max_bytes: usize,
}

impl MessageReader {
    /// A reader of messages of at most `max_bytes`, those that say so compressed by `encoding`.
    pub(super) fn new(encoding: ContentEncoding, max_bytes: usize) -> Self {
        Self {
            piece: Bytes::new(),
            held: BytesMut::new(),
            encoding,
            max_bytes,
        }
    }

    /// Takes a piece. All messages of the one before were taken out.
    pub(super) fn push(&mut self, piece: Bytes) {
        if self.held.is_empty() {
            self.piece = piece;
        } else {
            self.held.extend_from_slice(&piece);
        }
    }

    /// Whether nothing of another message has come.
    pub(super) fn is_between_messages(&self) -> bool {
        self.held.is_empty() && self.piece.is_empty()
    }

    /// The next message that has come whole.
    ///
    /// # Errors
    /// `LimitExceeded` for one that is too long, `Internal` for bytes that are none.
    pub(super) async fn next(&mut self, executor: &Executor) -> Result<Option<Bytes>> {
        let Some((flag, message)) = self.next_frame()? else {
            return Ok(None);
        };
        let encoding = match flag {
            0 => return Ok(Some(message)),
            1 => self.encoding,
            _ => return Err(Error::Internal(format!("a message has the flag {flag}"))),
        };
        let max_bytes = self.max_bytes;
        if message.len() <= INLINE_BYTES {
            return decompressed(encoding, &message, max_bytes).map(Some);
        }
        let job = move |_: &CancelToken| decompressed(encoding, &message, max_bytes);
        executor.run(job, &CancelToken::new()).await.map(Some)
    }

    fn next_frame(&mut self) -> Result<Option<(u8, Bytes)>> {
        let here: &[u8] = if self.held.is_empty() {
            &self.piece
        } else {
            &self.held
        };
        let Some((prefix, rest)) = here.split_first_chunk::<PREFIX_BYTES>() else {
            self.hold(PREFIX_BYTES);
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if length > self.max_bytes {
            return Err(Error::LimitExceeded(format!(
                "a message of {length} bytes, the limit is {} (max_message_size)",
                self.max_bytes
            )));
        }
        let whole = PREFIX_BYTES + length;
        if rest.len() < length {
            self.hold(whole);
            return Ok(None);
        }
        let mut frame = if self.held.is_empty() {
            self.piece.split_to(whole)
        } else {
            self.held.split_to(whole).freeze()
        };
        Ok(Some((flag, frame.split_off(PREFIX_BYTES))))
    }

    /// Keeps what has come of a message of so many bytes.
    fn hold(&mut self, bytes: usize) {
        if self.held.is_empty() && !self.piece.is_empty() {
            self.held.reserve(bytes.min(FIRST_BYTES));
            self.held
                .extend_from_slice(&std::mem::take(&mut self.piece));
        }
    }
}

/// A message as it was before it was compressed.
///
/// # Errors
/// `LimitExceeded` beyond the bound, `InvalidInput` for bytes that are not so compressed.
pub(super) fn decompressed(
    encoding: ContentEncoding,
    message: &[u8],
    max_bytes: usize,
) -> Result<Bytes> {
    let bound = SizeBound {
        max_bytes,
        hint: "(max_message_size)",
    };
    let (mut out, mut grow) = (Vec::new(), |_| Ok(()));
    let mut allowance = Allowance::new(2 * max_bytes, &mut grow);
    encoding.decompress(message, bound, &mut out, &mut allowance)?;
    Ok(out.into())
}
