//! Pushes on their way from bytes to the distributor.

use lgtm_core::Result;
use lgtm_core::codec::Allowance;
use lgtm_core::http::{DecodeEffort, decode_push};
use lgtm_core::limits::Ticket;
use lgtm_core::model::TenantId;

use super::error::ApiError;
use super::push_api::PushApi;
use crate::components::PushOutcome;
use crate::wire::WriteBatch;

impl PushApi {
    /// Decodes a push and hands it on. `decode` may be called twice.
    pub(super) async fn decode_and_push<D>(
        &self,
        tenant: &TenantId,
        room: Ticket,
        effort: DecodeEffort,
        decode: D,
    ) -> std::result::Result<PushOutcome, ApiError>
    where
        D: Fn(&mut WriteBatch, &mut Allowance<'_>) -> Result<()> + Send + 'static,
    {
        let max_bytes = self.distributor.settings().max_decoded_bytes.as_usize();
        let batch = self.distributor.batch(room);
        let batch = decode_push(&self.executor, batch, effort, max_bytes, decode).await;
        let batch = batch.map_err(ApiError::of_payload)?;
        let outcome = self.distributor.push(tenant, batch).await;
        outcome.map_err(ApiError::of_payload)
    }
}
