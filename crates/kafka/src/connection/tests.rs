//! A connection as a whole: whatever bytes come are answered, or end it.

#[path = "../../../../xtask/src/codegen/kafka/facts.rs"]
#[expect(dead_code, reason = "shared with those who need all of it")]
mod facts;
#[path = "../../../kafka-wire/src/tests/random.rs"]
mod random;

use std::collections::BTreeMap;

use rafka_broker::transaction::Filter;
use rafka_broker::{Connections, LISTENER_KAFKA};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::rng::{self, Rng, RngExt as _};
use rafka_core::{ByteSize, ProducerEpoch, ProducerId, Timestamp};
use rafka_kafka_wire::ApiKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use random::Palette;

use super::serve;
use crate::gateway::Gateway;
use crate::{Settings, api};

/// In an ordinary test run, besides the corpus. A fuzzer does not stop.
const ITERATIONS: usize = 300;
/// What fits the longest input, so that it is not the length alone that is refused.
const BUDGET: ByteSize = ByteSize::mib(4);
/// No answer to a request of a fuzzer's size is larger, however often it asks for the same.
const ANSWERS_BYTES_MAX: usize = 1 << 20;
/// How many connections say something sensible, and how many requests each.
const ROUNDS: usize = 500;
const REQUESTS: usize = 60;

/// Waits are over at once: the clock goes on when nothing else does.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("the system has room for a test")
}

#[test]
fn whatever_comes_is_answered_or_refused_and_leaves_nothing_behind() {
    let runtime = runtime();
    bolero::check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
        let read = runtime.block_on(served(input));
        assert!(read.len() < ANSWERS_BYTES_MAX, "{} bytes", read.len());
    });
}

/// Requests that are whole, and mean something: of all APIs in all versions, about the same few
/// topics, partitions, groups, members, producers, sessions and offsets.
#[test]
fn whatever_is_asked_in_whatever_order_is_answered() {
    let chosen = option_env!("RAFKA_SEED").map(|seed| seed.parse().expect("a seed is a number"));
    let seeds = chosen.map_or(0..ROUNDS, |seed| seed..seed + 1);
    let apis = apis().expect("the table is well-formed");
    let runtime = runtime();
    let all = seeds.len();
    let mut answered: BTreeMap<i16, usize> = BTreeMap::new();
    for seed in seeds {
        println!("again: RAFKA_SEED={seed} cargo test -p rafka-kafka whatever_is_asked");
        let (asked, input) = requests(&apis, &mut rng::from_seed(seed as u64));
        let read = runtime.block_on(served(&input));
        let mut next = 0;
        for id in answers(&read) {
            // Who wants no acknowledgement gets none. All others are answered, in order.
            let skipped = asked[next..id].iter();
            assert!(
                skipped.copied().all(|key| key == ApiKey::Produce.code()),
                "{id} before {next}"
            );
            *answered.entry(asked[id]).or_default() += 1;
            next = id + 1;
        }
    }
    if all == ROUNDS {
        let count: usize = answered.values().sum();
        assert!(all * REQUESTS / 4 < count, "{count} of {} were answered", all * REQUESTS);
        let mut served = apis.iter().map(|api| api.key).filter(|key| api::served(*key).is_some());
        assert!(served.all(|key| answered.contains_key(&key)), "{answered:?}");
    }
}

/// The numbers of the requests that were answered, in the order of the answers. The last one may be cut
/// off by the end.
fn answers(mut read: &[u8]) -> Vec<usize> {
    let mut ids = Vec::new();
    while let Some((length, rest)) = read.split_first_chunk() {
        let length = usize::try_from(i32::from_be_bytes(*length)).expect("a length");
        assert!(4 <= length, "every answer has a correlation id");
        let Some((frame, rest)) = rest.split_at_checked(length) else { break };
        let id = frame.first_chunk().copied().map(i32::from_be_bytes).expect("it is long enough");
        ids.push(usize::try_from(id).expect("a number that was sent"));
        read = rest;
    }
    ids
}

fn apis() -> anyhow::Result<Vec<facts::Api>> {
    facts::parse(include_str!("../../../kafka-wire/facts.txt"))
}

/// The APIs that are asked, and one frame behind the other, numbered from 0. Some connections go on about few things, others about all.
fn requests(apis: &[facts::Api], rng: &mut Rng) -> (Vec<i16>, Vec<u8>) {
    let served: Vec<&facts::Api> =
        apis.iter().filter(|known| api::served(known.key).is_some()).collect();
    let few = if rng.random_bool(0.5) { served.len() } else { rng.random_range(1..4) };
    let some: Vec<&facts::Api> =
        (0..few).map(|_| served[rng.random_range(0..served.len())]).collect();
    let palette = Palette {
        integers: vec![-1, 0, 0, 1, 1, 2, 3, 1000],
        texts: ["orders", "lines", "g", "h", "range", "consumer", "m", ""].map(Into::into).into(),
        ids: vec![0, 1],
        records: vec![records(None), records(Some(0)), records(Some(1)), Vec::new()],
    };
    let (mut asked, mut out) = (Vec::new(), Vec::new());
    for number in 0..i32::try_from(REQUESTS).expect("small") {
        let api = some[rng.random_range(0..some.len())];
        let versions = api::served(api.key).expect("only those were taken");
        let version = rng.random_range(versions);
        let mut frame = Vec::new();
        frame.extend(api.key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(number.to_be_bytes());
        frame.extend([0xff, 0xff]);
        // Of a flexible request the header is so, too.
        frame.extend(api.is_flexible(version).then_some(0));
        frame.extend(random::message((api, "Request"), version, &palette, rng));
        out.extend(u32::try_from(frame.len()).expect("short").to_be_bytes());
        out.extend(frame);
        asked.push(api.key);
    }
    (asked, out)
}

/// A batch, of a producer of this id or of none.
fn records(producer: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some(id) = producer {
        builder.producer(ProducerId(id), ProducerEpoch(0), 0);
        builder.transactional();
    }
    builder.push(Timestamp(1), Some(b"key"), Some(b"value"), &[]);
    builder.build().expect("no codec").to_bytes().to_vec()
}

/// Sends `input` to a new node, and nothing more. The answers that come.
async fn served(input: &[u8]) -> Vec<u8> {
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
    assert!(gateway.budget.is_idle(), "all room is given back");
    assert!(gateway.room(BUDGET).is_some(), "that of readers, too");
    assert_eq!(connections.open(), 0);
    // Those who serve all connections still do.
    let (broker, filter) = (&gateway.broker, Filter::default());
    broker.groups().list(Vec::new(), Vec::new()).await.expect("the group coordinator lives");
    broker.transactions().list(filter).await.expect("the transaction coordinator lives");
    read
}
