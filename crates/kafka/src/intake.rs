//! Frames in: memory is taken for what has come, not for what was announced.
//!
//! A request announces its length in four bytes. Its head comes with the connection's own buffer; for
//! the rest, room is taken from the listener's budget step by step, each when there is something to
//! be read. A small request waits for no room, unless it is one of those that wait for their answers
//! together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use rafka_broker::{Budget, Room};
use rafka_core::ByteSize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::time::Instant;

/// Small requests come with one read; larger ones go past this buffer. So much of a request costs no
/// room: it is part of what a connection costs.
const HEAD_BYTES: usize = 8 << 10;
/// The first step beyond the head. Each further one is as large as what has come.
const STEP_BYTES: usize = 32 << 10;
/// Up to this size the memory of a request is set aside at once when its head has come: what is not
/// written to takes none. A larger one grows to at most four times what has come.
const WHOLE_BYTES: usize = 1 << 20;
const LENGTH_LEN: usize = 4;

/// How often a request that does not come is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A request that has come whole.
#[derive(Debug)]
pub(crate) struct Received {
    /// Without the length in front.
    pub(crate) frame: Bytes,
    /// Its share of the budget, kept until it is answered.
    pub(crate) room: Room,
}

/// Why no request comes any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The client closed the connection between two requests.
    #[error("the client closed the connection")]
    Closed,
    /// The connection broke, or was closed within a request.
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    /// The length is none.
    #[error("a request of {0} bytes was announced, {1} is the most")]
    Length(i32, ByteSize),
    /// What stands in place of a length is how another protocol begins.
    #[error("the client speaks {0} where Kafka's protocol is spoken, without TLS")]
    Foreign(&'static str),
    /// The rest did not come.
    #[error("{received} of {announced} bytes of a request came within {limit:?}")]
    Late {
        /// What came.
        received: usize,
        /// What was to come.
        announced: usize,
        /// Within this.
        limit: Duration,
    },
    /// The system has no memory for it.
    #[error("there is no memory for a request of {0} bytes")]
    Memory(usize),
}

/// Reads the requests of one connection.
pub(crate) struct Intake<R> {
    input: BufReader<R>,
    budget: Arc<Budget>,
    frame_bytes_max: ByteSize,
    limit: Duration,
    length: [u8; LENGTH_LEN],
    length_read: usize,
}

impl<R: AsyncRead + Unpin> Intake<R> {
    pub(crate) fn new(
        input: R,
        budget: Arc<Budget>,
        frame_bytes_max: ByteSize,
        limit: Duration,
    ) -> Self {
        let input = BufReader::with_capacity(HEAD_BYTES, input);
        Self { input, budget, frame_bytes_max, limit, length: [0; 4], length_read: 0 }
    }

    /// Waits until a request begins, or the connection ends.
    ///
    /// # Cancel safety
    /// Cancelled, what was read of the length is kept.
    pub(crate) async fn begun(&mut self) -> Result<(), Ended> {
        while self.length_read < LENGTH_LEN {
            let read = self.input.read(&mut self.length[self.length_read..]).await;
            match read.map_err(Ended::Broken)? {
                0 if self.length_read == 0 => return Err(Ended::Closed),
                0 => return Err(Ended::Broken(std::io::ErrorKind::UnexpectedEof.into())),
                count => self.length_read += count,
            }
        }
        Ok(())
    }

    /// Receives the request that has begun. `is_queued` says of which requests a connection may have
    /// many unanswered: these need room however small they are.
    ///
    /// # Cancel safety
    /// Cancelled, the connection is of no further use.
    pub(crate) async fn receive(
        &mut self,
        is_queued: impl Fn(&[u8]) -> bool,
    ) -> Result<Received, Ended> {
        self.length_read = 0;
        let announced = i32::from_be_bytes(self.length);
        let max = self.frame_bytes_max;
        let len = u32::try_from(announced).ok().filter(|len| 0 < *len && u64::from(*len) <= max.0);
        let len = len.ok_or_else(|| match foreign(self.length) {
            Some(protocol) => Ended::Foreign(protocol),
            None => Ended::Length(announced, max),
        })?;
        let len = usize::try_from(len).expect("32 bits fit a length");
        let patience = Patience {
            len,
            received: 0,
            room: self.budget.room(),
            limit: self.limit,
            waited: Duration::ZERO,
        };
        let mut coming = Coming { frame: Vec::with_capacity(len.min(HEAD_BYTES)), patience };
        while coming.patience.received < len {
            coming.more(&mut self.input).await?;
        }
        if len <= HEAD_BYTES && is_queued(&coming.frame) {
            coming.patience.room.grow(len).await;
        }
        Ok(Received { frame: coming.frame.into(), room: coming.patience.room })
    }

    /// Whether bytes of a further request have come already.
    pub(crate) fn has_more(&self) -> bool {
        !self.input.buffer().is_empty()
    }

    /// The connection itself.
    pub(crate) fn input(&mut self) -> &mut R {
        self.input.get_mut()
    }
}

