//! The service that keeps an instance's record.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::instance::InstanceState;
use crate::lifecycle::metrics::Metrics;
use crate::lifecycle::{Identity, LifecyclerSettings, Machine, Membership, Readiness, Role, Step};
use crate::store::RingStore;
use crate::token::{RandomTokens, TokenGenerator, TokensFile};

/// Commands that wait for the loop; more callers wait themselves.
const MAX_COMMANDS: usize = 16;
/// Tries to remove the record before it is left to others.
const UNREGISTER_TRIES: usize = 3;
/// The longest sleep of the loop, so that a far-away moment does not overflow a timer.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// What a component does while its instance leaves: flush, hand over.
#[async_trait]
pub trait OnStopping: Debug + Send + Sync + 'static {
    /// Called when the instance is LEAVING; heartbeats go on until it returns, then the record is removed.
    async fn on_stopping(&self) -> Result<()>;
}

/// Enters a ring, keeps the heartbeat going and leaves in order, as a [`Service`].
///
/// `start` returns once the record is in the ring, however long the store needs for it. In `stop` the instance is LEAVING while its component
/// does its [`OnStopping`] work; a component that depends on this service by name has ended by then.
#[derive(Debug)]
pub struct Lifecycler {
    name: String,
    depends_on: Vec<String>,
    store: RingStore,
    clock: Arc<dyn Clock>,
    settings: LifecyclerSettings,
    tokens_file: Option<(TokensFile, Executor)>,
    on_stopping: Option<Arc<dyn OnStopping>>,
    metrics: Metrics,
    /// Locked for moments only: never while the store is asked.
    machine: Mutex<Machine>,
    generator: Mutex<Box<dyn TokenGenerator>>,
    readiness: Mutex<Readiness>,
    membership: watch::Sender<Membership>,
    commands: mpsc::Sender<Command>,
    inbox: Mutex<Option<mpsc::Receiver<Command>>>,
    unregister: AtomicBool,
    clear_tokens: AtomicBool,
}

#[derive(Debug)]
struct Command {
    step: Step,
    done: oneshot::Sender<Result<()>>,
}

/// Collects the parts of a [`Lifecycler`].
#[derive(Debug)]
pub struct LifecyclerBuilder {
    name: String,
    depends_on: Vec<String>,
    store: RingStore,
    identity: Identity,
    role: Role,
    settings: LifecyclerSettings,
    clock: Arc<dyn Clock>,
    registry: Registry,
    prefix: String,
    generator: Option<Box<dyn TokenGenerator>>,
    tokens_file: Option<(TokensFile, Executor)>,
    on_stopping: Option<Arc<dyn OnStopping>>,
}

impl LifecyclerBuilder {
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
        let seed = self.clock.now_ms() ^ i64::from(crate::hash::tenant_token(&self.identity.id).0);
        let generator = self
            .generator
            .unwrap_or_else(|| Box::new(RandomTokens::seeded(seed)));
        if generator.is_deterministic() && self.tokens_file.is_some() {
            return Err(Error::InvalidInput(format!(
                "lifecycler of {}: a tokens file cannot be combined with tokens that follow from the name",
                self.identity.id
            )));
        }
        let metrics = Metrics::register(&self.registry, &self.prefix, &self.name)?;
        let now = self.clock.monotonic();
        let machine = Machine::new(
            self.settings.clone(),
            self.role,
            self.identity,
            Vec::new(),
            now,
        )?;
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        Ok(Arc::new(Lifecycler {
            name: format!("{}-lifecycler", self.name),
            depends_on: self.depends_on,
            store: self.store,
            clock: self.clock,
            unregister: AtomicBool::new(self.settings.unregister_on_shutdown),
            settings: self.settings,
            tokens_file: self.tokens_file,
            on_stopping: self.on_stopping,
            metrics,
            membership: watch::Sender::new(machine.membership().clone()),
            machine: Mutex::new(machine),
            generator: Mutex::new(generator),
            readiness: Mutex::default(),
            commands,
            inbox: Mutex::new(Some(inbox)),
            clear_tokens: AtomicBool::new(false),
        }))
    }
}

