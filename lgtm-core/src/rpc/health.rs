//! gRPC's health service, `grpc.health.v1.Health`, as load balancers, Kubernetes and the pools of other components ask for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use super::client::{RpcCaller, RpcClient};
use super::message::RpcMessage;
use super::server::{RpcCall, RpcServer};
use crate::codec::Reader;
use crate::codec::protobuf::{put_varint_field, skip, varint_tag};
use crate::error::{DecodeError, Error, Result};
use crate::service::ServicesStatus;

/// The method's name.
pub const HEALTH_CHECK: &str = "grpc.health.v1.Health/Check";

const SERVING: u64 = 1;
const NOT_SERVING: u64 = 2;

/// The route of the service: it serves while all services of the process are ready. The name of a service in the question is not looked at.
pub fn health_routes(server: &Arc<RpcServer>, status: ServicesStatus) -> Router {
    let check = move |_: RpcCall| {
        let status = status.clone();
        async move {
            let is_ready = status.ready().await.is_ok();
            let told = if is_ready { SERVING } else { NOT_SERVING };
            Ok(RpcMessage::of(|out| put_varint_field(out, 1, told)))
        }
    };
    Router::new().route(&format!("/{HEALTH_CHECK}"), server.unary(check))
}

impl RpcClient {
    /// Asks whether the other process serves.
    ///
    /// # Errors
    /// `Unavailable` when it does not; as [`RpcClient::unary`].
    pub async fn check_health(&self, within: Duration) -> Result<()> {
        let caller = RpcCaller {
            method: HEALTH_CHECK,
            tenant: None,
            within,
        };
        let answer = self.unary(caller, RpcMessage::default()).await?;
        match status_of(&answer) {
            Ok(SERVING) => Ok(()),
            _ => Err(Error::Unavailable(format!(
                "{} does not serve",
                self.address()
            ))),
        }
    }
}

fn status_of(answer: &[u8]) -> Result<u64, DecodeError> {
    let mut r = Reader::new("health", answer);
    let mut status = 0;
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => status = r.uvarint()?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(status)
}
