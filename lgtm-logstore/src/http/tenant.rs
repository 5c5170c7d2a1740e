//! Who asks.

use axum::http::{HeaderMap, StatusCode};
use lgtm_core::http::TenantError;
use lgtm_core::model::TenantId;

use super::error::ApiError;
use super::settings::ApiSettings;

/// The tenant of a request: the header's when multi-tenancy is on, `anonymous` otherwise.
pub(super) fn tenant(headers: &HeaderMap, multitenancy: bool) -> Result<TenantId, ApiError> {
    lgtm_core::http::tenant(headers, multitenancy).map_err(refused)
}

/// The same for a query, which may name several where that is on.
pub(super) fn tenants(headers: &HeaderMap, settings: &ApiSettings) -> Result<TenantId, ApiError> {
    if !settings.multi_tenant_queries_enabled {
        return tenant(headers, settings.multitenancy_enabled);
    }
    let max = settings.max_tenants_per_query;
    lgtm_core::http::tenants(headers, settings.multitenancy_enabled, max).map_err(refused)
}

fn refused(e: TenantError) -> ApiError {
    match e {
        TenantError::Invalid(e) => e.into(),
        missing => ApiError::new(StatusCode::UNAUTHORIZED, format!("{missing}\n")),
    }
}
