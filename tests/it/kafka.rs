//! The same records and the same groups through both gateways.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rafka_consumer::{Consumer, Isolation, OffsetReset};
use rafka_core::batch::BatchBuilder;
use rafka_core::compression::Compression;
use rafka_core::consumer_protocol::{Assignment, Subscription};
use rafka_core::{
    Batch, ByteSize, Clock as _, ErrorCode, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    SystemClock, TopicName,
};
use rafka_kafka_wire::{
    Message, Reader, RequestHeader, ResponseHeader, Writer, end_txn, fetch, init_producer_id,
    join_group, leave_group, offset_commit, offset_fetch, offset_for_leader_epoch, produce,
    sync_group,
};
use rafka_producer::{Producer, Record, TopicPartition};

use crate::node::{LIMIT, Node, numbered};

/// A request as it is sent.
fn frame<'m, Q: Message<'m>>(version: i16, request: &Q) -> Bytes {
    let mut out = Writer::new();
    let client_id = Some("it".into());
    let header = RequestHeader { key: Q::KEY, version, correlation_id: 1, client_id };
    header.encode(&mut out).expect("a short client id");
    request.encode(version, &mut out).expect("a request of this version");
    let mut frame = out.finish().expect("short enough");
    frame.copy_to_bytes(frame.remaining())
}

/// Asks over the Kafka port; `read` looks at the answer.
fn ask<'m, Q: Message<'m>>(node: &Node, version: i16, request: &Q) -> Bytes {
    let mut stream = TcpStream::connect(node.kafka()).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
    stream.write_all(&frame(version, request)).expect("it reads");
    let mut len = [0; 4];
    stream.read_exact(&mut len).expect("it answers");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(len)).expect("a length")];
    stream.read_exact(&mut answer).expect("it answers");
    answer.into()
}

fn read<'a, R: Message<'a>>(answer: &'a Bytes, version: i16) -> R {
    let mut reader = Reader::new(answer);
    let header = ResponseHeader::decode(R::KEY, version, &mut reader).expect("a header");
    assert_eq!(header.correlation_id, 1);
    R::decode(version, &mut reader).expect("an answer of this version")
}

