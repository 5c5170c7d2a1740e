//! The service that keeps an instance's record.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::service::Service;
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::instance::InstanceState;
use crate::lifecycle::metrics::LifecyclerMetrics;
use crate::lifecycle::{
    Identity, LifecyclerBuilder, LifecyclerSettings, Machine, Membership, Readiness, Role, Step,
};
use crate::store::RingStore;
use crate::token::{RandomTokens, Token, TokenGenerator, TokensFile};

/// Commands that wait for the loop; more callers wait themselves.
const MAX_COMMANDS: usize = 16;
/// Tries to remove the record before it is left to others.
const UNREGISTER_TRIES: usize = 3;
/// The time between them: a store that restarts answers again in a moment.
const UNREGISTER_PAUSE: Duration = Duration::from_secs(1);
/// The longest sleep of the loop, so that a far-away moment does not overflow a timer.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// What a component does while its instance leaves: flush, hand over.
#[async_trait]
pub trait OnStopping: Debug + Send + Sync + 'static {
    /// Called when the instance is LEAVING; heartbeats go on until it returns, then the record is removed, if that is wanted and this succeeded.
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
    /// What the tokens file holds, as far as this process wrote it.
    on_disk: Mutex<Option<Arc<[Token]>>>,
    on_stopping: Option<Arc<dyn OnStopping>>,
    metrics: LifecyclerMetrics,
    /// Locked for moments only: never while the store is asked.
    machine: Mutex<Machine>,
    generator: Mutex<Box<dyn TokenGenerator>>,
    readiness: Mutex<Readiness>,
    membership: watch::Sender<Membership>,
    commands: mpsc::Sender<LifecyclerCommand>,
    inbox: Mutex<Option<mpsc::Receiver<LifecyclerCommand>>>,
    unregister: AtomicBool,
    clear_tokens: AtomicBool,
}

#[derive(Debug)]
struct LifecyclerCommand {
    step: Step,
    done: oneshot::Sender<Result<()>>,
}

impl Lifecycler {
    /// A lifecycler for the ring called `name` (e.g. `ingester`) that `store` holds. The service is called `<name>-lifecycler`.
    pub fn builder(
        name: &str,
        store: RingStore,
        identity: Identity,
        role: Role,
    ) -> LifecyclerBuilder {
        LifecyclerBuilder::new(name, store, identity, role)
    }

    pub(super) fn from_builder(builder: LifecyclerBuilder) -> Result<Self> {
        let seed = builder.clock.now_ms().get()
            ^ i64::from(crate::hash::tenant_token(&builder.identity.id).0);
        let generator = builder
            .generator
            .unwrap_or_else(|| Box::new(RandomTokens::seeded(seed)));
        if generator.is_deterministic() && builder.tokens_file.is_some() {
            return Err(Error::InvalidInput(format!(
                "lifecycler of {}: a tokens file cannot be combined with tokens that follow from the name",
                builder.identity.id
            )));
        }
        let metrics =
            LifecyclerMetrics::register(&builder.registry, &builder.prefix, &builder.name)?;
        let now = builder.clock.monotonic();
        let machine = Machine::new(
            builder.settings.clone(),
            builder.role,
            builder.identity,
            Vec::new(),
            now,
        )?;
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        Ok(Self {
            name: format!("{}-lifecycler", builder.name),
            depends_on: builder.depends_on,
            store: builder.store,
            clock: builder.clock,
            unregister: AtomicBool::new(builder.settings.unregister_on_shutdown),
            settings: builder.settings,
            tokens_file: builder.tokens_file,
            on_disk: Mutex::default(),
            on_stopping: builder.on_stopping,
            metrics,
            membership: watch::Sender::new(machine.membership().clone()),
            machine: Mutex::new(machine),
            generator: Mutex::new(generator),
            readiness: Mutex::default(),
            commands,
            inbox: Mutex::new(Some(inbox)),
            clear_tokens: AtomicBool::new(false),
        })
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

    /// Goes to another state, e.g. from JOINING to ACTIVE when a component has prepared itself. Before the service runs this waits for it.
    ///
    /// # Errors
    /// `InvalidInput` for a change that is not allowed, `Unavailable` when the service has ended, those of the store.
    pub async fn change_state(&self, to: InstanceState) -> Result<()> {
        self.command(Step::ChangeState(to)).await
    }

    /// Takes the instance out of the shuffle shards that are written to, or back in. Kept in the ring's record only. Before the service runs
    /// this waits for it.
    ///
    /// # Errors
    /// `Unavailable` when the service has ended, those of the store.
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
        let sent = self.commands.send(LifecyclerCommand { step, done }).await;
        sent.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }

