//! Whether a task that waits for endpoints goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

tokio::task_local! {
    static REQUESTS: Arc<AtomicU64>;
}

/// Runs a task and counts each of its requests when it ends, with an answer or without. One reading may take any number of them, and
/// each has its time: a count that stands still for many such times is that of a task that hangs.
///
/// What the task spawns is not counted.
pub async fn counting<T>(requests: Arc<AtomicU64>, task: impl Future<Output = T>) -> T {
    REQUESTS.scope(requests, task).await
}

/// A request of this task has ended.
pub(super) fn ended() {
    // Most tasks are not counted.
    let _ = REQUESTS.try_with(|requests| requests.fetch_add(1, Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Endpoint, Limits};

    #[tokio::test]
    async fn a_task_has_its_own_requests_counted() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = Endpoint::new(&format!("http://127.0.0.1:{port}"), Limits::default()).unwrap();
        let ask = async || endpoint.get("/", "*/*").await.unwrap_err();
        let counts = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        counting(counts[0].clone(), async { [ask().await, ask().await] }).await;
        counting(counts[1].clone(), ask()).await;
        ask().await;
        assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [2, 1]);
    }
}
