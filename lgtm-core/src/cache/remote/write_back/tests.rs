use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::*;

/// Writes as many as it is allowed to.
#[derive(Debug)]
struct Slow {
    turns: Semaphore,
    written: Mutex<Vec<String>>,
}

#[async_trait]
impl RemoteStore for Slow {
    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        vec![None; keys.len()]
    }

    async fn write(&self, batch: &[Write]) {
        for write in batch {
            self.turns.acquire().await.unwrap().forget();
            self.written.lock().push(write.key.clone());
        }
    }
}

fn write(key: &str, bytes: usize) -> Write {
    Write {
        key: key.into(),
        value: Some((Bytes::from(vec![0; bytes]), None)),
    }
}

fn start(turns: usize, max_items: usize, max_bytes: u64) -> (Arc<Slow>, TaskGroup, WriteBack) {
    let store = Arc::new(Slow {
        turns: Semaphore::new(turns),
        written: Mutex::default(),
    });
    let tasks = TaskGroup::new(Handle::current());
    let settings = WriteBackSettings {
        concurrency: 1,
        max_items,
        max_bytes: ByteSize::bytes(max_bytes),
    };
    let queue = WriteBack::start(&settings, &store, &tasks);
    (store, tasks, queue)
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let (store, _tasks, queue) = start(0, 4, 1 << 20);
    let counts = RemoteCounts::default();
    for i in 0..10 {
        queue.push(write(&i.to_string(), 10), &counts);
    }
    let stats = counts.cache.stats();
    assert_eq!((stats.skipped, stats.failures), (6, 0));
    store.turns.add_permits(100);
    queue.flush().await;
    assert_eq!(*store.written.lock(), ["0", "1", "2", "3"], "in order");
    assert_eq!(queue.waiting(), (0, 0));
}

#[tokio::test]
async fn the_bytes_that_wait_are_bounded() {
    let (store, _tasks, queue) = start(0, 1000, 100);
    let counts = RemoteCounts::default();
    for i in 0..5 {
        queue.push(write(&i.to_string(), 40), &counts);
    }
    assert_eq!(counts.cache.stats().skipped, 3);
    store.turns.add_permits(100);
    queue.flush().await;
    queue.push(write("after", 99), &counts);
    assert_eq!(counts.cache.stats().skipped, 4, "one byte too many");
    queue.push(write("after", 95), &counts);
    queue.flush().await;
    assert_eq!(store.written.lock().len(), 3);
}

#[tokio::test]
async fn what_waits_when_it_is_stopped_is_dropped_and_nobody_waits_for_ever() {
    let (store, tasks, queue) = start(1, 1000, 1 << 20);
    let counts = RemoteCounts::default();
    queue.push(write("a", 1), &counts);
    queue.flush().await;
    tasks.shutdown().await.unwrap();
    queue.push(write("b", 1), &counts);
    queue.push_and_wait(write("c", 1), &counts).await;
    queue.flush().await;
    assert_eq!(*store.written.lock(), ["a"]);
    assert_eq!(counts.cache.stats().skipped, 2);
}
