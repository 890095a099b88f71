//! One connection: requests in, answers out in the same order.
//!
//! Produce requests are appended in their order and wait for their acknowledgements together; any
//! other request begins when all before it are answered, as in Kafka.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use rafka_broker::{Admission, Room};
use rafka_kafka_wire::{DecodeError, EncodeError};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::api::{self, Answer, Started};
use crate::gateway::Gateway;
use crate::intake::{Ended, Intake, Received};
use crate::session::Session;

/// Why a connection is closed by the node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    /// No request comes any more.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
    /// No request came for too long.
    #[error("no request came within {0:?}")]
    Idle(Duration),
    /// The client does not take its answers.
    #[error("the client took nothing of an answer within {0:?}")]
    Unread(Duration),
    /// The answer could not be sent.
    #[error("an answer could not be sent")]
    Broken(#[source] std::io::Error),
    /// The request cannot be understood.
    #[error("a request of {api} version {version} is malformed")]
    Malformed {
        /// Which API.
        api: &'static str,
        /// Which version of it.
        version: i16,
        /// What is wrong, and where.
        #[source]
        cause: DecodeError,
    },
    /// The header cannot be understood.
    #[error("a request header is malformed")]
    Header(#[source] DecodeError),
    /// The version is not served.
    #[error("{api} version {version} is not served")]
    Unsupported {
        /// Which API.
        api: &'static str,
        /// Which version of it.
        version: i16,
    },
    /// Records were not appended whose producer wants no answer.
    #[error("records were refused that were sent with acks=0")]
    Unanswered(#[source] rafka_broker::Error),
    /// The answer cannot be written in the version that was asked for.
    #[error("the answer to {api} version {version} cannot be written")]
    Unwritable {
        /// Which API.
        api: &'static str,
        /// Which version of it.
        version: i16,
        /// Why.
        #[source]
        cause: EncodeError,
    },
}

/// Serves a connection to its end.
pub(crate) async fn serve(gateway: Gateway, stream: TcpStream, peer: SocketAddr, place: Admission) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection without nodelay");
    }
    let (cut, stats) = (gateway.cut.clone(), Arc::clone(&gateway.stats));
    let connection = Connection::new(gateway, stream, peer);
    let closed = tokio::select! {
        biased;
        () = cut.cancelled() => Closed::Stopping,
        closed = connection.run() => closed,
    };
    if let Closed::Idle(_) = closed {
        place.silent(peer, &closed);
    }
    drop(place);
    let cause = std::error::Error::source(&closed).map(ToString::to_string);
    let cause = cause.as_deref();
    match closed {
        Closed::Ended(Ended::Closed) | Closed::Stopping | Closed::Idle(_) => {
            tracing::debug!(%peer, error = %closed, "kafka connection closed");
        }
        Closed::Ended(Ended::Broken(_)) | Closed::Broken(_) => {
            tracing::debug!(%peer, error = %closed, cause, "kafka connection broke");
        }
        _ => {
            stats.connections_failed.add(1);
            tracing::warn!(%peer, error = %closed, cause, "kafka connection closed");
        }
    }
}

/// An answer that waits, with the memory of its request.
type Waiting = std::pin::Pin<Box<dyn Future<Output = (Result<Answer, Closed>, Room)> + Send>>;

struct Connection {
    gateway: Gateway,
    peer: SocketAddr,
    intake: Intake<OwnedReadHalf>,
    output: OwnedWriteHalf,
    acks: FuturesOrdered<Waiting>,
    /// What the client reads, if it has begun a fetch session.
    session: Option<Session>,
    /// Until when the next request must have begun.
    patience: Duration,
}

/// What comes next.
enum Next {
    Acked(Result<Answer, Closed>),
    Begun(Result<(), Ended>),
    Idle,
    Stop,
}

impl Connection {
    fn new(gateway: Gateway, stream: TcpStream, peer: SocketAddr) -> Self {
        let (input, output) = stream.into_split();
        let settings = &gateway.settings;
        let budget = Arc::clone(&gateway.budget);
        let limit = settings.receive_timeout;
        let intake = Intake::new(input, budget, settings.frame_bytes_max(), limit);
        let patience = settings.handshake_timeout;
        let acks = FuturesOrdered::new();
        Self { intake, output, peer, acks, session: None, patience, gateway }
    }

