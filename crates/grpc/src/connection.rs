//! Connections: how long each may stay without a call.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::{Admission, Connections};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// How long the listener rests when the system has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What each connection of a listener is held to.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) handshake_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// Cancelled to cut every connection.
    pub(crate) cut: CancellationToken,
}

/// The calls of one connection: what its deadlines are measured from.
#[derive(Debug)]
pub(crate) struct Calls {
    state: Mutex<CallsState>,
}

#[derive(Debug)]
struct CallsState {
    open: usize,
    /// When the last call ended. `None` before the first.
    ended: Option<Instant>,
}

impl Calls {
    fn new() -> Self {
        Self { state: Mutex::new(CallsState { open: 0, ended: None }) }
    }

    /// Notes that a call begins; it ends when the answer is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Call {
        self.state.lock().open += 1;
        Call { calls: Arc::clone(self) }
    }

    /// Until when the connection may stay, if no further call begins. `None`: no call yet.
    fn stays_until(&self, now: Instant, idle_timeout: Duration) -> Option<Instant> {
        let state = self.state.lock();
        if 0 < state.open {
            return Some(now + idle_timeout);
        }
        state.ended.map(|ended| ended + idle_timeout)
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Arc<Calls>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.calls.state.lock();
        state.open -= 1;
        state.ended = Some(Instant::now());
    }
}

/// What handlers and layers learn of the connection that a call came on.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) peer: SocketAddr,
    pub(crate) calls: Arc<Calls>,
}

/// Where a call came from, as groups show it: Kafka's form, a slash and the address.
pub(crate) fn client_host(extensions: &tonic::Extensions) -> String {
    extensions.get::<Info>().map_or_else(String::new, |info| format!("/{}", info.peer.ip()))
}

/// A TCP connection that fails when it stays without a call for too long, or when all are cut.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    calls: Arc<Calls>,
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    idle_timeout: Duration,
    /// Whether its first bytes have come.
    has_begun: bool,
    place: Admission,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, place: Admission, bounds: &Bounds) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection without nodelay");
        }
        Self {
            stream,
            peer,
            calls: Arc::new(Calls::new()),
            deadline: Box::pin(tokio::time::sleep(bounds.handshake_timeout)),
            cut: Box::pin(bounds.cut.clone().cancelled_owned()),
            idle_timeout: bounds.idle_timeout,
            has_begun: false,
            place,
        }
    }

    /// Why waiting for more bytes is over, if it is.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        while self.deadline.as_mut().poll(cx).is_ready() {
            // The deadline is not moved at every call but looked after when it comes.
            let now = Instant::now();
            match self.calls.stays_until(now, self.idle_timeout) {
                Some(until) if now < until => self.deadline.as_mut().reset(until),
                _ => {
                    self.place.silent(self.peer, "no call came in time");
                    return Poll::Ready(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Poll::Pending
    }

    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match progress {
            Poll::Pending => self.poll_over(cx).map(Err),
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Info;

    fn connect_info(&self) -> Info {
        Info { peer: self.peer, calls: Arc::clone(&self.calls) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read_before = buf.filled().len();
        let progress = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = &buf.filled()[read_before..];
        if !self.has_begun && !read.is_empty() {
            self.has_begun = true;
            if let Some(protocol) = foreign(read) {
                self.place.foreign(self.peer, protocol);
            }
        }
        self.bounded(cx, progress)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.bounded(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.bounded(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded(cx, progress)
    }
}

/// What a connection speaks that begins like this, if it is not HTTP/2.
fn foreign(beginning: &[u8]) -> Option<&'static str> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    match beginning {
        [0x16, 0x03, ..] => Some("TLS"),
        // The length of a request.
        [0, ..] => Some("Kafka's protocol"),
        [b'P', b'R', ..] if PREFACE.iter().zip(beginning).all(|(known, read)| known == read) => {
            None
        }
        // So little may still become anything.
        [0x16 | b'A'..=b'Z'] => None,
        [b'A'..=b'Z', b'A'..=b'Z', ..] => Some("HTTP/1"),
        _ => Some("an unknown protocol"),
    }
}

/// The connections that a listener accepts and its bounds admit. Does not end.
pub(crate) fn incoming(
    listener: TcpListener,
    connections: Arc<Connections>,
    bounds: Bounds,
) -> impl Stream<Item = io::Result<Connection>> {
    let state = (listener, connections, bounds);
    futures_util::stream::unfold(state, |(listener, connections, bounds)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(place) = connections.admit(peer) {
                        let connection = Connection::new(stream, peer, place, &bounds);
                        return Some((Ok(connection), (listener, connections, bounds)));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_by_how_they_begin() {
        for (beginning, expected) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], None),
            (b"P", None),
            (b"PRI", None),
            (b"PRO", Some("HTTP/1")),
            (b"GET / HTTP/1.1", Some("HTTP/1")),
            (b"POST / HTTP/1.1", Some("HTTP/1")),
            (b"\x16\x03\x01", Some("TLS")),
            (b"\0\0\0\x23\0\x12", Some("Kafka's protocol")),
            (b"\xff", Some("an unknown protocol")),
        ] {
            assert_eq!(foreign(beginning), expected, "{beginning:?}");
        }
    }
}
