//! What an instance knows of itself.

use std::sync::Arc;

use crate::instance::{Instance, InstanceState, Stamp};
use crate::token::Token;

/// Who the instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name, unique in the ring and the same after a restart.
    pub id: String,
    /// `host:port` that others dial.
    pub addr: String,
    /// Its availability zone; may be empty.
    pub zone: String,
}

/// What an instance is in its ring for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It holds data (ingesters): it joins step by step and becomes ACTIVE by itself.
    HoldsData,
    /// It does work (store-gateways, compactors, rulers): it registers in the given state, and its component says when it is ACTIVE.
    DoesWork {
        /// JOINING for those who prepare first, else ACTIVE.
        joins_as: InstanceState,
    },
}

/// An instance's own record as it was last written or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Who it is.
    pub identity: Identity,
    /// Where it stands in its life.
    pub state: InstanceState,
    /// Its tokens, ascending.
    pub tokens: Arc<[Token]>,
    /// When it entered the ring, Unix seconds.
    pub registered_timestamp_s: i64,
    /// Whether it takes no writes for shuffle shards.
    pub read_only: bool,
    /// The last change of `read_only`, Unix seconds; 0 = never.
    pub read_only_updated_timestamp_s: i64,
    /// Whether its tokens are in the ring and nobody contests them.
    pub settled: bool,
    /// The address of another live process that writes this record too, as the last step found it: two go by one id. Each takes the record back at its
    /// heartbeats until one of them leaves; the one that leaves lets the other have it.
    pub rival: Option<String>,
}

impl Membership {
    pub(super) fn new(identity: Identity, tokens: Vec<Token>) -> Self {
        Self {
            identity,
            state: InstanceState::Pending,
            tokens: tokens.into(),
            registered_timestamp_s: 0,
            read_only: false,
            read_only_updated_timestamp_s: 0,
            settled: false,
            rival: None,
        }
    }

    /// The record for the ring. Versions are kept from the one before.
    pub(super) fn record(&self, before: Option<&Instance>, stamp: Stamp) -> Instance {
        Instance {
            id: self.identity.id.clone(),
            addr: self.identity.addr.clone(),
            zone: self.identity.zone.clone(),
            state: self.state,
            timestamp_s: stamp.timestamp_s,
            clock_epoch: stamp.clock_epoch,
            registered_timestamp_s: self.registered_timestamp_s,
            read_only: self.read_only,
            read_only_updated_timestamp_s: self.read_only_updated_timestamp_s,
            tokens: Arc::clone(&self.tokens),
            versions: before.map_or_else(Default::default, |b| b.versions.clone()),
        }
    }
}
