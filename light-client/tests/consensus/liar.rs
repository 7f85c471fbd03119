//! An endpoint between the client and an honest beacon, which may say something else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use posthouse_light_client::http::{Answer, Endpoint, HttpError, Limits};
use posthouse_light_client::spec::{Kind, Network, Update};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What goes back to the client.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An answer with status 200.
    Body { content_type: &'static str, body: Vec<u8> },
    /// A status line and headers, each ending in CRLF, without a body.
    Head(&'static str),
    /// Nothing, ever, on a connection that stays open.
    Silence,
}

impl Reply {
    pub fn ssz(body: Vec<u8>) -> Self {
        Self::Body { content_type: "application/octet-stream", body }
    }

    pub fn json(body: Vec<u8>) -> Self {
        Self::Body { content_type: "application/json", body }
    }
}

/// A lie told in place of an honest answer, or `None` for the truth.
type Lie = dyn Fn(&str, &Answer) -> Option<Reply> + Send + Sync;

/// Runs until it is dropped. Tells the truth until [`Liar::lie`].
pub struct Liar {
    url: String,
    lies: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Liar {
    /// An endpoint before the beacon at `honest`; asks it in the encoding that `accept` names.
    pub async fn over(
        honest: &str,
        accept: &'static str,
        lie: impl Fn(&str, &Answer) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let honest = Arc::new(Endpoint::new(honest, Limits::default()).unwrap());
        let (lies, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let lie: Arc<Lie> = Arc::new(lie);
        let (on, count) = (lies.clone(), asked.clone());
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (honest, lie, on) = (honest.clone(), lie.clone(), on.clone());
                tokio::spawn(async move {
                    // The client may hang up on what it does not like.
                    let _hung_up = serve(stream, &honest, accept, &*lie, &on).await;
                });
            }
        });
        Self { url, lies, asked, server }
    }

    /// The same in SSZ.
    pub async fn ssz(
        honest: &str,
        lie: impl Fn(&str, &Answer) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::over(honest, "application/octet-stream", lie).await
    }

    /// From now on, or no more.
    pub fn lie(&self, lies: bool) {
        self.lies.store(lies, Ordering::SeqCst);
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    honest: &Endpoint,
    accept: &str,
    lie: &Lie,
    on: &AtomicBool,
) -> std::io::Result<()> {
    let Some(path) = request_path(&mut stream).await? else { return Ok(()) };
    let truth = honest.get(&path, accept).await;
    let told = match &truth {
        Ok(answer) if on.load(Ordering::SeqCst) => lie(&path, answer),
        _ => None,
    };
    let reply = match (told, truth) {
        (Some(reply), _) => reply,
        (None, Ok(answer)) if answer.content_type == "application/json" => Reply::json(answer.body),
        (None, Ok(answer)) => Reply::ssz(answer.body),
        (None, Err(HttpError::Status(404))) => Reply::Head("404 Not Found\r\n"),
        (None, Err(_)) => Reply::Head("500 Internal Server Error\r\n"),
    };
    match reply {
        Reply::Body { content_type, body } => {
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(b"Connection: close\r\n\r\n").await?;
            stream.write_all(&body).await
        }
        Reply::Head(head) => {
            let head = format!("HTTP/1.1 {head}Content-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await
        }
        Reply::Silence => {
            let mut byte = [0];
            stream.read(&mut byte).await.map(drop) // until the client gives up
        }
    }
}

/// Path and query of the request; `None` where the client hung up before.
async fn request_path(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    Ok(head.split(' ').nth(1).map(str::to_owned))
}

/// A lie about the finality update.
pub fn finality(
    network: &Arc<Network>,
    edit: impl Fn(&mut Update) + Send + Sync + 'static,
) -> impl Fn(&str, &Answer) -> Option<Reply> + Send + Sync + 'static {
    let network = network.clone();
    move |asked, honest| {
        asked.ends_with("/finality_update").then(|| {
            let mut update = Update::from_ssz(&network, Kind::Finality, &honest.body).unwrap();
            edit(&mut update);
            Reply::ssz(update.to_ssz(&network, Kind::Finality).unwrap())
        })
    }
}
