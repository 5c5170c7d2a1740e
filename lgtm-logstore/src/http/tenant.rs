//! Who asks.

use axum::http::{HeaderMap, StatusCode};
use lgtm_core::http::TenantError;
use lgtm_core::model::TenantId;

use super::error::ApiError;

/// The tenant of a request: the header's when multi-tenancy is on, `anonymous` otherwise.
pub(super) fn tenant(headers: &HeaderMap, multitenancy: bool) -> Result<TenantId, ApiError> {
    lgtm_core::http::tenant(headers, multitenancy).map_err(|e| match e {
        TenantError::Invalid(e) => e.into(),
        missing => ApiError::new(StatusCode::UNAUTHORIZED, format!("{missing}\n")),
    })
}