    async fn run(mut self) -> Closed {
        loop {
            if let Err(closed) = self.turn().await {
                if matches!(closed, Closed::Stopping | Closed::Ended(_) | Closed::Unanswered(_)) {
                    // What was appended is answered, if there is still somebody to read it.
                    while let Some((answer, _room)) = self.acks.next().await {
                        if let Err(closed) = self.answer(answer).await {
                            return closed;
                        }
                    }
                }
                return closed;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Closed> {
        let max = usize::try_from(self.gateway.settings.produce_inflight_max).unwrap_or(usize::MAX);
        let is_full = max <= self.acks.len();
        let is_waiting = !self.acks.is_empty();
        let next = tokio::select! {
            biased;
            Some((answer, _room)) = self.acks.next(), if is_waiting => Next::Acked(answer),
            () = self.gateway.stop.cancelled() => Next::Stop,
            begun = self.intake.begun(), if !is_full => Next::Begun(begun),
            () = tokio::time::sleep(self.patience), if !is_waiting => Next::Idle,
        };
        match next {
            Next::Acked(answer) => self.answer(answer).await,
            Next::Begun(begun) => {
                begun?;
                let received = self.receive().await?;
                self.patience = self.gateway.settings.idle_timeout;
                self.start(received).await
            }
            Next::Idle => Err(Closed::Idle(self.patience)),
            Next::Stop => Err(Closed::Stopping),
        }
    }

    /// Receives the request that has begun, and answers others meanwhile: they hold the room that it
    /// may wait for.
    async fn receive(&mut self) -> Result<Received, Closed> {
        let Self { intake, acks, output, gateway, .. } = self;
        let limit = gateway.settings.receive_timeout;
        let mut receiving = pin!(intake.receive(api::is_produce));
        loop {
            tokio::select! {
                biased;
                Some((answer, _room)) = acks.next(), if !acks.is_empty() => {
                    send(output, limit, answer?).await?;
                }
                received = &mut receiving => return Ok(received?),
            }
        }
    }

    /// Begins a request; one that is no produce request is answered before this returns.
    async fn start(&mut self, received: Received) -> Result<(), Closed> {
        if !api::is_produce(&received.frame) {
            while let Some((answer, _room)) = self.acks.next().await {
                self.answer(answer).await?;
            }
        }
        let started = {
            let starting = api::start(&self.gateway, self.peer, &mut self.session, received);
            tokio::select! {
                biased;
                started = starting => started?,
                () = gone(&mut self.intake) => return Err(Ended::Closed.into()),
            }
        };
        match started {
            Started::Answered(answer) => self.answer(Ok(answer)).await,
            Started::Waits { answer, room } => {
                self.acks.push_back(Box::pin(async move { (answer.await, room) }));
                Ok(())
            }
        }
    }

    async fn answer(&mut self, answer: Result<Answer, Closed>) -> Result<(), Closed> {
        let limit = self.gateway.settings.receive_timeout;
        send(&mut self.output, limit, answer?).await
    }
}

/// Sends an answer, as long as the client takes some of it within `limit` again and again.
async fn send(output: &mut OwnedWriteHalf, limit: Duration, answer: Answer) -> Result<(), Closed> {
    let Answer::Frame { mut frame, room: _room } = answer else { return Ok(()) };
    while frame.has_remaining() {
        let written = tokio::time::timeout(limit, output.write_buf(&mut frame)).await;
        match written.map_err(|_elapsed| Closed::Unread(limit))? {
            Ok(0) => return Err(Closed::Broken(std::io::ErrorKind::WriteZero.into())),
            Ok(_) => {}
            Err(error) => return Err(Closed::Broken(error)),
        }
    }
    Ok(())
}

/// Completes when the client has closed the connection, unless it has sent more before: a request
/// that waits for long need not wait for nobody.
async fn gone(intake: &mut Intake<OwnedReadHalf>) {
    if intake.has_more() {
        return std::future::pending().await;
    }
    let mut byte = [0; 1];
    match intake.input().peek(&mut byte).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
