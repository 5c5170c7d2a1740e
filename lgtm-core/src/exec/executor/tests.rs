use std::sync::mpsc;
use std::task::Poll;

use super::*;
use crate::error::ErrorKind;

fn executor(threads: usize, max_queued_jobs: usize) -> Executor {
    let settings = ExecutorSettings {
        threads,
        max_queued_jobs,
        ..Default::default()
    };
    Executor::new(&settings, Handle::current()).unwrap()
}

/// A job that holds the pool's only thread until the sender is used or dropped.
fn gate() -> (
    mpsc::Sender<()>,
    impl FnOnce(&CancelToken) -> Result<()> + Send,
) {
    let (open, opened) = mpsc::channel();
    let job = move |_: &CancelToken| {
        let _ = opened.recv();
        Ok(())
    };
    (open, job)
}

/// Polls once.
async fn poke<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn results_and_errors_come_back() {
    let exec = executor(2, 4);
    let cancel = CancelToken::new();
    assert_eq!(
        exec.run(|_| Ok::<_, Error>(2 + 2), &cancel).await.unwrap(),
        4
    );
    let error = exec
        .run(|_| Err::<(), _>(Error::NotFound("x".into())), &cancel)
        .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(exec.stats().finished, 2);
}

#[tokio::test]
async fn a_panic_fails_its_job_alone_and_the_thread_lives() {
    let exec = executor(1, 4);
    let cancel = CancelToken::new();
    for _ in 0..3 {
        let job = |_: &CancelToken| -> Result<()> { panic!("bad block") };
        let error = exec.run(job, &cancel).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "compute job panicked: bad block");
    }
    assert_eq!(exec.run(|_| Ok::<_, Error>(1), &cancel).await.unwrap(), 1);
    assert_eq!(exec.stats().panicked, 3);
}

#[tokio::test]
async fn a_dropped_future_never_starts_its_queued_job() {
    let exec = executor(1, 4);
    let cancel = CancelToken::new();
    let (open, job) = gate();
    let mut busy = Box::pin(exec.run(job, &cancel));
    assert!(poke(&mut busy).await.is_pending());
    let (ran, saw) = mpsc::channel();
    let mut dropped = Box::pin(exec.run(
        move |_| {
            ran.send(()).unwrap();
            Ok::<_, Error>(())
        },
        &cancel,
    ));
    assert!(poke(&mut dropped).await.is_pending());
    drop(dropped);
    drop(open);
    busy.await.unwrap();
    exec.run(|_| Ok::<_, Error>(()), &cancel).await.unwrap();
    assert!(saw.try_recv().is_err(), "the job ran");
    assert_eq!(exec.stats().cancelled, 1);
}

#[tokio::test]
async fn a_running_job_sees_that_its_future_was_dropped() {
    let exec = executor(1, 4);
    let (started, on_start) = mpsc::channel();
    let (ended, on_end) = mpsc::channel();
    let job = move |cancel: &CancelToken| {
        started.send(()).unwrap();
        while !cancel.is_cancelled() {
            std::thread::yield_now();
        }
        ended.send(()).unwrap();
        Ok::<_, Error>(())
    };
    let cancel = CancelToken::new();
    let mut running = Box::pin(exec.run(job, &cancel));
    assert!(poke(&mut running).await.is_pending());
    on_start.recv().unwrap();
    drop(running);
    on_end.recv().unwrap();
    assert!(!cancel.is_cancelled(), "only the job's own token");
}

#[tokio::test]
async fn callers_wait_while_the_queue_is_full() {
    let exec = executor(1, 1);
    let cancel = CancelToken::new();
    let (open, job) = gate();
    let mut busy = Box::pin(exec.run(job, &cancel));
    assert!(poke(&mut busy).await.is_pending());
    until(|| exec.stats().running == 1).await;
    let mut queued = Box::pin(exec.run(|_| Ok::<_, Error>(1), &cancel));
    let mut outside = Box::pin(exec.run(|_| Ok::<_, Error>(2), &cancel));
    assert!(poke(&mut queued).await.is_pending());
    assert!(poke(&mut outside).await.is_pending());
    assert_eq!(exec.stats().queued, 1);
    drop(open);
    busy.await.unwrap();
    assert_eq!((queued.await.unwrap(), outside.await.unwrap()), (1, 2));
}

