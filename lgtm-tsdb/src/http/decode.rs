//! Decoding a push: where it stands when that takes a moment, on the compute pool when it may take longer.

use lgtm_core::codec::Allowance;
use lgtm_core::exec::CancelToken;
use lgtm_core::http::Ticket;
use lgtm_core::model::TenantId;
use lgtm_core::{Error, ErrorKind, Result};

use super::api::Api;
use super::error::ApiError;

use crate::components::PushOutcome;
use crate::wire::WriteBatch;

/// What is said of a request that becomes too large.
const TOO_LARGE: &str = "(server.max_decoded_bytes) (err-mimir-distributor-max-write-message-size)";

/// What is made in about a millisecond: a small request that becomes more goes to the pool after all.
const AT_ONCE_BYTES: usize = 2 << 20;

/// How much work a request is, as far as its size says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    Small,
    Large,
}

/// What a push has been given of the bytes that all pushes may take.
struct Paid {
    ticket: Ticket,
    bytes: u64,
}

impl Paid {
    /// Decodes with at most `max_bytes`. What an earlier attempt was given is not asked for again.
    fn decode(
        &mut self,
        batch: &mut WriteBatch,
        max_bytes: usize,
        cancel: &CancelToken,
        decode: &impl Fn(&mut WriteBatch, &mut Allowance<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut credit = self.bytes;
        let mut grow = |bytes: u64| {
            cancel.check("the decoding of a push")?;
            let more = bytes.saturating_sub(credit);
            credit = credit.saturating_sub(bytes);
            self.bytes += more;
            self.ticket.add(more)
        };
        decode(
            batch,
            &mut Allowance::new(max_bytes, &mut grow).hint(TOO_LARGE),
        )
    }
}

impl Api {
    /// Decodes a push and hands it on. `decode` may be called twice. Whoever drops the future cancels what has not begun, and what has at
    /// its next step.
    pub(super) async fn decode_and_push<D>(
        &self,
        tenant: &TenantId,
        ticket: Ticket,
        effort: Effort,
        decode: D,
    ) -> std::result::Result<PushOutcome, ApiError>
    where
        D: Fn(&mut WriteBatch, &mut Allowance<'_>) -> Result<()> + Send + 'static,
    {
        let max_bytes = self.settings.max_decoded_bytes.as_usize();
        let mut paid = Paid { ticket, bytes: 0 };
        let mut batch = self.take_batch();
        let at_once = match max_bytes {
            0 => AT_ONCE_BYTES,
            max => max.min(AT_ONCE_BYTES),
        };
        let mut decoded = match effort {
            Effort::Small => Some(paid.decode(&mut batch, at_once, &CancelToken::new(), &decode)),
            Effort::Large => None,
        };
        if let Some(Err(e)) = &decoded
            && e.kind() == ErrorKind::LimitExceeded
            && at_once != max_bytes
        {
            decoded = None;
        }
        // Held until all is answered, so that what the batch takes stays counted.
        let _paid;
        let decoded = match decoded {
            Some(decoded) => {
                _paid = paid;
                decoded
            }
            None => {
                let job = move |cancel: &CancelToken| {
                    let decoded = paid.decode(&mut batch, max_bytes, cancel, &decode);
                    Ok::<_, Error>((paid, batch, decoded))
                };
                let executor = self.frontend.engine().executor();
                let done = executor.run(job, &CancelToken::new()).await;
                let decoded;
                (_paid, batch, decoded) = done.map_err(ApiError::of_push)?;
                decoded
            }
        };
        let outcome = match decoded {
            Ok(()) => self.distributor.push(tenant, &batch).await,
            Err(e) => Err(e),
        };
        self.keep_batch(batch);
        outcome.map_err(ApiError::of_push)
    }
}
