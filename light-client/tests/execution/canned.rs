//! A server that answers every request by the same bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct Canned {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Canned {
    /// Answers by `response`, and hangs up.
    pub(crate) async fn answering(response: impl Into<Vec<u8>>) -> Self {
        Self::start(Some(response.into())).await
    }

    /// Never answers.
    pub(crate) async fn silent() -> Self {
        Self::start(None).await
    }

    async fn start(response: Option<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_request(&mut stream).await;
                count.fetch_add(1, Ordering::SeqCst);
                match &response {
                    // The client may have had enough and hung up.
                    Some(response) => drop(stream.write_all(response).await),
                    None => silent.push(stream),
                }
            }
        });
        Self { url, asked, task }
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that closes with bytes unread resets the connection, and its answer is lost: so all is read.
async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    loop {
        if let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if request.len() >= head + 4 + length {
                return;
            }
        }
        if stream.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    }
}

/// An answer with a status line and a body.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