#[tokio::test]
async fn cancelling_ends_the_wait_before_the_job_has_its_turn() {
    let exec = executor(1, 1);
    let cancel = CancelToken::new();
    let (open, job) = gate();
    let other = CancelToken::new();
    let mut busy = Box::pin(exec.run(job, &other));
    assert!(poke(&mut busy).await.is_pending());
    until(|| exec.stats().running == 1).await;
    let mut queued = Box::pin(exec.run(|_| Ok::<_, Error>(1), &cancel));
    let mut outside = Box::pin(exec.run(|_| Ok::<_, Error>(2), &cancel));
    assert!(poke(&mut queued).await.is_pending());
    assert!(poke(&mut outside).await.is_pending());
    cancel.cancel();
    assert_eq!(queued.await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(outside.await.unwrap_err().kind(), ErrorKind::Cancelled);
    drop(open);
    busy.await.unwrap();
}

#[tokio::test]
async fn shutdown_drops_what_waits_and_refuses_what_comes() {
    let exec = executor(1, 4);
    let cancel = CancelToken::new();
    let (open, job) = gate();
    let mut busy = Box::pin(exec.run(job, &cancel));
    assert!(poke(&mut busy).await.is_pending());
    until(|| exec.stats().running == 1).await;
    let mut queued = Box::pin(exec.run(|_| Ok::<_, Error>(1), &cancel));
    assert!(poke(&mut queued).await.is_pending());
    let mut shutdown = Box::pin(exec.shutdown());
    assert!(poke(&mut shutdown).await.is_pending());
    assert_eq!(queued.await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(open);
    shutdown.await;
    busy.await.unwrap();
    let late = exec.run(|_| Ok::<_, Error>(1), &cancel).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(exec.stats().queued, 0);
}

#[tokio::test]
async fn inline_jobs_run_in_place_with_the_same_outcomes() {
    let exec = Executor::inline(Handle::current());
    let cancel = CancelToken::new();
    assert_eq!(exec.run(|_| Ok::<_, Error>(1), &cancel).await.unwrap(), 1);
    let job = |_: &CancelToken| -> Result<()> { panic!("x") };
    assert!(exec.run(job, &cancel).await.is_err());
    cancel.cancel();
    let error = exec.run(|_| Ok::<_, Error>(1), &cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_line_does_not_wait_for_the_long_job_of_another() {
    let exec = executor(1, 8);
    let cancel = CancelToken::new();
    let (long, other) = (exec.in_line("long"), exec.in_line("other"));
    let (open, job) = gate();
    let mut busy = Box::pin(long.run(job, &cancel));
    assert!(poke(&mut busy).await.is_pending());
    until(|| exec.stats().running == 1).await;
    let mut behind = Box::pin(long.run(|_| Ok::<_, Error>(()), &cancel));
    assert!(poke(&mut behind).await.is_pending());
    other.run(|_| Ok::<_, Error>(()), &cancel).await.unwrap();
    assert!(poke(&mut behind).await.is_pending(), "the same line waits");
    drop(open);
    busy.await.unwrap();
    behind.await.unwrap();
}

#[tokio::test]
async fn lines_take_turns() {
    let settings = ExecutorSettings {
        threads: 1,
        spare_threads: 0,
        ..Default::default()
    };
    let exec = Executor::new(&settings, Handle::current()).unwrap();
    let cancel = CancelToken::new();
    let (open, job) = gate();
    let mut busy = Box::pin(exec.run(job, &cancel));
    assert!(poke(&mut busy).await.is_pending());
    until(|| exec.stats().running == 1).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for (line, n) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5)] {
        let (line, order) = (exec.in_line(line), order.clone());
        let cancel = cancel.clone();
        let mut job = Box::pin(async move {
            let job = move |_: &CancelToken| {
                order.lock().push(n);
                Ok::<_, Error>(())
            };
            line.run(job, &cancel).await
        });
        assert!(poke(&mut job).await.is_pending());
        waiting.push(job);
    }
    drop(open);
    busy.await.unwrap();
    for job in waiting {
        job.await.unwrap();
    }
    assert_eq!(*order.lock(), [1, 4, 2, 5, 3]);
}

#[tokio::test]
async fn a_line_takes_half_of_the_queue() {
    let settings = ExecutorSettings {
        threads: 1,
        spare_threads: 0,
        max_queued_jobs: 4,
        ..Default::default()
    };
    let exec = Executor::new(&settings, Handle::current()).unwrap();
    let cancel = CancelToken::new();
    let (open, job) = gate();
    let mut busy = Box::pin(exec.run(job, &cancel));
    assert!(poke(&mut busy).await.is_pending());
    until(|| exec.stats().running == 1).await;
    let mut waiting = Vec::new();
    for line in ["a", "a", "a", "a", "b"] {
        let (line, cancel) = (exec.in_line(line), cancel.clone());
        let job = async move { line.run(|_| Ok::<_, Error>(()), &cancel).await };
        let mut job = Box::pin(job);
        assert!(poke(&mut job).await.is_pending());
        waiting.push(job);
    }
    assert_eq!(exec.stats().queued, 3, "two of a, one of b");
    drop(open);
    busy.await.unwrap();
    for job in waiting {
        job.await.unwrap();
    }
}

#[tokio::test]
async fn lines_that_nobody_holds_are_forgotten() {
    let exec = executor(1, 8);
    for n in 0..1000 {
        let line = exec.in_line(&n.to_string());
        line.run(|_| Ok::<_, Error>(()), &CancelToken::new())
            .await
            .unwrap();
    }
    assert!(exec.shared.lines.lock().by_name.len() <= 16);
    let held = exec.in_line("held");
    assert!(Arc::ptr_eq(&held.line, &exec.in_line("held").line));
}

#[tokio::test]
async fn blocking_calls_come_back_and_their_panics_too() {
    let exec = executor(1, 1);
    assert_eq!(exec.run_blocking(|| Ok::<_, Error>(1)).await.unwrap(), 1);
    let call = || -> Result<()> { panic!("disk") };
    assert!(exec.run_blocking(call).await.is_err());
}

#[tokio::test]
async fn settings_of_zero_are_named() {
    let settings = ExecutorSettings {
        threads: 0,
        spare_threads: 0,
        max_queued_jobs: 0,
        max_blocking_jobs: 1,
    };
    let error = Executor::new(&settings, Handle::current()).unwrap_err();
    assert!(error.to_string().contains("threads is 0"), "{error}");
    assert!(
        error.to_string().contains("max_queued_jobs is 0"),
        "{error}"
    );
}
