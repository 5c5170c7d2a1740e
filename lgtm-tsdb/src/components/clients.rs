//! How components reach each other. In one process a component implements the trait itself; over a network a client does.

use std::fmt::Debug;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::model::TenantId;

use crate::head::AppendReport;
use crate::wire::WriteBatch;

/// Takes samples and answers for recent ones.
#[async_trait]
pub trait IngesterClient: Debug + Send + Sync + 'static {
    /// Stores what the rules allow of a request. When it returns, that is as durable as the log's sync policy says.
    ///
    /// A push that failed may have been stored in part; pushing it again is harmless, as known samples are taken silently.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn push(&self, tenant: &TenantId, batch: &WriteBatch) -> Result<AppendReport>;
}
