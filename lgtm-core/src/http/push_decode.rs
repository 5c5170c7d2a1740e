//! Decoding a push: where it stands when that takes a moment, on the compute pool when it may take longer.

use crate::codec::Allowance;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{CancelToken, Executor};
use crate::limits::{PooledBatch, Reusable};

/// What is said of a request that becomes too large.
const TOO_LARGE: &str = "(server.max_decoded_bytes)";

/// What is made in about a millisecond: a small request that becomes more goes to the pool after all.
const AT_ONCE_BYTES: usize = 2 << 20;

/// How much work a request is, as far as its size says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeEffort {
    /// A millisecond at most, unless it becomes much more than it seems.
    Small,
    /// Maybe more.
    Large,
}

/// A batch that is being decoded, and what of its room was paid for that.
struct Decoding<B: Reusable> {
    batch: PooledBatch<B>,
    paid_bytes: u64,
}

impl<B: Reusable> Decoding<B> {
    /// Decodes with at most `max_bytes`. What an earlier attempt was given is not asked for again.
    fn decode(
        &mut self,
        max_bytes: usize,
        cancel: &CancelToken,
        decode: &impl Fn(&mut B, &mut Allowance<'_>) -> Result<()>,
    ) -> Result<()> {
        let (batch, mut room) = self.batch.parts();
        let mut credit = self.paid_bytes;
        let mut grow = |bytes: u64| {
            cancel.check("the decoding of a push")?;
            let more = bytes.saturating_sub(credit);
            credit = credit.saturating_sub(bytes);
            self.paid_bytes += more;
            room.as_mut().map_or(Ok(()), |room| room.add(more))
        };
        decode(
            batch,
            &mut Allowance::new(max_bytes, &mut grow).hint(TOO_LARGE),
        )
    }
}

/// Fills a batch by `decode`, which may be called twice and may take `max_bytes` of memory (0: what the batch can hold). Whoever drops the future
/// cancels what has not begun, and what has at its next step.
///
/// # Errors
/// Those of `decode`; `LimitExceeded` for a push that becomes too large, `Unavailable` without room for it.
pub async fn decode_push<B, D>(
    executor: &Executor,
    batch: PooledBatch<B>,
    effort: DecodeEffort,
    max_bytes: usize,
    decode: D,
) -> Result<PooledBatch<B>>
where
    B: Reusable + 'static,
    D: Fn(&mut B, &mut Allowance<'_>) -> Result<()> + Send + 'static,
{
    let at_once = match max_bytes {
        0 => AT_ONCE_BYTES,
        max => max.min(AT_ONCE_BYTES),
    };
    let mut decoding = Decoding {
        batch,
        paid_bytes: 0,
    };
    let mut decoded = match effort {
        DecodeEffort::Small => Some(decoding.decode(at_once, &CancelToken::new(), &decode)),
        DecodeEffort::Large => None,
    };
    if let Some(Err(e)) = &decoded
        && e.kind() == ErrorKind::LimitExceeded
        && at_once != max_bytes
    {
        decoded = None;
    }
    let decoded = match decoded {
        Some(decoded) => decoded,
        None => {
            let job = move |cancel: &CancelToken| {
                let decoded = decoding.decode(max_bytes, cancel, &decode);
                Ok::<_, Error>((decoding, decoded))
            };
            let done = executor.run(job, &CancelToken::new()).await?;
            let decoded;
            (decoding, decoded) = done;
            decoded
        }
    };
    decoded.map(|()| decoding.batch)
}