    /// Does one step: reads, plans, writes, remembers.
    async fn take(&self, step: Step) -> Result<()> {
        let outcome = self.write(step).await;
        if let Err(error) = &outcome {
            let now = self.clock.monotonic();
            self.machine.lock().failed(step, now);
            // What somebody asked for wrongly is not a failure of the store.
            let is_asked = matches!(step, Step::ChangeState(_) | Step::SetReadOnly(_));
            if !is_asked || error.kind() != ErrorKind::InvalidInput {
                self.metrics.failures.inc();
                tracing::warn!(service = %self.name, ?step, %error, "the own record was not written");
            }
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
        self.membership.send_replace(me);
        let Some((file, executor)) = &self.tokens_file else {
            return;
        };
        if self.on_disk.lock().as_ref() == Some(&tokens) {
            return;
        }
        let (file, stored) = (file.clone(), Arc::clone(&tokens));
        match executor.run_blocking(move || file.store(&stored)).await {
            Ok(()) => *self.on_disk.lock() = Some(tokens),
            // The next heartbeat tries again.
            Err(error) => {
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

    /// Does what is due until `until` ends. A store that hangs does not hold `until` up.
    async fn keep_up<T>(
        &self,
        inbox: &mut Option<mpsc::Receiver<LifecyclerCommand>>,
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
                let (_, ended) = beside(self.take(step), until.as_mut()).await;
                if let Some(ended) = ended {
                    return ended;
                }
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
                Some(LifecyclerCommand { step, done }) = command => {
                    let (outcome, ended) = beside(self.take(step), until.as_mut()).await;
                    // The caller may have gone.
                    let _ = done.send(outcome);
                    if let Some(ended) = ended {
                        return ended;
                    }
                }
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    async fn leave(&self) -> Result<()> {
        // If it cannot be written, the next heartbeat says it.
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
        match &outcome {
            // What it holds may be nowhere else: its place says that it is missed.
            Err(error) if self.unregisters_on_shutdown() => {
                tracing::error!(service = %self.name, %error, "the work before the leave failed; the own record stays in the ring");
            }
            _ if self.unregisters_on_shutdown() => self.unregister().await,
            _ => {}
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
        for attempt in 0..UNREGISTER_TRIES {
            if attempt > 0 {
                tokio::time::sleep(UNREGISTER_PAUSE).await;
            }
            outcome = self.take(Step::Unregister).await;
            if outcome.is_ok() {
                break;
            }
        }
        let took = self.clock.monotonic().saturating_sub(began);
        self.metrics.shutdown_part("unregister", took, &outcome);
    }

    fn now_s(&self) -> i64 {
        self.clock.now_ms().to_seconds()
    }
}

/// Sees `first` to its end and lets `second` go on meanwhile; yields what that came to, too, if it ended.
async fn beside<A, B>(
    first: impl Future<Output = A>,
    mut second: Pin<&mut impl Future<Output = B>>,
) -> (A, Option<B>) {
    tokio::pin!(first);
    tokio::select! {
        biased;
        done = &mut first => (done, None),
        ended = &mut second => (first.await, Some(ended)),
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
