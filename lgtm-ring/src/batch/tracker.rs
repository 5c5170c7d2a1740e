//! Who has answered for which key, and what follows.

/// Whose fault an error is. The two are counted apart: two replicas that refuse a sample say something about the sample, one that refuses and
/// one that is down do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorFamily {
    /// The request is wrong; another replica would say the same.
    Client,
    /// The replica failed.
    Server,
}

/// How a batch has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOutcome<E> {
    /// Every key has its quorum.
    Done,
    /// Some key can no longer have it, because of this error.
    Failed(E),
}

/// The state of a batch. Pure: answers come in, the outcome goes out, once.
#[derive(Debug)]
pub struct BatchTracker<E> {
    keys: Vec<Key<E>>,
    undone: usize,
    ended: bool,
}

#[derive(Debug)]
struct Key<E> {
    missing: u32,
    max_failures: u32,
    remaining: u32,
    client_errors: u32,
    server_errors: u32,
    last_error: Option<E>,
}

impl<E: Clone> BatchTracker<E> {
    /// A tracker with room for `keys` keys.
    pub fn with_capacity(keys: usize) -> Self {
        Self {
            keys: Vec::with_capacity(keys),
            undone: 0,
            ended: false,
        }
    }

    /// Adds the next key, which has `replicas` of which `max_errors` may fail.
    pub fn add_key(&mut self, replicas: usize, max_errors: usize) {
        self.undone += 1;
        self.keys.push(Key {
            missing: replicas.saturating_sub(max_errors) as u32,
            max_failures: max_errors as u32,
            remaining: replicas as u32,
            client_errors: 0,
            server_errors: 0,
            last_error: None,
        });
    }

    /// Notes the answer of one instance for its keys. Yields the outcome when this answer decides it; later answers decide nothing.
    pub fn answer(
        &mut self,
        keys: &[u32],
        result: Result<(), (ErrorFamily, E)>,
    ) -> Option<BatchOutcome<E>> {
        for &key in keys {
            let Some(key) = self.keys.get_mut(key as usize) else {
                continue;
            };
            // A key that has its quorum needs nobody any more.
            if key.missing == 0 {
                continue;
            }
            key.remaining = key.remaining.saturating_sub(1);
            let failed = match &result {
                Ok(()) => {
                    key.missing -= 1;
                    if key.missing == 0 {
                        self.undone -= 1;
                        continue;
                    }
                    // The last to answer: nobody is left who could complete the quorum.
                    let exhausted = key.remaining == 0;
                    key.last_error.clone().filter(|_| exhausted)
                }
                Err((family, error)) => {
                    let count = match family {
                        ErrorFamily::Client => &mut key.client_errors,
                        ErrorFamily::Server => &mut key.server_errors,
                    };
                    *count += 1;
                    let decides = *count > key.max_failures || key.remaining == 0;
                    key.last_error = Some(error.clone());
                    decides.then(|| error.clone())
                }
            };
            if let Some(error) = failed {
                return self.end(BatchOutcome::Failed(error));
            }
        }
        if self.undone == 0 {
            return self.end(BatchOutcome::Done);
        }
        None
    }

    /// Keys that have their quorum, in ascending order.
    pub fn done_keys(&self) -> Vec<u32> {
        let keys = self.keys.iter().zip(0u32..);
        keys.filter_map(|(key, n)| (key.missing == 0).then_some(n))
            .collect()
    }

    fn end(&mut self, outcome: BatchOutcome<E>) -> Option<BatchOutcome<E>> {
        let first = !std::mem::replace(&mut self.ended, true);
        first.then_some(outcome)
    }
}