/// A request that is being received.
struct Coming {
    frame: Vec<u8>,
    patience: Patience,
}

/// How long the client may take.
struct Patience {
    /// What was announced.
    len: usize,
    /// What came of it.
    received: usize,
    room: Room,
    limit: Duration,
    /// How long the client was waited for. What it waits for room does not count.
    waited: Duration,
}

impl Coming {
    /// Takes in what comes next.
    async fn more<R: AsyncRead + Unpin>(&mut self, input: &mut BufReader<R>) -> Result<(), Ended> {
        let Self { frame, patience } = self;
        let received = patience.received;
        let left = patience.len - received;
        if patience.permitted() == received {
            patience.within(async { input.fill_buf().await.map(<[u8]>::len) }).await?;
            patience.room.grow(received.max(STEP_BYTES).min(left)).await;
        }
        if frame.capacity() == received {
            let whole = WHOLE_BYTES.max(4 * received).min(patience.len);
            let set_aside = frame.try_reserve_exact(whole - received);
            set_aside.map_err(|_refused| Ended::Memory(patience.len))?;
        }
        let most = left.min(patience.permitted() - received).min(frame.capacity() - received);
        patience.within(input.read_buf(&mut frame.limit(most))).await?;
        patience.received = frame.len();
        Ok(())
    }
}

impl Patience {
    /// How many bytes there is room for.
    fn permitted(&self) -> usize {
        self.room.bytes().map_or(self.len, |room| HEAD_BYTES + room)
    }