fn produce(node: &Node, topic: &'static str, values: &[&str]) {
    let mut builder = BatchBuilder::new(Compression::Snappy);
    for value in values {
        builder.push(SystemClock::new().timestamp(), None, Some(value.as_bytes()), &[]);
    }
    let batch = builder.build().expect("memory does not fail");
    let partition =
        produce::PartitionProduceData { index: 0, records: Some(batch.to_bytes().into()) };
    let topic = produce::TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = produce::Request {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
        ..Default::default()
    };
    let answer = ask(node, 9, &request);
    let response: produce::Response<'_> = read(&answer, 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

fn consume(node: &Node, topic: &'static str) -> Vec<String> {
    let partition = fetch::Partition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        fetch::Topic { topic: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = fetch::Request {
        max_wait_ms: 1000,
        min_bytes: 1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = ask(node, 11, &request);
    let mut response: fetch::Response<'_> = read(&answer, 11);
    let records = response.responses[0].partitions[0].records.take();
    let mut bytes = records.expect("records").into_bytes();
    let mut values = Vec::new();
    while let Some(batch) = Batch::split_first(&mut bytes).expect("sound batches") {
        for record in batch.records(ByteSize::mib(1)).expect("it inflates") {
            let value = record.expect("a record").value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
    }
    values
}

#[test]
fn what_one_gateway_takes_the_other_gives_also_after_a_kill() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t"]);
    node.ok_with(&["produce", "t"], "grpc\n");
    produce(&node, "t", &["kafka", "both"]);
    assert_eq!(consume(&node, "t"), ["grpc", "kafka", "both"]);
    node.kill();
    node.restart();
    assert_eq!(node.ok(&["consume", "t", "-e"]), "grpc\nkafka\nboth\n");
    assert_eq!(consume(&node, "t"), ["grpc", "kafka", "both"]);
}

/// Sends bytes that the node closes the connection for; returns how the log names the client.
fn closed_for(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
    stream.write_all(bytes).expect("it is taken");
    // It is closed, or reset: what the node had not read is lost.
    let _reset = stream.read_to_end(&mut Vec::new());
    stream.local_addr().expect("it has one").to_string()
}

#[test]
fn what_a_connection_is_closed_for_is_in_the_log() {
    let node = Node::start(&[]);
    let refused = produce::TopicProduceData {
        name: "no such/topic".into(),
        partition_data: vec![produce::PartitionProduceData { index: 0, records: None }],
        ..Default::default()
    };
    let refused = produce::Request { acks: 0, topic_data: vec![refused], ..Default::default() };
    for (bytes, said) in [
        (&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 3][..], "kafka connection closed"),
        (
            &[0, 0, 0, 11, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0],
            "Metadata version 99 is not served",
        ),
        (
            &[0, 0, 0, 11, 0, 3, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0x7f],
            "Metadata version 8 is malformed",
        ),
        (&frame(9, &refused), "records were refused that were sent with acks=0"),
    ] {
        let peer = closed_for(node.kafka(), bytes);
        node.expect_logged(&[said, &peer]);
    }
}

#[test]
fn who_is_closed_for_silence_is_in_the_log() {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let file = dir.path().join("rafka.yaml");
    let text = "kafka:\n  handshake_timeout: 100 ms\ngrpc:\n  handshake_timeout: 100 ms\n";
    std::fs::write(&file, text).expect("it can be written");
    let node = Node::start(&["--config", file.to_str().expect("temporary names are text")]);
    for (address, said) in
        [(node.kafka(), "no request came within 100ms"), (node.grpc(), "no call came in time")]
    {
        let peer = closed_for(address, &[]);
        node.expect_logged(&["silent connections closed", said, &peer]);
    }
}

/// A member of the group over the Kafka port.
struct Member<'a> {
    node: &'a Node,
    group: &'static str,
    id: String,
    generation: i32,
}

impl<'a> Member<'a> {
    /// Joins the next generation of the group, which others lead.
    fn join(node: &'a Node, group: &'static str, topic: &str) -> Self {
        let mut member = Self { node, group, id: String::new(), generation: -1 };
        let wants = Subscription::new(vec![topic.to_owned()]).encode().expect("a short name");
        loop {
            let request = join_group::Request {
                group_id: group.into(),
                session_timeout_ms: 30_000,
                rebalance_timeout_ms: 30_000,
                member_id: member.id.clone().into(),
                protocol_type: "consumer".into(),
                protocols: vec![join_group::RequestProtocol {
                    name: "range".into(),
                    metadata: wants.clone(),
                }],
                ..Default::default()
            };
            let answer = ask(node, 5, &request);
            let joined: join_group::Response<'_> = read(&answer, 5);
            member.id = joined.member_id.to_string();
            if joined.error_code == 0 {
                member.generation = joined.generation_id;
                return member;
            }
            assert_eq!(joined.error_code, ErrorCode::MemberIdRequired.code());
        }
    }

    /// The partitions that the leader gave it.
    fn partitions(&self) -> Vec<i32> {
        let request = sync_group::Request {
            group_id: self.group.into(),
            generation_id: self.generation,
            member_id: self.id.clone().into(),
            ..Default::default()
        };
        let answer = ask(self.node, 3, &request);
        let synced: sync_group::Response<'_> = read(&answer, 3);
        assert_eq!(synced.error_code, 0);
        let assignment = Assignment::decode(&synced.assignment).expect("the SDK writes Kafka's");
        let topics = assignment.partitions.into_iter();
        topics.flat_map(|topic| topic.partitions).map(|index| index.0).collect()
    }

    fn commit(&self, topic: &'static str, partition_index: i32, committed_offset: i64) {
        let partition = offset_commit::RequestPartition {
            partition_index,
            committed_offset,
            ..Default::default()
        };
        let topic = offset_commit::RequestTopic {
            name: topic.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = offset_commit::Request {
            group_id: self.group.into(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone().into(),
            topics: vec![topic],
            ..Default::default()
        };
        let answer = ask(self.node, 7, &request);
        let committed: offset_commit::Response<'_> = read(&answer, 7);
        assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    }

    fn leave(self) {
        let member =
            leave_group::MemberIdentity { member_id: self.id.into(), ..Default::default() };
        let request = leave_group::Request {
            group_id: self.group.into(),
            members: vec![member],
            ..Default::default()
        };
        let answer = ask(self.node, 3, &request);
        let left: leave_group::Response<'_> = read(&answer, 3);
        assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    }
}

#[test]
fn members_of_both_gateways_share_a_group_and_its_offsets() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "2"]);
    node.ok_with(&["produce", "t", "-K", ":"], &numbered("k", 0..20));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("threads can be started");
    let consumer = runtime.block_on(async {
        let consumer = Consumer::builder(&node.grpc().to_string()).group("g").build();
        let consumer = consumer.expect("sound settings");
        consumer.subscribe(&["t"]).await.expect("it has a group");
        consumer
    });
    let until_owning = |count: usize| {
        let owning = async {
            while consumer.assignment().len() != count {
                consumer.poll(Duration::from_millis(5)).await.expect("no failure");
            }
        };
        let limited = async { tokio::time::timeout(LIMIT, owning).await };
        runtime.block_on(limited).expect("the group comes to rest");
    };
    until_owning(2);
    let (member, owned) = std::thread::scope(|scope| {
        let joining = scope.spawn(|| {
            let member = Member::join(&node, "g", "t");
            let owned = member.partitions();
            (member, owned)
        });
        until_owning(1);
        joining.join().expect("it joins")
    });
    let other = consumer.assignment()[0].partition.0;
    assert_eq!(owned, [1 - other], "each has one of the two");
    member.commit("t", owned[0], 3);
    let offsets = runtime.block_on(consumer.client().admin().committed_offsets("g", &[]));
    let offsets = offsets.expect("the node answers");
    let shared = offsets.iter().find(|one| one.partition.partition.0 == owned[0]);
    assert_eq!(shared.and_then(|one| one.offset), Some(Offset(3)), "{offsets:?}");
    member.leave();
    until_owning(2);
    runtime.block_on(consumer.close(LIMIT)).expect("it leaves");
    let request = offset_fetch::Request {
        group_id: "g".into(),
        topics: Some(vec![offset_fetch::RequestTopic {
            name: "t".into(),
            partition_indexes: vec![0, 1],
        }]),
        ..Default::default()
    };
    let answer = ask(&node, 5, &request);
    let fetched: offset_fetch::Response<'_> = read(&answer, 5);
    assert_eq!(fetched.error_code, 0);
    let found = &fetched.topics[0].partitions[usize::try_from(owned[0]).expect("0 or 1")];
    assert!(3 <= found.committed_offset, "{found:?}");
}

