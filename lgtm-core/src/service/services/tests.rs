use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::error::ErrorKind;
use crate::service::service::ServiceState;

type Log = Arc<Mutex<Vec<String>>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Plan {
    Obey,
    FailStart,
    HangStart,
    FailRun,
    PanicRun,
    FinishEarly,
    NotReady,
}

#[derive(Debug)]
struct Fake {
    name: &'static str,
    deps: Vec<&'static str>,
    plan: Plan,
    log: Log,
    go: Arc<Notify>,
}

impl Fake {
    fn note(&self, what: &str) {
        self.log.lock().push(format!("{what} {}", self.name));
    }
}

#[async_trait]
impl Service for Fake {
    fn name(&self) -> &str {
        self.name
    }

    fn depends_on(&self) -> Vec<String> {
        self.deps.iter().map(|d| (*d).into()).collect()
    }

    async fn start(&self) -> Result<()> {
        tokio::task::yield_now().await;
        self.note("start");
        match self.plan {
            Plan::FailStart => Err(Error::Unavailable("no disk".into())),
            Plan::HangStart => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        match self.plan {
            Plan::FailRun => {
                self.go.notified().await;
                Err(Error::Internal("lost the ring".into()))
            }
            Plan::PanicRun => panic!("index out of range"),
            Plan::FinishEarly => Ok(()),
            _ => {
                stop.cancelled().await;
                self.note("ran");
                Ok(())
            }
        }
    }

    async fn stop(&self) -> Result<()> {
        tokio::task::yield_now().await;
        self.note("stop");
        Ok(())
    }

    async fn check_ready(&self) -> Result<()> {
        match self.plan {
            Plan::NotReady => Err(Error::Unavailable("no querier connected".into())),
            _ => Ok(()),
        }
    }
}

struct Stage {
    log: Log,
    go: Arc<Notify>,
    services: Services,
}

impl Stage {
    fn new() -> Self {
        Self {
            log: Log::default(),
            go: Arc::default(),
            services: Services::new(),
        }
    }

    fn with(mut self, name: &'static str, deps: &[&'static str], plan: Plan) -> Self {
        self.services = self.services.add(Fake {
            name,
            deps: deps.to_vec(),
            plan,
            log: self.log.clone(),
            go: self.go.clone(),
        });
        self
    }

    fn states(&self) -> Vec<ServiceState> {
        let snapshot = self.services.status().snapshot();
        snapshot.iter().map(|r| r.state).collect()
    }
}

async fn once_running(status: ServicesStatus) {
    assert!(status.all_running().await);
}

#[tokio::test]
async fn a_host_says_what_a_service_comes_after() {
    let stage = Stage::new();
    let fake = |name: &'static str, deps: &[&'static str]| Fake {
        name,
        deps: deps.to_vec(),
        plan: Plan::Obey,
        log: stage.log.clone(),
        go: stage.go.clone(),
    };
    let services = Services::new()
        .add_after(["ring", "storage"], fake("ingester", &["storage"]))
        .add(fake("storage", &[]))
        .add(fake("ring", &[]));
    let status = services.status();
    services.run_until(once_running(status)).await.unwrap();
    let log = stage.log.lock().clone();
    assert_eq!(
        (log[2].as_str(), log[4].as_str()),
        ("start ingester", "stop ingester")
    );
    let unknown = Services::new().add_after(["rin"], fake("ingester", &[]));
    assert!(unknown.validate().unwrap_err().to_string().contains("rin"));
}

#[tokio::test]
async fn services_start_in_order_and_stop_in_reverse() {
    let stage = Stage::new()
        .with("api", &["querier", "ring"], Plan::Obey)
        .with("querier", &["ring"], Plan::Obey)
        .with("ring", &[], Plan::Obey);
    let status = stage.services.status();
    stage
        .services
        .run_until(once_running(status.clone()))
        .await
        .unwrap();
    assert_eq!(
        *stage.log.lock(),
        [
            "start ring",
            "start querier",
            "start api",
            "ran api",
            "stop api",
            "ran querier",
            "stop querier",
            "ran ring",
            "stop ring"
        ]
    );
    assert_eq!(
        status.render(),
        "api => Terminated\nquerier => Terminated\nring => Terminated\n"
    );
}

