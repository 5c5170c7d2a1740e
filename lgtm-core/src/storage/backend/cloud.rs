//! The network back ends, each behind its cargo feature.

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
use crate::error::Error;
use crate::error::Result;
use crate::storage::backend::backend::Backend;
use crate::storage::backend::credentials::BackendSettings;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
use crate::storage::backend::network;
use crate::storage::backend::url::CloudUrl;

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn not_built(url: &CloudUrl, feature: &str) -> Error {
    super::url::invalid(
        &url.url,
        &format!(
            "needs a back end that this program was built without: cargo feature {feature:?} of lgtm-core"
        ),
    )
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn refused(url: &CloudUrl, error: object_store::Error) -> crate::error::Error {
    super::url::invalid(&url.url, &format!("is refused: {error}"))
}

#[cfg(feature = "s3")]
pub(super) fn s3(url: &CloudUrl, settings: &BackendSettings) -> Result<Backend> {
    use object_store::aws::AmazonS3Builder;

    use crate::storage::backend::backend::BackendKind;
    use crate::storage::backend::credentials::Credentials;

    let builder = match &settings.credentials {
        Credentials::Environment => AmazonS3Builder::from_env(),
        Credentials::Anonymous => AmazonS3Builder::new().with_skip_signature(true),
        Credentials::Static {
            id,
            secret,
            session_token,
        } => {
            let builder = AmazonS3Builder::new()
                .with_access_key_id(id)
                .with_secret_access_key(secret.reveal());
            match session_token {
                Some(token) => builder.with_token(token.reveal()),
                None => builder,
            }
        }
    };
    let mut builder = builder
        .with_bucket_name(&url.bucket)
        .with_virtual_hosted_style_request(!url.path_style)
        .with_client_options(network::client(url.http_allowed(settings)?))
        .with_retry(network::no_retry());
    if let Some(endpoint) = &url.endpoint {
        // `object_store` wants the bucket in a virtual-hosted endpoint; we are given the bare one.
        let endpoint = endpoint.trim_end_matches('/');
        let full = match endpoint.split_once("://") {
            Some((scheme, host)) if !url.path_style => format!("{scheme}://{}.{host}", url.bucket),
            _ => endpoint.to_owned(),
        };
        builder = builder.with_endpoint(full);
    }
    if let Some(region) = &url.region {
        builder = builder.with_region(region);
    }
    let store = builder.build().map_err(|e| refused(url, e))?;
    Ok(Backend::cloud(
        std::sync::Arc::new(store),
        BackendKind::S3,
        url.place("s3"),
        url.root.clone(),
    ))
}

#[cfg(not(feature = "s3"))]
pub(super) fn s3(url: &CloudUrl, _: &BackendSettings) -> Result<Backend> {
    Err(not_built(url, "s3"))
}

#[cfg(feature = "gcs")]
pub(super) fn gcs(url: &CloudUrl, settings: &BackendSettings) -> Result<Backend> {
    use object_store::gcp::GoogleCloudStorageBuilder;

    use crate::storage::backend::backend::BackendKind;
    use crate::storage::backend::credentials::Credentials;

    let builder = match &settings.credentials {
        Credentials::Environment => GoogleCloudStorageBuilder::from_env(),
        Credentials::Anonymous => GoogleCloudStorageBuilder::new().with_skip_signature(true),
        Credentials::Static { secret, .. } => {
            GoogleCloudStorageBuilder::new().with_service_account_key(secret.reveal())
        }
    };
    let mut builder = builder
        .with_bucket_name(&url.bucket)
        .with_client_options(network::client(url.http_allowed(settings)?))
        .with_retry(network::no_retry());
    if let Some(endpoint) = &url.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let store = builder.build().map_err(|e| refused(url, e))?;
    Ok(Backend::cloud(
        std::sync::Arc::new(store),
        BackendKind::Gcs,
        url.place("gs"),
        url.root.clone(),
    ))
}

#[cfg(not(feature = "gcs"))]
pub(super) fn gcs(url: &CloudUrl, _: &BackendSettings) -> Result<Backend> {
    Err(not_built(url, "gcs"))
}

#[cfg(feature = "azure")]
pub(super) fn azure(url: &CloudUrl, settings: &BackendSettings) -> Result<Backend> {
    use object_store::azure::MicrosoftAzureBuilder;

    use crate::storage::backend::backend::BackendKind;
    use crate::storage::backend::credentials::Credentials;

    let builder = match &settings.credentials {
        Credentials::Environment => MicrosoftAzureBuilder::from_env(),
        Credentials::Anonymous => MicrosoftAzureBuilder::from_env().with_skip_signature(true),
        Credentials::Static { id, secret, .. } => MicrosoftAzureBuilder::new()
            .with_account(id)
            .with_access_key(secret.reveal()),
    };
    let allow_http = url.http_allowed(settings)?;
    let mut builder = builder
        .with_container_name(&url.bucket)
        .with_client_options(network::client(allow_http))
        .with_retry(network::no_retry());
    if let Some(endpoint) = &url.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let store = builder.build().map_err(|e| refused(url, e))?;
    Ok(Backend::cloud(
        std::sync::Arc::new(store),
        BackendKind::Azure,
        url.place("az"),
        url.root.clone(),
    ))
}

#[cfg(not(feature = "azure"))]
pub(super) fn azure(url: &CloudUrl, _: &BackendSettings) -> Result<Backend> {
    Err(not_built(url, "azure"))
}
