use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lgtm_core::exec::TaskGroup;
use lgtm_core::{Error, ErrorKind};
use tokio::runtime::Handle;

use crate::batch::{Batch, BatchFailure, do_batch, is_client_error};
use crate::instance::Instance;
use crate::ring::{Operation, Ring, RingSettings};
use crate::token::Token;

const NOW_S: i64 = 1_800_000_000;

fn ring(addrs: &[&str]) -> Ring {
    let instances = addrs.iter().enumerate().map(|(n, addr)| Instance {
        id: format!("i{n}"),
        addr: (*addr).to_owned(),
        timestamp_s: NOW_S,
        tokens: [Token(n as u32 * 100 + 100)].into(),
        ..Instance::default()
    });
    Ring::new(RingSettings::default(), &instances.collect())
}

fn batch<'a>(ring: &'a Ring, keys: &'a [Token]) -> Batch<'a> {
    Batch {
        ring,
        operation: Operation::WRITE,
        keys,
        now_s: NOW_S,
        is_client_error,
    }
}

fn flag() -> (Arc<AtomicBool>, impl FnOnce() + Send + Sync + 'static) {
    let flag = Arc::new(AtomicBool::new(false));
    let inner = Arc::clone(&flag);
    (flag, move || assert!(!inner.swap(true, Ordering::SeqCst)))
}

#[tokio::test(start_paused = true)]
async fn it_returns_with_the_quorum_and_cleans_up_after_the_slowest() {
    let ring = ring(&["a", "b", "c"]);
    let tasks = TaskGroup::new(Handle::current());
    let keys = [Token(0), Token(150), Token(250)];
    let (cleaned, cleanup) = flag();
    let calls = Arc::new(AtomicUsize::new(0));
    let began = tokio::time::Instant::now();
    let call = |instance: Arc<Instance>, keys: Vec<u32>| {
        assert_eq!(keys, [0, 1, 2]);
        let calls = Arc::clone(&calls);
        async move {
            let slow = if instance.addr == "b" { 60 } else { 1 };
            tokio::time::sleep(Duration::from_secs(slow)).await;
            calls.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    };
    do_batch(batch(&ring, &keys), &tasks, call, cleanup)
        .await
        .unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    assert!(!cleaned.load(Ordering::SeqCst));
    tasks.join().await.unwrap();
    assert_eq!(
        calls.load(Ordering::SeqCst),
        3,
        "the slow one got the data too"
    );
    assert!(cleaned.load(Ordering::SeqCst));
}

#[tokio::test]
async fn an_address_is_called_once_and_no_keys_are_no_calls() {
    let ring = ring(&["same", "same", "other"]);
    let tasks = TaskGroup::new(Handle::current());
    let calls = AtomicUsize::new(0);
    let call = |_, _| {
        calls.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    };
    do_batch(batch(&ring, &[Token(0)]), &tasks, call, || {})
        .await
        .unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let (cleaned, cleanup) = flag();
    do_batch(batch(&ring, &[]), &tasks, call, cleanup)
        .await
        .unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert!(cleaned.load(Ordering::SeqCst));
}

#[tokio::test]
async fn two_records_of_one_process_are_one_copy() {
    let ring = ring(&["same", "same", "other"]);
    let tasks = TaskGroup::new(Handle::current());
    let keys = Arc::new(parking_lot::Mutex::new(Vec::new()));
    for failing in ["same", "other"] {
        let keys = Arc::clone(&keys);
        let call = move |instance: Arc<Instance>, places: Vec<u32>| {
            keys.lock().push(places);
            async move {
                if instance.addr == failing {
                    Err(Error::Unavailable(format!("{failing} is down")))
                } else {
                    Ok(())
                }
            }
        };
        let outcome = do_batch(batch(&ring, &[Token(0), Token(50)]), &tasks, call, || {}).await;
        // Two copies are demanded, and there are two processes.
        let error = outcome.expect_err("one answer is not a quorum").error;
        assert!(error.to_string().contains(failing), "{error}");
    }
    assert!(keys.lock().iter().all(|places| *places == [0, 1]));
    let call = |_, _| async { Ok(()) };
    do_batch(batch(&ring, &[Token(0)]), &tasks, call, || {})
        .await
        .unwrap();
}

#[tokio::test]
async fn too_small_a_ring_fails_before_any_call_and_cleans_up() {
    let ring = ring(&["a"]);
    let tasks = TaskGroup::new(Handle::current());
    let (cleaned, cleanup) = flag();
    let call = |_, _| async { panic!("called") };
    let failure = do_batch(batch(&ring, &[Token(0)]), &tasks, call, cleanup).await;
    assert_eq!(failure.unwrap_err().error.kind(), ErrorKind::Unavailable);
    assert!(cleaned.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_which_keys_are_safe() {
    // Six instances: key 0 lies on i0 i1 i2, key 1 on i3 i4 i5, whose quorum fails later.
    let ring = ring(&["a", "b", "c", "d", "e", "f"]);
    let tasks = TaskGroup::new(Handle::current());
    let call = |instance: Arc<Instance>, _| async move {
        if instance.addr.as_str() < "d" {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(Error::Unavailable(format!("{} is down", instance.addr)))
    };
    let keys = [Token(0), Token(300)];
    let failure = do_batch(batch(&ring, &keys), &tasks, call, || {}).await;
    let BatchFailure { error, done } = failure.unwrap_err();
    assert!(error.to_string().ends_with("is down"));
    assert_eq!(done, [0]);
}

#[tokio::test]
async fn a_call_that_panics_or_is_dropped_has_failed() {
    let ring = ring(&["a", "b", "c"]);
    let tasks = TaskGroup::new(Handle::current());
    let call = |instance: Arc<Instance>, _| async move {
        match instance.addr.as_str() {
            "a" => panic!("boom"),
            "b" => Ok(()),
            _ => std::future::pending().await,
        }
    };
    let (cleaned, cleanup) = flag();
    let keys = [Token(0)];
    let outcome = do_batch(batch(&ring, &keys), &tasks, call, cleanup);
    let abort = async {
        tokio::task::yield_now().await;
        tasks.abort();
    };
    let (outcome, ()) = tokio::join!(outcome, abort);
    let error = outcome.unwrap_err().error;
    assert_eq!(error.kind(), ErrorKind::Internal);
    let _ = tasks.join().await;
    assert!(cleaned.load(Ordering::SeqCst));
}
