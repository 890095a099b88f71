//! A fuzz target of a connection as a whole: whatever bytes come are answered, or end it.

use rafka_broker::{Connections, LISTENER_KAFKA};
use rafka_core::ByteSize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::serve;
use crate::Settings;
use crate::gateway::Gateway;

/// In an ordinary test run, besides the corpus. A fuzzer does not stop.
const ITERATIONS: usize = 300;
/// What fits the longest input, so that it is not the length alone that is refused.
const BUDGET: ByteSize = ByteSize::mib(4);
/// No answer to a request of a fuzzer's size is larger, however often it asks for the same.
const ANSWERS_BYTES_MAX: usize = 1 << 20;

#[test]
fn whatever_comes_is_answered_or_refused_and_leaves_nothing_behind() {
    // Waits are over at once: the clock goes on when nothing else does.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("the system has room for a test");
    bolero::check!()
        .with_iterations(ITERATIONS)
        .for_each(|input: &[u8]| runtime.block_on(served(input)));
}

/// Sends `input` to a new node, and nothing more.
async fn served(input: &[u8]) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
    let here = listener.local_addr().expect("it listens");
    let mut broker = rafka_broker::Settings::default();
    broker.groups.offsets_topic_partitions = 1;
    broker.transactions.transactions_topic_partitions = 1;
    let broker = rafka_broker::testing::start_with_kafka(broker, here).await;
    rafka_broker::testing::create_topic(&broker, "orders", 2, &[]).await;
    let settings = Settings {
        receive_bytes_max: Some(BUDGET),
        read_bytes_max: Some(BUDGET),
        fetch_bytes_max: BUDGET,
        ..Settings::default()
    };
    let connections = Connections::new(LISTENER_KAFKA, 1, 1);
    let gateway = Gateway::new(broker, settings);
    let client = TcpStream::connect(here).await.expect("it listens");
    let (stream, peer) = listener.accept().await.expect("somebody connects");
    let place = connections.admit(peer).expect("it is the only one");
    let (mut answers, mut requests) = client.into_split();
    let asking = async {
        // The node may have closed it before it has all of it.
        if requests.write_all(input).await.is_ok() {
            requests.shutdown().await.ok();
        }
    };
    let reading = async {
        let mut read = Vec::new();
        answers.read_to_end(&mut read).await.ok();
        read
    };
    let ((), (), read) = tokio::join!(serve(gateway.clone(), stream, peer, place), asking, reading);
    check_answers(&read);
    assert_eq!(gateway.budget.available_permits(), BUDGET.as_usize(), "all room is given back");
    assert!(gateway.room(BUDGET).is_some(), "that of readers, too");
    assert_eq!(connections.open(), 0);
}

/// Answers are frames, one behind the other, and the last one may be cut off by the end.
fn check_answers(mut read: &[u8]) {
    assert!(read.len() < ANSWERS_BYTES_MAX, "{} bytes", read.len());
    while let Some((length, rest)) = read.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).expect("a length");
        assert!(4 <= length, "every answer has a correlation id");
        read = rest.get(length..).unwrap_or_default();
    }
}