#[tokio::test]
async fn a_failed_start_stops_the_rest_and_never_starts_dependants() {
    let stage = Stage::new()
        .with("api", &["querier"], Plan::Obey)
        .with("querier", &["ring"], Plan::FailStart)
        .with("ring", &[], Plan::Obey);
    let status = stage.services.status();
    let log = stage.log.clone();
    let error = stage
        .services
        .run_until(std::future::pending())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "no disk");
    assert_eq!(
        *log.lock(),
        ["start ring", "start querier", "ran ring", "stop ring"]
    );
    let states: Vec<_> = status.snapshot().into_iter().map(|r| r.state).collect();
    use ServiceState::{Failed, Terminated};
    assert_eq!(states, [Terminated, Failed, Terminated]);
    assert!(status.render().contains("querier => Failed: no disk"));
}

#[tokio::test]
async fn a_failure_while_running_stops_dependants_first() {
    let stage = Stage::new()
        .with("api", &["ring"], Plan::Obey)
        .with("ring", &[], Plan::FailRun);
    let (status, go, log) = (stage.services.status(), stage.go.clone(), stage.log.clone());
    let watcher = {
        let status = status.clone();
        async move {
            once_running(status).await;
            go.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let error = stage.services.run_until(watcher).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(
        *log.lock(),
        [
            "start ring",
            "start api",
            "ran api",
            "stop api",
            "stop ring"
        ]
    );
}

#[tokio::test]
async fn a_panic_is_that_services_failure() {
    let stage = Stage::new()
        .with("a", &[], Plan::PanicRun)
        .with("b", &[], Plan::Obey);
    let log = stage.log.clone();
    let error = stage
        .services
        .run_until(std::future::pending())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "run panicked: index out of range");
    assert!(log.lock().contains(&"stop b".to_owned()));
}

#[tokio::test]
async fn a_service_that_is_done_ends_the_process_well() {
    let stage = Stage::new()
        .with("flusher", &["store"], Plan::FinishEarly)
        .with("store", &[], Plan::Obey);
    let log = stage.log.clone();
    stage
        .services
        .run_until(std::future::pending())
        .await
        .unwrap();
    assert_eq!(
        *log.lock(),
        [
            "start store",
            "start flusher",
            "stop flusher",
            "ran store",
            "stop store"
        ]
    );
}

#[tokio::test]
async fn shutdown_during_a_start_interrupts_it() {
    let stage =
        Stage::new()
            .with("replay", &[], Plan::HangStart)
            .with("api", &["replay"], Plan::Obey);
    let (status, log) = (stage.services.status(), stage.log.clone());
    let watched = log.clone();
    let shutdown = async move {
        while watched.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let text = status.ready().await.unwrap_err().to_string();
        assert_eq!(text, "Some services are not Running:\nNew: 1\nStarting: 1");
    };
    stage.services.run_until(shutdown).await.unwrap();
    assert_eq!(*log.lock(), ["start replay", "stop replay"]);
}

#[tokio::test]
async fn readiness_asks_the_components_once_all_run() {
    let stage = Stage::new().with("frontend", &[], Plan::NotReady);
    let status = stage.services.status();
    assert_eq!(stage.states(), [ServiceState::New]);
    let shutdown = {
        let status = status.clone();
        async move {
            once_running(status.clone()).await;
            let error = status.ready().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(
                error.to_string(),
                "frontend is not ready: no querier connected"
            );
        }
    };
    stage.services.run_until(shutdown).await.unwrap();
    assert_eq!(
        status.ready().await.unwrap_err().to_string(),
        "process is stopping"
    );
}

#[tokio::test(start_paused = true)]
async fn during_the_shutdown_delay_services_run_but_are_not_ready() {
    let stage = Stage::new().with("api", &[], Plan::Obey);
    let status = stage.services.status();
    let services = stage.services.shutdown_delay(Duration::from_secs(5));
    let run = services.run_until(once_running(status.clone()));
    let probe = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(status.snapshot()[0].state, ServiceState::Running);
        assert_eq!(
            status.ready().await.unwrap_err().to_string(),
            "process is stopping"
        );
    };
    let (ended, ()) = tokio::join!(run, probe);
    ended.unwrap();
    assert_eq!(status.snapshot()[0].state, ServiceState::Terminated);
}

#[tokio::test]
async fn faults_of_the_graph_are_errors_before_anything_starts() {
    let double = Stage::new()
        .with("a", &[], Plan::Obey)
        .with("a", &[], Plan::Obey);
    let unknown = Stage::new()
        .with("a", &["rinng"], Plan::Obey)
        .with("ring", &[], Plan::Obey);
    let circle = Stage::new()
        .with("a", &["b"], Plan::Obey)
        .with("b", &["a"], Plan::Obey);
    for (stage, wanted) in [
        (double, "added twice"),
        (unknown, "did you mean \"ring\""),
        (circle, "a -> b -> a"),
    ] {
        let log = stage.log.clone();
        let error = stage
            .services
            .run_until(std::future::pending())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(log.lock().is_empty());
    }
}
