//! A place where others may go first.

use std::task::Poll;

/// Lets others run. Unlike tokio's it is ready again at once, so that whoever chooses among tasks may well choose this one.
pub(super) async fn give_way() {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}
