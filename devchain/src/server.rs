//! HTTP/1.1, on threads of its own, so that the chain needs nobody's runtime.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};

const MAX_CONNECTIONS: usize = 512;
/// Blocking jobs, executions above all, at one time; more requests wait.
const EXECUTORS: usize = 4;
/// A request's head must be complete by then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The server's thread, and how to end it.
pub(crate) struct Server {
    handle: ServerHandle,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Serves what `routes` sets up, on a thread called `name`.
    pub(crate) fn start<R>(name: &str, listener: TcpListener, routes: R) -> io::Result<Self>
    where
        R: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let (ready, started) = sync_channel(1);
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || actix_web::rt::System::new().block_on(serve(listener, routes, ready)))?;
        let handle = started.recv().map_err(|_| io::Error::other("the server's thread ended early"))??;
        Ok(Self { handle, thread })
    }

    pub(crate) fn stop(self) {
        // The command is on its way once `stop` returns; its future only tells of the end, as the
        // thread's end does.
        drop(self.handle.stop(false));
        match self.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a server ended badly"),
            Err(_) => tracing::error!("a server's thread had panicked"),
        }
    }
}

async fn serve<R>(
    listener: TcpListener,
    routes: R,
    ready: SyncSender<io::Result<ServerHandle>>,
) -> io::Result<()>
where
    R: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let app = move || App::new().configure(routes.clone());
    let bound = HttpServer::new(app)
        .workers(1)
        .worker_max_blocking_threads(EXECUTORS)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(HEAD_TIMEOUT)
        .keep_alive(KEEP_ALIVE)
        .disable_signals()
        .listen(listener);
    let server = match bound {
        Ok(bound) => bound.run(),
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    // Nobody waits only if `start` has already given up.
    let _ = ready.send(Ok(server.handle()));
    server.await
}
