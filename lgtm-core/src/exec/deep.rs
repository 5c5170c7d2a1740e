//! Recursion over trees that users wrote, on stacks that others sized.
//!
//! A walk of a tree of 500 levels takes more stack than a worker of an async runtime has (2 MiB by default) as soon as each level
//! is a future or two: a poll of the outermost one polls all within. Running out of stack aborts the process, which no bound on
//! memory and no caught panic prevents. So what recurses asks for room first: where less than a level needs is left, the call goes on
//! on a fresh piece of memory, which is given back when the call returns.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

/// What a level may take, and all that its leaves call: decoding, storage, a debug build's large frames.
const LEVEL_BYTES: usize = 256 << 10;
/// What is added at a time.
const PIECE_BYTES: usize = 2 << 20;

/// Calls `f`, on more stack if there is little left. Costs a few nanoseconds where there is enough.
pub fn with_room<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEVEL_BYTES, PIECE_BYTES, f)
}

/// A future that may contain others of its kind to any depth: each poll of each sees to it that there is stack.
pub fn deep<'a, T: 'a>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(Deep(Box::pin(future)))
}

struct Deep<'a, T>(BoxFuture<'a, T>);

impl<T> Future for Deep<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        with_room(|| self.0.as_mut().poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: u32) -> BoxFuture<'static, u32> {
        deep(async move {
            // What a level of a real walk has on the stack.
            let ballast = std::hint::black_box([1u8; 16 << 10]);
            match levels {
                0 => u32::from(ballast[0]),
                n => nested(n - 1).await + u32::from(ballast[n as usize % ballast.len()]),
            }
        })
    }

    #[test]
    fn futures_nest_deeper_than_the_stack() {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(nested(2000))
        };
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run);
        assert_eq!(thread.unwrap().join().unwrap(), 2001);
    }

    #[test]
    fn a_panic_comes_through() {
        let caught = std::panic::catch_unwind(|| with_room(|| panic!("inside")));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"inside"));
    }
}
