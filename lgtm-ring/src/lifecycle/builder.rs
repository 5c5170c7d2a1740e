//! Putting a lifecycler together.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::Executor;
use lgtm_core::telemetry::Registry;

use crate::lifecycle::lifecycler::{Lifecycler, OnStopping};
use crate::lifecycle::{Identity, LifecyclerSettings, Role};
use crate::store::RingStore;
use crate::token::{TokenGenerator, TokensFile};

/// Collects the parts of a [`Lifecycler`].
#[derive(Debug)]
pub struct LifecyclerBuilder {
    pub(super) name: String,
    pub(super) depends_on: Vec<String>,
    pub(super) store: RingStore,
    pub(super) identity: Identity,
    pub(super) role: Role,
    pub(super) settings: LifecyclerSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) registry: Registry,
    pub(super) prefix: String,
    pub(super) generator: Option<Box<dyn TokenGenerator>>,
    pub(super) tokens_file: Option<(TokensFile, Executor)>,
    pub(super) on_stopping: Option<Arc<dyn OnStopping>>,
}

impl LifecyclerBuilder {
    pub(super) fn new(name: &str, store: RingStore, identity: Identity, role: Role) -> Self {
        let settings = match role {
            Role::HoldsData => LifecyclerSettings::default(),
            Role::DoesWork { .. } => LifecyclerSettings::without_data(),
        };
        Self {
            name: name.to_owned(),
            depends_on: Vec::new(),
            store,
            identity,
            role,
            settings,
            clock: Arc::new(SystemClock::new()),
            registry: Registry::new(),
            prefix: String::new(),
            generator: None,
            tokens_file: None,
            on_stopping: None,
        }
    }

    /// Settings. Default: [`LifecyclerSettings::default`], or [`LifecyclerSettings::without_data`] by the role.
    #[must_use]
    pub fn settings(mut self, settings: LifecyclerSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The clock. Default: the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where metrics go, and the product's prefix of their names, e.g. `cortex_`. Default: nowhere.
    #[must_use]
    pub fn metrics(mut self, registry: Registry, prefix: &str) -> Self {
        self.registry = registry;
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Where tokens come from. Default: random ones.
    #[must_use]
    pub fn tokens(mut self, generator: impl TokenGenerator) -> Self {
        self.generator = Some(Box::new(generator));
        self
    }

    /// The file that keeps tokens over a restart. Default: none.
    #[must_use]
    pub fn tokens_file(mut self, file: TokensFile, executor: Executor) -> Self {
        self.tokens_file = Some((file, executor));
        self
    }

    /// What is done while the instance leaves. Default: nothing.
    #[must_use]
    pub fn on_stopping(mut self, work: Arc<dyn OnStopping>) -> Self {
        self.on_stopping = Some(work);
        self
    }

    /// Adds a service that must run while this one writes, by name: the store, if it is one (`GossipKv`), or the record cannot be removed at
    /// shutdown.
    #[must_use]
    pub fn depends_on(mut self, service: &str) -> Self {
        self.depends_on.push(service.to_owned());
        self
    }

    /// Puts it together; touches nothing.
    ///
    /// # Errors
    /// `InvalidInput` for settings that are wrong, an empty id, a state that the role cannot begin in, a tokens file beside tokens that follow
    /// from the name, or metrics whose names are taken.
    pub fn build(self) -> Result<Arc<Lifecycler>> {
        Lifecycler::from_builder(self).map(Arc::new)
    }
}