/// The code, and where the partition of `t` ended under a leader epoch.
fn epoch_end(node: &Node, current_leader_epoch: i32, leader_epoch: i32) -> (i16, i32, i64) {
    let partition = offset_for_leader_epoch::OffsetForLeaderPartition {
        current_leader_epoch,
        leader_epoch,
        ..Default::default()
    };
    let topic = offset_for_leader_epoch::OffsetForLeaderTopic {
        topic: "t".into(),
        partitions: vec![partition],
    };
    let request = offset_for_leader_epoch::Request { replica_id: -1, topics: vec![topic] };
    let answer = ask(node, 4, &request);
    let response: offset_for_leader_epoch::Response<'_> = read(&answer, 4);
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.leader_epoch, found.end_offset)
}

/// What a fetch from the beginning of `t` brought.
fn fetched(node: &Node, isolation_level: i8, current_leader_epoch: i32) -> fetch::PartitionData {
    let partition = fetch::Partition {
        partition_max_bytes: 1 << 20,
        current_leader_epoch,
        ..Default::default()
    };
    let topic =
        fetch::Topic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    let request =
        fetch::Request { min_bytes: 1, isolation_level, topics: vec![topic], ..Default::default() };
    let answer = ask(node, 11, &request);
    let mut response: fetch::Response<'_> = read(&answer, 11);
    response.responses.remove(0).partitions.remove(0)
}

