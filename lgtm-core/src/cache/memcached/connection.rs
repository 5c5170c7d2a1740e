//! One connection to a server.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cache::memcached::protocol::{
    Answer, END, MAX_LINE, put_delete, put_get, put_set, read_line,
};
use crate::cache::remote::{Failure, Write};

/// Bytes that are read at a time, at least.
const READ_BYTES: usize = 16 << 10;
/// Memory that a connection keeps between requests.
const KEPT_BYTES: usize = 64 << 10;
/// Smaller values are copied, so that none keeps a whole read buffer alive.
const COPIED_BYTES: usize = 4 << 10;

/// A connection. After a failure it must not be used again: nobody knows what is still to come through it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: Vec<u8>,
}

/// What can be asked at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    /// Values of at most `max_bytes` of the keys with these numbers.
    Get {
        keys: &'a [&'a str],
        numbers: &'a [usize],
        max_bytes: usize,
    },
    Write(&'a [Write]),
}

/// What came of a request.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Values, with the place of each key in the request.
    pub(super) found: Vec<(usize, Bytes)>,
    /// Requests that the server refused.
    pub(super) refused: u64,
    /// Values that it did not store.
    pub(super) not_stored: u64,
}

impl Connection {
    pub(super) async fn open(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|_| Failure::Network)?;
        // Requests are written whole; waiting for more would only cost time.
        stream.set_nodelay(true).map_err(|_| Failure::Network)?;
        Ok(Self {
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
        })
    }

    pub(super) async fn ask(&mut self, request: Request<'_>) -> Result<Outcome, Failure> {
        match request {
            Request::Get {
                keys,
                numbers,
                max_bytes,
            } => {
                self.output.clear();
                for (at, &number) in numbers.iter().enumerate() {
                    put_get(&mut self.output, keys[number], at);
                }
                self.end_request().await?;
                self.read_answers(numbers.len(), max_bytes).await
            }
            Request::Write(writes) => {
                self.write(writes).await?;
                self.read_answers(0, 0).await
            }
        }
    }

    async fn write(&mut self, writes: &[Write]) -> Result<(), Failure> {
        self.output.clear();
        for write in writes {
            match &write.value {
                None => put_delete(&mut self.output, &write.key),
                Some((value, ttl)) => {
                    let ttl = ttl.map(|ttl| ttl.as_secs());
                    put_set(&mut self.output, &write.key, value.len(), ttl);
                    if value.len() > KEPT_BYTES {
                        self.send().await?;
                        self.send_all(value).await?;
                    } else {
                        self.output.extend_from_slice(value);
                    }
                    self.output.extend_from_slice(b"\r\n");
                }
            }
            if self.output.len() > KEPT_BYTES {
                self.send().await?;
            }
        }
        self.end_request().await
    }

    async fn end_request(&mut self) -> Result<(), Failure> {
        self.output.extend_from_slice(END);
        self.send().await
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let output = std::mem::take(&mut self.output);
        let sent = self.send_all(&output).await;
        self.output = output;
        self.output.clear();
        self.output.shrink_to(2 * KEPT_BYTES);
        sent
    }

    async fn send_all(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.stream.write_all(bytes).await;
        sent.map_err(|_| Failure::Network)
    }

    async fn read_answers(&mut self, keys: usize, max_bytes: usize) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        loop {
            match read_line(&self.line().await?)? {
                Answer::End => break,
                Answer::Fine => {}
                Answer::NotStored => outcome.not_stored += 1,
                Answer::Refused => outcome.refused += 1,
                Answer::Value { bytes, number } => {
                    // More than was ever stored, or of a key that was not asked for.
                    if bytes > max_bytes || number >= keys || outcome.found.len() >= keys {
                        return Err(Failure::Protocol);
                    }
                    let value = self.value(bytes).await?;
                    outcome.found.push((number, value));
                }
            }
        }
        if !self.input.is_empty() {
            return Err(Failure::Protocol);
        }
        if self.input.capacity() > KEPT_BYTES {
            self.input = BytesMut::new();
        }
        Ok(outcome)
    }

    /// The next line, without its end.
    async fn line(&mut self) -> Result<BytesMut, Failure> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.input[searched..]) {
                let mut line = self.input.split_to(searched + at + 1);
                line.truncate(searched + at);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(line);
            }
            searched = self.input.len();
            if searched > MAX_LINE {
                return Err(Failure::Protocol);
            }
            self.read(READ_BYTES).await?;
        }
    }

    async fn value(&mut self, bytes: usize) -> Result<Bytes, Failure> {
        while self.input.len() < bytes + 2 {
            let missing = bytes + 2 - self.input.len();
            self.read(missing.max(READ_BYTES)).await?;
        }
        if &self.input[bytes..bytes + 2] != b"\r\n" {
            return Err(Failure::Protocol);
        }
        let value = match bytes <= COPIED_BYTES {
            true => {
                let value = Bytes::copy_from_slice(&self.input[..bytes]);
                self.input.advance(bytes);
                value
            }
            false => self.input.split_to(bytes).freeze(),
        };
        self.input.advance(2);
        Ok(value)
    }

    async fn read(&mut self, room: usize) -> Result<(), Failure> {
        self.input.reserve(room);
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) | Err(_) => Err(Failure::Network),
            Ok(_) => Ok(()),
        }
    }
}
