//! One listener, and each new connection to the worker that has the fewest. The kernel's own spreading
//! (`SO_REUSEPORT`) is by hash, and with a handful of connections it leaves workers idle beside busy ones.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use crate::server::Stage;
use crate::supervisor::Supervised;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// Over the cap, this many more are told so with a 503; any further ones are closed.
const SURPLUS: usize = 256;
/// Connections that may wait for one worker to take them.
pub(crate) const WAITING: usize = 1024;
/// After a failed accept (no descriptors left), before the next one.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way to its worker. It counts as the worker's from now until it is dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Not registered with any runtime.
    pub(crate) stream: std::net::TcpStream,
    pub(crate) address: SocketAddr,
    /// One more than may be open: it is only told so.
    pub(crate) is_surplus: bool,
    pub(crate) place: Place,
}

/// A connection's place at its worker, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way to one worker.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) sender: Sender<Arrival>,
    /// Connections that the worker has.
    pub(crate) open: Arc<AtomicUsize>,
}

/// Opens a listener that no runtime has yet.
pub(crate) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the server stops; dropping the lanes then tells the workers that nothing more comes.
pub(crate) async fn run(
    listener: TcpListener,
    lanes: Vec<Lane>,
    max_connections: usize,
    mut stage: watch::Receiver<Stage>,
    thread: Supervised,
) {
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
            accepted = listener.accept() => accepted,
        };
        thread.step();
        match accepted {
            Ok((stream, address)) => {
                // A connection that broke while it was accepted concerns nobody.
                let _ = dispatch(&lanes, &mut next, stream, address, max_connections);
            }
            Err(error) => {
                tracing::error!(%error, "cannot accept; raise the limit of open files if it is that");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn dispatch(
    lanes: &[Lane],
    next: &mut usize,
    stream: TcpStream,
    address: SocketAddr,
    max_connections: usize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let open: usize = lanes.iter().map(|lane| lane.open.load(Ordering::Relaxed)).sum();
    if open >= max_connections.saturating_add(SURPLUS) {
        return Ok(());
    }
    let is_surplus = open >= max_connections;
    // Of workers with equally few, the one after the last that got one. One that has failed has none, and
    // would get them all.
    let order = (0..lanes.len()).map(|offset| (*next + offset) % lanes.len());
    let order = order.filter(|at| !lanes[*at].sender.is_closed());
    let chosen = order.min_by_key(|at| lanes[*at].open.load(Ordering::Relaxed));
    let Some(chosen) = chosen else { return Ok(()) };
    *next = chosen + 1;
    let lane = &lanes[chosen];
    lane.open.fetch_add(1, Ordering::Relaxed);
    let place = Place(lane.open.clone());
    // A worker that is far behind, or gone because the server stops: the connection is closed.
    let _ = lane.sender.try_send(Arrival { stream, address, is_surplus, place });
    Ok(())
}