fn batches(data: &fetch::PartitionData) -> Vec<Batch> {
    let mut bytes = data.records.clone().expect("records").into_bytes();
    std::iter::from_fn(|| Batch::split_first(&mut bytes).expect("sound batches")).collect()
}

#[test]
fn clients_that_know_a_leader_of_before_are_told_where_its_epoch_ended() {
    let mut node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "1"]);
    produce(&node, "t", &["a", "b"]);
    node.kill();
    node.restart();
    produce(&node, "t", &["c"]);
    let epochs: Vec<i32> =
        batches(&fetched(&node, 0, -1)).iter().map(|batch| batch.header.leader_epoch.0).collect();
    let [old, new] = epochs[..] else { panic!("{epochs:?}") };
    assert!(old < new, "a restart is a new leader");
    assert_eq!(epoch_end(&node, new, old), (0, old, 2), "and not the end of the log");
    assert_eq!(epoch_end(&node, new, new), (0, new, 3));
    let fenced = ErrorCode::FencedLeaderEpoch.code();
    assert_eq!(epoch_end(&node, old, old).0, fenced);
    assert_eq!(fetched(&node, 0, old).error_code, fenced);
    assert_eq!(fetched(&node, 0, new).error_code, 0);
}

/// The transactional producer of this id over the Kafka port, when nothing else is under way.
async fn init(node: &Node) -> (i64, i16) {
    let request = init_producer_id::Request {
        transactional_id: Some("kafka".into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    until_answered(node, 5, &request, |answer| {
        let given: init_producer_id::Response = read(answer, 5);
        (given.error_code, (given.producer_id, given.producer_epoch))
    })
    .await
}

/// Asks until nothing else is under way, as clients do.
async fn until_answered<'m, Q: Message<'m>, T>(
    node: &Node,
    version: i16,
    request: &Q,
    look: impl Fn(&Bytes) -> (i16, T),
) -> T {
    /// Another operation is under way.
    const BUSY: i16 = 51;
    for _ in 0..1000 {
        let (code, found) = look(&ask(node, version, request));
        if code == 0 {
            return found;
        }
        let is_retriable = ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable);
        assert!(code == BUSY || is_retriable, "{code}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not settle");
}

/// A transaction of one record over the Kafka port, as new clients write it; who goes on.
async fn transact(
    node: &Node,
    (id, epoch): (i64, i16),
    value: &str,
    committed: Option<bool>,
) -> (i64, i16) {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer(ProducerId(id), ProducerEpoch(epoch), 0);
    builder.transactional();
    builder.push(SystemClock::new().timestamp(), None, Some(value.as_bytes()), &[]);
    let batch = builder.build().expect("no codec");
    let partition =
        produce::PartitionProduceData { index: 0, records: Some(batch.to_bytes().into()) };
    let topic = produce::TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = produce::Request {
        transactional_id: Some("kafka".into()),
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![topic],
    };
    until_answered(node, 12, &request, |answer| {
        let response: produce::Response<'_> = read(answer, 12);
        (response.responses[0].partition_responses[0].error_code, ())
    })
    .await;
    let Some(committed) = committed else { return (id, epoch) };
    let request = end_txn::Request {
        transactional_id: "kafka".into(),
        producer_id: id,
        producer_epoch: epoch,
        committed,
    };
    until_answered(node, 5, &request, |answer| {
        let ended: end_txn::Response = read(answer, 5);
        (ended.error_code, (ended.producer_id, ended.producer_epoch))
    })
    .await
}

/// What is committed in `t`, as a Kafka client finds it: it leaves out what is listed as aborted.
fn committed_over_kafka(node: &Node) -> Vec<String> {
    let data = fetched(node, 1, -1);
    let mut aborted = data.aborted_transactions.clone().expect("a list");
    aborted.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
    let mut open: Vec<i64> = Vec::new();
    let mut values = Vec::new();
    for batch in batches(&data) {
        while let Some(next) = aborted.pop_if(|one| one.first_offset <= batch.last_offset().0) {
            open.push(next.producer_id);
        }
        let producer = batch.header.producer_id.0;
        if batch.header.attributes.is_control() {
            open.retain(|id| *id != producer);
        } else if !(batch.header.attributes.is_transactional() && open.contains(&producer)) {
            for record in batch.records(ByteSize::mib(1)).expect("it inflates") {
                let value = record.expect("a record").value.expect("a value");
                values.push(String::from_utf8(value.to_vec()).expect("text"));
            }
        }
    }
    values
}

/// What is committed in `t`, as the SDK finds it, up to the first of these that is not there yet.
async fn committed_over_grpc(node: &Node, count: usize) -> Vec<String> {
    let reader = Consumer::builder(&node.grpc().to_string()).isolation(Isolation::ReadCommitted);
    let reader = reader.offset_reset(OffsetReset::Earliest).build().expect("sound settings");
    let topic = TopicName::new("t").expect("a valid name");
    reader.assign(&[TopicPartition::new(topic, PartitionIndex(0))]).expect("not subscribed");
    let mut values = Vec::new();
    let reading = async {
        while values.len() < count || !reader.is_at_end() {
            for record in reader.poll(Duration::from_millis(5)).await.expect("no failure") {
                let value = record.value.expect("a value");
                values.push(String::from_utf8(value.to_vec()).expect("text"));
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("it comes to its end");
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_either_gateway_counts_for_readers_of_the_other_once_it_is_committed() {
    let node = Node::start(&[]);
    node.ok(&["topic", "create", "t", "-p", "1"]);
    let producer = Producer::builder(&node.grpc().to_string());
    let producer = producer.build_transactional("grpc", Duration::from_secs(60));
    let mut producer = producer.await.expect("the node answers");
    let record = |value: &'static str| Record::new("t").partition(PartitionIndex(0)).value(value);
    let mut kafka = init(&node).await;
    for (number, is_committed) in [(0, true), (1, false), (2, true)] {
        let over_grpc = ["grpc 0", "grpc 1", "grpc 2"][number];
        let mut transaction = producer.begin().await.expect("the node answers");
        let delivery = transaction.send(record(over_grpc)).await.expect("it is taken");
        delivery.await.expect("it is written");
        if is_committed {
            transaction.commit().await.expect("the node answers");
        } else {
            transaction.abort().await.expect("the node answers");
        }
        let over_kafka = ["kafka 0", "kafka 1", "kafka 2"][number];
        kafka = transact(&node, kafka, over_kafka, Some(is_committed)).await;
    }
    let expected = ["grpc 0", "kafka 0", "grpc 2", "kafka 2"];
    assert_eq!(committed_over_grpc(&node, expected.len()).await, expected);
    assert_eq!(committed_over_kafka(&node), expected);
    // What is open hides what is behind it, whoever wrote it and whoever reads.
    transact(&node, kafka, "open", None).await;
    node.ok_with(&["produce", "t"], "behind\n");
    assert_eq!(committed_over_kafka(&node), expected);
    assert_eq!(committed_over_grpc(&node, expected.len()).await, expected);
}