    /// Waits for the client to send something, as long as it may take.
    async fn within(
        &mut self,
        reading: impl Future<Output = std::io::Result<usize>>,
    ) -> Result<(), Ended> {
        let mut reading = std::pin::pin!(reading);
        loop {
            let limit = self.room.patience(self.received, self.limit);
            let left = limit.saturating_sub(self.waited);
            if left.is_zero() {
                let (received, announced) = (self.received, self.len);
                return Err(Ended::Late { received, announced, limit });
            }
            let began = Instant::now();
            let read = tokio::time::timeout(left.min(LOOK_INTERVAL), &mut reading).await;
            self.waited += began.elapsed();
            match read {
                Ok(Ok(0)) => return Err(Ended::Broken(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => return read.map(drop).map_err(Ended::Broken),
                Err(_elapsed) => {}
            }
        }
    }
}

/// The protocol that begins with these bytes. As lengths they are far above any request's.
fn foreign(first: [u8; 4]) -> Option<&'static str> {
    match &first {
        b"PRI " => Some("gRPC"),
        b"GET " | b"HEAD" | b"POST" | b"PUT " => Some("HTTP"),
        [0x16, 3, ..] => Some("TLS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream};
    use tokio::task::JoinSet;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const MAX: ByteSize = ByteSize::kib(100);
    const TOTAL: ByteSize = ByteSize::kib(200);

    fn budget() -> Arc<Budget> {
        Budget::new(TOTAL, MAX)
    }

    fn intake(input: &[u8]) -> Intake<&[u8]> {
        Intake::new(input, budget(), ByteSize(1000), LIMIT)
    }

    /// A client, and what is received of it.
    fn connected(budget: &Arc<Budget>) -> (DuplexStream, Intake<DuplexStream>) {
        let (client, server) = tokio::io::duplex(1 << 20);
        (client, Intake::new(server, Arc::clone(budget), MAX, LIMIT))
    }

    /// Sends the first bytes of a request of this length.
    async fn send(client: &mut DuplexStream, len: u32, sent: usize) {
        client.write_all(&len.to_be_bytes()).await.expect("it is read");
        client.write_all(&vec![7; sent]).await.expect("it is read");
    }

    async fn next<R: AsyncRead + Unpin>(intake: &mut Intake<R>) -> Result<Received, Ended> {
        intake.begun().await?;
        intake.receive(|_| false).await
    }

    /// So many clients, each with so much sent of a request of 100 000 bytes, which is being received.
    async fn begun(
        budget: &Arc<Budget>,
        count: usize,
        sent: usize,
    ) -> (Vec<DuplexStream>, JoinSet<Result<usize, Ended>>) {
        let (mut clients, mut coming) = (Vec::new(), JoinSet::new());
        for _ in 0..count {
            let (mut client, mut intake) = connected(budget);
            send(&mut client, 100_000, sent).await;
            clients.push(client);
            coming
                .spawn(async move { next(&mut intake).await.map(|received| received.frame.len()) });
        }
        (clients, coming)
    }

    #[tokio::test]
    async fn requests_come_one_after_the_other_however_they_are_cut() {
        let frames = [&b"\0\0\0\x03abc"[..], b"\0\0\0\x01d"].concat();
        for cut in 1..frames.len() {
            let (mut client, server) = tokio::io::duplex(64);
            let mut intake = Intake::new(server, budget(), ByteSize(1000), LIMIT);
            let (first, rest) = frames.split_at(cut);
            let (first, rest) = (first.to_vec(), rest.to_vec());
            let writing = async move {
                client.write_all(&first).await.expect("it is read");
                tokio::task::yield_now().await;
                client.write_all(&rest).await.expect("it is read");
            };
            let reading = async {
                assert_eq!(next(&mut intake).await.expect("whole").frame, "abc");
                assert_eq!(next(&mut intake).await.expect("whole").frame, "d");
                assert!(matches!(next(&mut intake).await, Err(Ended::Closed)));
            };
            tokio::join!(writing, reading);
        }
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_before_anything_is_set_aside() {
        for length in [[0x7f, 0xff, 0xff, 0xff], [0xff; 4], [0; 4], [0, 0, 3, 0xe9]] {
            let ended = next(&mut intake(&length)).await.expect_err("no length of a request");
            assert!(matches!(ended, Ended::Length(..)), "{ended}");
        }
    }

    #[tokio::test]
    async fn who_speaks_another_protocol_is_told_so() {
        for (first, name) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], "gRPC"),
            (b"GET /metrics HTTP/1.1\r\n\r\n", "HTTP"),
            (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], "TLS"),
        ] {
            let ended = next(&mut intake(first)).await.expect_err("not Kafka's");
            assert!(
                ended.to_string().starts_with(&format!("the client speaks {name} ")),
                "{ended}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_whole_ends_the_connection() {
        let ended = next(&mut intake(b"\0\0\0\x05ab")).await.expect_err("cut off");
        assert!(matches!(ended, Ended::Broken(_)), "{ended}");
        let (mut client, mut intake) = connected(&budget());
        send(&mut client, 5, 2).await;
        let ended = next(&mut intake).await.expect_err("it is late").to_string();
        assert_eq!(ended, "2 of 5 bytes of a request came within 10s");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_announced_and_does_not_come_keeps_nobody_waiting() {
        let budget = budget();
        let mut silent = Vec::new();
        for sent in [0, 1, HEAD_BYTES] {
            let (mut client, mut intake) = connected(&budget);
            send(&mut client, 100_000, sent).await;
            intake.begun().await.expect("it has begun");
            let waits = tokio::time::timeout(LIMIT / 2, intake.receive(|_| false)).await;
            assert!(waits.is_err());
            silent.push((client, intake));
        }
        assert!(budget.is_idle());
        let began = Instant::now();
        for len in [100, 100_000, 100_000] {
            let (mut client, mut intake) = connected(&budget);
            send(&mut client, len, 100_000).await;
            let received = next(&mut intake).await.expect("there is room");
            assert_eq!(received.frame.len(), len as usize);
            silent.push((client, intake));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_hold_room_for_each_other_come_whole_one_after_the_other() {
        let budget = budget();
        let (mut clients, coming) = begun(&budget, 5, 60_000).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(budget.is_crowded(), "all have some, and none has enough");
        for client in &mut clients {
            client.write_all(&[7; 40_000]).await.expect("it is read");
        }
        let began = Instant::now();
        for received in coming.join_all().await {
            assert_eq!(received.expect("it comes"), 100_000);
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited for a limit");
        assert!(budget.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_room_that_others_want_must_send_on() {
        let budget = budget();
        let (_clients, mut coming) = begun(&budget, 3, 99_000).await;
        let (mut client, mut intake) = connected(&budget);
        send(&mut client, 100_000, 100_000).await;
        let began = Instant::now();
        next(&mut intake).await.expect("others are sent away for it");
        assert!(began.elapsed() < LIMIT, "before their time is over");
        while let Some(ended) = coming.join_next().await {
            let ended = ended.expect("no panic").expect_err("it does not come");
            assert!(matches!(ended, Ended::Late { received: 99_000, .. }), "{ended}");
        }
    }

    #[tokio::test]
    async fn small_requests_need_room_if_many_of_them_wait() {
        let budget = budget();
        for (is_queued, held) in [(true, 100), (false, 0)] {
            let (mut client, mut intake) = connected(&budget);
            send(&mut client, 100, 100).await;
            intake.begun().await.expect("it has begun");
            let _received = intake.receive(|_| is_queued).await.expect("whole");
            assert_eq!(budget.held(), held);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_answered_holds_its_room() {
        let budget = budget();
        let mut held = Vec::new();
        for _ in 0..2 {
            let (mut client, mut intake) = connected(&budget);
            send(&mut client, 100_000, 100_000).await;
            held.push(next(&mut intake).await.expect("there is room"));
        }
        let (mut client, mut intake) = connected(&budget);
        send(&mut client, 100_000, 100_000).await;
        intake.begun().await.expect("it has begun");
        let mut receiving = std::pin::pin!(intake.receive(|_| false));
        assert!(tokio::time::timeout(10 * LIMIT, &mut receiving).await.is_err());
        held.clear();
        assert_eq!(receiving.await.expect("there is room now").frame.len(), 100_000);
    }
}
