//! A component of another process, and how it is asked.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{RpcCaller, RpcClient, RpcStream};
use super::message::RpcMessage;
use super::messages::SentList;
use crate::model::{Listed, TenantId};
use crate::units::duration;
use crate::{Error, Result};

/// How long calls may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteSettings {
    /// How long a push may take. Default 5s: a log that is written once a second is done in one; a sender tries again after more.
    #[serde(with = "duration")]
    pub push_timeout: Duration,
    /// How long any other question may take, to the last series of its answer. Default 2m, as long as a query may take.
    #[serde(with = "duration")]
    pub query_timeout: Duration,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            push_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(120),
        }
    }
}

impl RemoteSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput` for a time of 0.
    pub fn validate(&self) -> Result<()> {
        if self.push_timeout.is_zero() || self.query_timeout.is_zero() {
            return Err(Error::InvalidInput(
                "push_timeout and query_timeout must be above 0".into(),
            ));
        }
        Ok(())
    }
}

/// A component of another process: what the clients of a signal are made of.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Arc<RpcClient>,
    settings: RemoteSettings,
}

impl Remote {
    /// The one that `client` calls.
    pub fn new(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self { client, settings }
    }

    /// How it is called.
    pub fn client(&self) -> &Arc<RpcClient> {
        &self.client
    }

    /// How long calls may take.
    pub fn settings(&self) -> &RemoteSettings {
        &self.settings
    }

    fn caller<'a>(
        &self,
        method: &'static str,
        tenant: &'a TenantId,
        within: Duration,
    ) -> RpcCaller<'a> {
        RpcCaller {
            method,
            tenant: Some(tenant),
            within,
        }
    }

    /// Hands something over, within the time of pushes.
    ///
    /// # Errors
    /// Those of the other side; `Internal` for an answer that is none.
    pub async fn push<T>(
        &self,
        method: &'static str,
        tenant: &TenantId,
        message: RpcMessage,
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let caller = self.caller(method, tenant, self.settings.push_timeout);
        let answer = self.client.unary(caller, message).await?;
        read(&answer).map_err(|e| self.unreadable(method, &e))
    }

    /// Asks a question that has one answer.
    ///
    /// # Errors
    /// As [`Remote::push`].
    pub async fn ask<T>(
        &self,
        method: &'static str,
        tenant: &TenantId,
        write: impl FnOnce(&mut Vec<u8>),
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let caller = self.caller(method, tenant, self.settings.query_timeout);
        let answer = self.client.unary(caller, RpcMessage::of(write)).await?;
        read(&answer).map_err(|e| self.unreadable(method, &e))
    }

    /// Asks a question whose answer has several messages.
    ///
    /// # Errors
    /// Those of the other side.
    pub async fn stream(
        &self,
        method: &'static str,
        tenant: &TenantId,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<RpcStream> {
        let within = self.settings.query_timeout;
        self.stream_within(method, tenant, within, write).await
    }

    /// The same, within another time.
    ///
    /// # Errors
    /// Those of the other side.
    pub async fn stream_within(
        &self,
        method: &'static str,
        tenant: &TenantId,
        within: Duration,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<RpcStream> {
        let caller = self.caller(method, tenant, within);
        self.client.stream(caller, RpcMessage::of(write)).await
    }

    /// Asks for a list.
    ///
    /// # Errors
    /// Those of the other side; `Unavailable` for an answer without an end.
    pub async fn list<T: SentList>(
        &self,
        method: &'static str,
        tenant: &TenantId,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Listed<T>> {
        let mut answer = self.stream(method, tenant, write).await?;
        let (mut items, mut end) = (T::default(), None);
        while let Some(message) = answer.next().await? {
            let taken = items.take(&message);
            end = taken.map_err(|e| self.unreadable(method, &e))?;
        }
        let end = end.ok_or_else(|| self.endless(method))?;
        Ok(Listed {
            items,
            is_cut: end.is_cut,
            warnings: end.warnings,
        })
    }

    /// An answer that is none is the fault of the other side, or of its version.
    pub fn unreadable(&self, method: &str, e: &Error) -> Error {
        let address = self.client.address();
        Error::Internal(format!("the answer of {address} to {method}: {e}"))
    }

    /// An answer that does not say how it ended.
    pub fn endless(&self, method: &str) -> Error {
        let address = self.client.address();
        Error::Unavailable(format!(
            "the answer of {address} to {method} does not say how it ended"
        ))
    }
}
