//! Decoding a push: where it stands when that takes a moment, on the compute pool when it may take longer.

use lgtm_core::codec::Allowance;
use lgtm_core::exec::CancelToken;
use lgtm_core::limits::Ticket;
use lgtm_core::model::TenantId;
use lgtm_core::{Error, ErrorKind, Result};

use super::error::ApiError;
use super::push_api::PushApi;
use crate::components::PushOutcome;
use crate::wire::{PooledBatch, WriteBatch};

/// What is said of a request that becomes too large.
const TOO_LARGE: &str = "(server.max_decoded_bytes)";

/// What is made in about a millisecond: a small request that becomes more goes to the pool after all.
const AT_ONCE_BYTES: usize = 2 << 20;

/// How much work a request is, as far as its size says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    Small,
    Large,
}

/// A batch that is being decoded, and what of its room was paid for that.
struct Decoding {
    batch: PooledBatch,
    paid_bytes: u64,
}

impl Decoding {
    /// Decodes with at most `max_bytes`. What an earlier attempt was given is not asked for again.
    fn decode(
        &mut self,
        max_bytes: usize,
        cancel: &CancelToken,
        decode: &impl Fn(&mut WriteBatch, &mut Allowance<'_>) -> Result<()>,
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

impl PushApi {
    /// Decodes a push and hands it on. `decode` may be called twice. Whoever drops the future cancels what has not begun, and what has at
    /// its next step.
    pub(super) async fn decode_and_push<D>(
        &self,
        tenant: &TenantId,
        room: Ticket,
        effort: Effort,
        decode: D,
    ) -> std::result::Result<PushOutcome, ApiError>
    where
        D: Fn(&mut WriteBatch, &mut Allowance<'_>) -> Result<()> + Send + 'static,
    {
        let max_bytes = self.distributor.settings().max_decoded_bytes.as_usize();
        let at_once = match max_bytes {
            0 => AT_ONCE_BYTES,
            max => max.min(AT_ONCE_BYTES),
        };
        let mut decoding = Decoding {
            batch: self.distributor.batch(room),
            paid_bytes: 0,
        };
        let mut decoded = match effort {
            Effort::Small => Some(decoding.decode(at_once, &CancelToken::new(), &decode)),
            Effort::Large => None,
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
                let done = self.executor.run(job, &CancelToken::new()).await;
                let decoded;
                (decoding, decoded) = done.map_err(ApiError::of_payload)?;
                decoded
            }
        };
        decoded.map_err(ApiError::of_payload)?;
        let outcome = self.distributor.push(tenant, decoding.batch).await;
        outcome.map_err(ApiError::of_payload)
    }
}
