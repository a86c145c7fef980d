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

use crate::clock::Clock;
use crate::gateway::client::Surplus;
use crate::server::Stage;
use crate::server::per_address::{AddressSlot, PerAddress};
use crate::supervisor::Supervised;
use crate::telemetry::log_throttle::LogThrottle;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// Over the cap, this many more are told so with a 503; any further ones are closed.
const SURPLUS: usize = 256;
/// The same for those of one address. They are few: each stays until its request's head is here.
const SURPLUS_OF_ADDRESS: usize = 16;
/// Connections that may wait for one worker to take them.
pub(crate) const WAITING: usize = 1024;
/// After a failed accept (no descriptors left), before the next one.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way to its worker. It counts as the worker's from now until it is dropped.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Not registered with any runtime.
    pub(crate) stream: std::net::TcpStream,
    pub(crate) address: SocketAddr,
    /// One more than may be open: it is only told so.
    pub(crate) surplus: Option<Surplus>,
    pub(crate) place: ConnectionSlot,
}

/// A connection's place at its worker and among those of its address, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    open: Arc<AtomicUsize>,
    _origin: AddressSlot,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections may be open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) connections: usize,
    pub(crate) of_address: usize,
}

/// The way to one worker.
#[derive(Debug)]
pub(crate) struct WorkerQueue {
    pub(crate) sender: Sender<Accepted>,
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
    listener: std::net::TcpListener,
    queues: Vec<WorkerQueue>,
    most: ConnectionLimits,
    clock: Clock,
    mut stage: watch::Receiver<Stage>,
    thread: Supervised,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the data listener cannot be used"),
    };
    let origins = PerAddress::default();
    let [failed, crowded] = [(); 2].map(|()| LogThrottle::new(clock.clone()));
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
            accepted = listener.accept() => accepted,
        };
        thread.step();
        match accepted {
            Ok((stream, address)) => {
                let origin = origins.enter(address.ip());
                if origin.before() >= most.of_address
                    && let Some(left_out) = crowded.allow()
                {
                    tracing::warn!(
                        left_out,
                        "an address has as many connections as one may; if it is a proxy's, raise \
                         server.max_connections_per_address"
                    );
                }
                // A connection that broke while it was accepted concerns nobody.
                let _ = dispatch(&queues, &mut next, stream, address, origin, most);
            }
            Err(error) => {
                if let Some(left_out) = failed.allow() {
                    tracing::error!(
                        %error,
                        left_out,
                        "cannot accept; raise the limit of open files if it is that"
                    );
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn dispatch(
    queues: &[WorkerQueue],
    next: &mut usize,
    stream: TcpStream,
    address: SocketAddr,
    origin: AddressSlot,
    most: ConnectionLimits,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let open: usize = queues.iter().map(|queue| queue.open.load(Ordering::Relaxed)).sum();
    let over = open.checked_sub(most.connections);
    let over_address = origin.before().checked_sub(most.of_address);
    if over.is_some_and(|over| over >= SURPLUS)
        || over_address.is_some_and(|over| over >= SURPLUS_OF_ADDRESS)
    {
        return Ok(());
    }
    let surplus = match (over, over_address) {
        (Some(_), _) => Some(Surplus::Connections),
        (None, Some(_)) => Some(Surplus::OfAddress),
        (None, None) => None,
    };
    // Of workers with equally few, the one after the last that got one. One that has failed has none, and
    // would get them all.
    let order = (0..queues.len()).map(|offset| (*next + offset) % queues.len());
    let order = order.filter(|at| !queues[*at].sender.is_closed());
    let chosen = order.min_by_key(|at| queues[*at].open.load(Ordering::Relaxed));
    let Some(chosen) = chosen else { return Ok(()) };
    *next = chosen + 1;
    let queue = &queues[chosen];
    queue.open.fetch_add(1, Ordering::Relaxed);
    let place = ConnectionSlot { open: queue.open.clone(), _origin: origin };
    // A worker that is far behind, or gone because the server stops: the connection is closed.
    let _ = queue.sender.try_send(Accepted { stream, address, surplus, place });
    Ok(())
}