impl Lifecycler {
    /// A lifecycler for the ring called `name` (e.g. `ingester`) that `store` holds. The service is called `<name>-lifecycler`.
    pub fn builder(
        name: &str,
        store: RingStore,
        identity: Identity,
        role: Role,
    ) -> LifecyclerBuilder {
        let settings = match role {
            Role::HoldsData => LifecyclerSettings::default(),
            Role::DoesWork { .. } => LifecyclerSettings::without_data(),
        };
        LifecyclerBuilder {
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

    /// The record as it was last written or found.
    pub fn membership(&self) -> Membership {
        self.membership.borrow().clone()
    }

    /// The state as it was last written.
    pub fn state(&self) -> InstanceState {
        self.membership.borrow().state
    }

    /// Told whenever the record changes.
    pub fn subscribe(&self) -> watch::Receiver<Membership> {
        self.membership.subscribe()
    }

    /// Waits until own tokens are in the ring and settled. Cancel-safe.
    pub async fn tokens_settled(&self) {
        // An error means that the sender is gone; it lives in `self`.
        let _ = self.membership.subscribe().wait_for(|me| me.settled).await;
    }

    /// Goes to another state, e.g. from JOINING to ACTIVE when a component has prepared itself.
    ///
    /// # Errors
    /// `InvalidInput` for a change that is not allowed, `Unavailable` when the service does not run, those of the store.
    pub async fn change_state(&self, to: InstanceState) -> Result<()> {
        self.command(Step::ChangeState(to)).await
    }

    /// Takes the instance out of the shuffle shards that are written to, or back in. Kept in the ring's record only.
    ///
    /// # Errors
    /// `Unavailable` when the service does not run, those of the store.
    pub async fn set_read_only(&self, read_only: bool) -> Result<()> {
        self.command(Step::SetReadOnly(read_only)).await
    }

    /// Whether the record is removed at shutdown; overrides the setting until the process ends.
    pub fn set_unregister_on_shutdown(&self, unregister: bool) {
        self.unregister.store(unregister, Ordering::Release);
    }

    /// Whether the record will be removed at shutdown.
    pub fn unregisters_on_shutdown(&self) -> bool {
        self.unregister.load(Ordering::Acquire)
    }

    /// Whether the tokens file is removed at shutdown, for a scale-down.
    pub fn set_clear_tokens_on_shutdown(&self, clear: bool) {
        self.clear_tokens.store(clear, Ordering::Release);
    }

    async fn command(&self, step: Step) -> Result<()> {
        let stopped = || Error::Unavailable(format!("{} does not run", self.name));
        let (done, outcome) = oneshot::channel();
        let sent = self.commands.send(Command { step, done }).await;
        sent.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }

    /// Does one step: reads, plans, writes, remembers.
    async fn take(&self, step: Step) -> Result<()> {
        let outcome = self.write(step).await;
        // What was asked for wrongly is not a failure of the store.
        if let Err(error) = &outcome
            && error.kind() != ErrorKind::InvalidInput
        {
            self.metrics.failures.inc();
            let now = self.clock.monotonic();
            self.machine.lock().failed(step, now);
            tracing::warn!(service = %self.name, ?step, %error, "the own record was not written");
        }
        outcome
    }

    async fn write(&self, step: Step) -> Result<()> {
        let mut planned = None;
        let update = self.store.update(|ring| {
            let (now_s, now) = (self.now_s(), self.clock.monotonic());
            let mut generator = self.generator.lock();
            let plan = self
                .machine
                .lock()
                .plan(step, ring, &mut **generator, now_s, now)?;
            let writes = plan.writes() || !plan.forgotten().is_empty();
            planned = Some(plan);
            Ok(writes)
        });
        let within = self.settings.store_timeout;
        let written = tokio::time::timeout(within, update).await;
        written.map_err(|_| Error::Timeout {
            what: format!("writing the ring {}", self.store.key()),
            after: within,
        })??;
        let Some(planned) = planned else {
            return Ok(());
        };
        for id in planned.forgotten() {
            self.metrics.forgotten.inc();
            tracing::warn!(service = %self.name, instance = %id, "forgot an instance that was long dead");
        }
        if planned.writes() && step != Step::Unregister {
            self.metrics.heartbeats.inc();
        }
        let me = {
            let mut machine = self.machine.lock();
            machine.written(planned, self.clock.monotonic());
            machine.membership().clone()
        };
        if let Some(rival) = &me.rival {
            self.metrics.id_conflicts.inc();
            tracing::error!(
                service = %self.name, instance = %me.identity.id, own = %me.identity.addr, %rival,
                "two live processes go by one instance id"
            );
        }
        self.publish(me).await;
        Ok(())
    }

    async fn publish(&self, me: Membership) {
        self.metrics.show(&me, &self.settings);
        let tokens = Arc::clone(&me.tokens);
        let before = self.membership.send_replace(me);
        if before.tokens != tokens
            && let Some((file, executor)) = &self.tokens_file
        {
            let file = file.clone();
            let stored = executor.run_blocking(move || file.store(&tokens)).await;
            if let Err(error) = stored {
                tracing::error!(service = %self.name, %error, "tokens are not on disk");
            }
        }
    }

    async fn load_tokens(&self) {
        let Some((file, executor)) = &self.tokens_file else {
            return;
        };
        let file = file.clone();
        match executor.run_blocking(move || file.load()).await {
            Ok(tokens) => self.machine.lock().remember(tokens.unwrap_or_default()),
            // The ring may know them; if not, new ones do.
            Err(error) => {
                self.metrics.bad_tokens_files.inc();
                tracing::error!(service = %self.name, %error, "the tokens file is of no use");
            }
        }
    }

    /// Does what is due until `until` ends.
    async fn keep_up<T>(
        &self,
        inbox: &mut Option<mpsc::Receiver<Command>>,
        until: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(until);
        loop {
            let now = self.clock.monotonic();
            let (due, wake_at) = {
                let machine = self.machine.lock();
                (machine.due(now), machine.wake_at())
            };
            if let Some(step) = due {
                // Its failure is noted and it comes again.
                let _ = self.take(step).await;
            }
            let rest = wake_at.saturating_sub(now).min(LONGEST_SLEEP);
            let rest = if due.is_some() { Duration::ZERO } else { rest };
            let command = async {
                match inbox {
                    Some(inbox) => inbox.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ended = &mut until => return ended,
                Some(Command { step, done }) = command => {
                    // The caller may have gone.
                    let _ = done.send(self.take(step).await);
                }
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn leave(&self) -> Result<()> {
        // If it cannot be written, heartbeats still say that it lives, and the record goes in the end.
        let _ = self.take(Step::Leave).await;
        let mut outcome = Ok(());
        if let Some(work) = self.on_stopping.clone() {
            let began = self.clock.monotonic();
            outcome = self.keep_up(&mut None, work.on_stopping()).await;
            let took = self.clock.monotonic().saturating_sub(began);
            self.metrics.shutdown_part("flush", took, &outcome);
        }
        let last = tokio::time::sleep(self.settings.final_sleep);
        self.keep_up(&mut None, last).await;
        if self.unregisters_on_shutdown() {
            self.unregister().await;
        }
        if self.clear_tokens.load(Ordering::Acquire)
            && let Some((file, executor)) = &self.tokens_file
        {
            let file = file.clone();
            executor.run_blocking(move || file.remove()).await?;
        }
        outcome
    }

    async fn unregister(&self) {
        let began = self.clock.monotonic();
        let mut outcome = Ok(());
        for _ in 0..UNREGISTER_TRIES {
            outcome = self.take(Step::Unregister).await;
            if outcome.is_ok() {
                break;
            }
        }
        let took = self.clock.monotonic().saturating_sub(began);
        self.metrics.shutdown_part("unregister", took, &outcome);
    }

    fn now_s(&self) -> i64 {
        self.clock.now_ms().div_euclid(1000)
    }
}

#[async_trait]
impl Service for Lifecycler {
    fn name(&self) -> &str {
        &self.name
    }

    fn depends_on(&self) -> Vec<String> {
        self.depends_on.clone()
    }

    async fn start(&self) -> Result<()> {
        self.load_tokens().await;
        loop {
            let now = self.clock.monotonic();
            let (due, wake_at) = {
                let machine = self.machine.lock();
                (machine.due(now), machine.wake_at())
            };
            match due {
                Some(Step::Register) => {
                    if self.take(Step::Register).await.is_ok() {
                        return Ok(());
                    }
                }
                // It is in the ring already.
                Some(_) => return Ok(()),
                None => tokio::time::sleep(wake_at.saturating_sub(now)).await,
            }
        }
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let mut inbox = self.inbox.lock().take();
        self.keep_up(&mut inbox, stop.cancelled()).await;
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        if !self.machine.lock().is_registered() {
            return Ok(());
        }
        self.leave().await
    }

    async fn check_ready(&self) -> Result<()> {
        let ring = tokio::time::timeout(self.settings.store_timeout, self.store.load()).await;
        let ring = ring.map_err(|_| Error::Timeout {
            what: format!("reading the ring {}", self.store.key()),
            after: self.settings.store_timeout,
        })??;
        let me = self.membership();
        let (now_s, now) = (self.now_s(), self.clock.monotonic());
        let mut readiness = self.readiness.lock();
        readiness.check(&self.settings, &ring, &me, now_s, now)
    }
}

#[cfg(test)]
mod tests;
