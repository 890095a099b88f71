//! Frames in: nothing is set aside for a request before there is room for all of it.
//!
//! A request announces its length in four bytes. It is not read on until the listener's byte budget
//! has room for all of it, and memory is taken for what has come, not for what was announced.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use rafka_core::ByteSize;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Small requests come with one read; larger ones go past this buffer.
const READ_BYTES: usize = 8 << 10;
/// Until so many bytes of a request have come, no memory is taken for the rest.
const TRUSTED_BYTES: usize = 64 << 10;
const LENGTH_LEN: usize = 4;

/// A request that has come whole.
#[derive(Debug)]
pub(crate) struct Received {
    /// Without the length in front.
    pub(crate) frame: Bytes,
    /// Its share of the budget, kept until it is answered.
    pub(crate) permit: OwnedSemaphorePermit,
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
}

/// Reads the requests of one connection.
pub(crate) struct Intake<R> {
    input: BufReader<R>,
    budget: Arc<Semaphore>,
    frame_bytes_max: ByteSize,
    limit: Duration,
    length: [u8; LENGTH_LEN],
    length_read: usize,
}

impl<R: AsyncRead + Unpin> Intake<R> {
    pub(crate) fn new(
        input: R,
        budget: Arc<Semaphore>,
        frame_bytes_max: ByteSize,
        limit: Duration,
    ) -> Self {
        let input = BufReader::with_capacity(READ_BYTES, input);
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

    /// Receives the request that has begun.
    ///
    /// # Cancel safety
    /// Cancelled, the connection is of no further use.
    pub(crate) async fn receive(&mut self) -> Result<Received, Ended> {
        self.length_read = 0;
        let announced = i32::from_be_bytes(self.length);
        let max = self.frame_bytes_max;
        let len = u32::try_from(announced).ok().filter(|len| 0 < *len && u64::from(*len) <= max.0);
        let permits = len.ok_or_else(|| match foreign(self.length) {
            Some(protocol) => Ended::Foreign(protocol),
            None => Ended::Length(announced, max),
        })?;
        let len = usize::try_from(permits).expect("32 bits fit a length");
        let permit = Arc::clone(&self.budget).acquire_many_owned(permits).await;
        let permit = permit.expect("nobody closes the budget");
        let mut frame = BytesMut::with_capacity(len.min(TRUSTED_BYTES));
        let filled = tokio::time::timeout(self.limit, self.fill(&mut frame, len)).await;
        match filled {
            Ok(filled) => filled?,
            Err(_elapsed) => {
                let (received, limit) = (frame.len(), self.limit);
                return Err(Ended::Late { received, announced: len, limit });
            }
        }
        Ok(Received { frame: frame.freeze(), permit })
    }

    async fn fill(&mut self, frame: &mut BytesMut, len: usize) -> Result<(), Ended> {
        while frame.len() < len {
            if frame.len() == frame.capacity() {
                frame.reserve(len - frame.len());
            }
            let left = len - frame.len();
            let mut room = (&mut *frame).limit(left);
            if self.input.read_buf(&mut room).await.map_err(Ended::Broken)? == 0 {
                return Err(Ended::Broken(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
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
    use super::*;

    fn intake(input: &[u8]) -> Intake<&[u8]> {
        let budget = Arc::new(Semaphore::new(1000));
        Intake::new(input, budget, ByteSize(1000), Duration::from_secs(10))
    }

    async fn next<R: AsyncRead + Unpin>(intake: &mut Intake<R>) -> Result<Received, Ended> {
        intake.begun().await?;
        intake.receive().await
    }

    #[tokio::test]
    async fn requests_come_one_after_the_other_however_they_are_cut() {
        let frames = [&b"\0\0\0\x03abc"[..], b"\0\0\0\x01d"].concat();
        for cut in 1..frames.len() {
            let (mut client, server) = tokio::io::duplex(64);
            let budget = Arc::new(Semaphore::new(1000));
            let mut intake = Intake::new(server, budget, ByteSize(1000), Duration::from_secs(10));
            let (first, rest) = frames.split_at(cut);
            let (first, rest) = (first.to_vec(), rest.to_vec());
            let writing = async move {
                use tokio::io::AsyncWriteExt as _;
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
        let (client, server) = tokio::io::duplex(64);
        let budget = Arc::new(Semaphore::new(1000));
        let mut intake = Intake::new(server, budget, ByteSize(1000), Duration::from_secs(10));
        let writing = async {
            use tokio::io::AsyncWriteExt as _;
            let mut client = client;
            client.write_all(b"\0\0\0\x05ab").await.expect("it is read");
            client
        };
        let (_client, ended) = tokio::join!(writing, next(&mut intake));
        let ended = ended.expect_err("it is late").to_string();
        assert!(ended.starts_with("2 of 5 bytes"), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_the_budget_waits_unread() {
        let frame = [&[0, 0, 3, 0xe8][..], &[7; 1000]].concat();
        let (mut first, mut second) = (intake(&frame), intake(&frame));
        second.budget = Arc::clone(&first.budget);
        let held = next(&mut first).await.expect("there is room");
        let waits = tokio::time::timeout(Duration::from_secs(60), next(&mut second)).await;
        assert!(waits.is_err(), "the first is not answered yet");
        drop(held);
        assert_eq!(second.receive().await.expect("there is room now").frame.len(), 1000);
    }
}
