//! Fetch sessions (KIP-227): partitions are named once, and only news is answered.

use rafka_core::{ErrorCode, TopicName};
use rafka_kafka::Settings;
use rafka_kafka_wire::fetch::{ForgottenTopic, Partition, Request, Response, Topic};
use uuid::Uuid;

use crate::support::{Client, Node, batch, body, produce};

struct Reader {
    client: Client,
    version: i16,
    id: Uuid,
}

impl Reader {
    async fn new(node: &Node, version: i16) -> Self {
        let name = TopicName::new("orders").expect("valid");
        let id = node.broker.describe_topic(&name.into()).expect("it exists").id.0;
        Self { client: node.connect().await, version, id }
    }

    fn named(&self) -> (&'static str, Uuid) {
        if self.version < 13 { ("orders", Uuid::nil()) } else { ("", self.id) }
    }

    /// Asks for partitions from offsets on, and to forget others. The code, the session, and the
    /// partitions that were told of, each with whether there were records.
    async fn fetch(
        &mut self,
        (id, epoch): (i32, i32),
        places: &[(i32, i64)],
        forgotten: &[i32],
    ) -> (i16, i32, Vec<(i32, bool)>) {
        let (topic, topic_id) = self.named();
        let place = |(partition, fetch_offset): &(i32, i64)| Partition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes: 1 << 20,
            current_leader_epoch: -1,
            ..Partition::default()
        };
        let partitions: Vec<Partition> = places.iter().map(place).collect();
        let topics = Topic { topic: topic.into(), topic_id, partitions };
        let partitions = forgotten.to_vec();
        let forgotten = ForgottenTopic { topic: topic.into(), topic_id, partitions };
        let request = Request {
            max_wait_ms: 1,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_id: id,
            session_epoch: epoch,
            topics: if places.is_empty() { vec![] } else { vec![topics] },
            forgotten_topics_data: if forgotten.partitions.is_empty() {
                vec![]
            } else {
                vec![forgotten]
            },
            ..Request::default()
        };
        let frame = self.client.ask(self.version, &request).await.expect("answered");
        let response: Response<'_> = body(self.version, &frame);
        let told = response.responses.iter().flat_map(|topic| &topic.partitions).map(|data| {
            assert_eq!(data.error_code, 0);
            let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
            (data.partition_index, has_records)
        });
        (response.error_code, response.session_id, told.collect())
    }
}

async fn write(client: &mut Client, partition: i32) {
    let request = produce(-1, partition, batch(&["a"]).to_bytes());
    client.ask(9, &request).await.expect("answered");
}

#[tokio::test]
async fn only_news_is_told_in_a_session() {
    for version in 7..=18 {
        let node = Node::start().await;
        let mut other = node.connect().await;
        write(&mut other, 0).await;
        let mut reader = Reader::new(&node, version).await;
        let (code, id, told) = reader.fetch((0, 0), &[(0, 0), (1, 0)], &[]).await;
        assert_eq!((code, told), (0, vec![(0, true), (1, false)]), "version {version}");
        assert_ne!(id, 0);
        // The reader goes on behind what it got.
        assert_eq!(reader.fetch((id, 1), &[(0, 1)], &[]).await, (0, id, vec![]));
        write(&mut other, 1).await;
        assert_eq!(reader.fetch((id, 2), &[], &[]).await, (0, id, vec![(1, true)]));
        assert_eq!(reader.fetch((id, 3), &[(1, 1)], &[]).await, (0, id, vec![]));
        let stale = ErrorCode::InvalidFetchSessionEpoch.code();
        assert_eq!(reader.fetch((id, 3), &[], &[]).await.0, stale);
        write(&mut other, 0).await;
        write(&mut other, 1).await;
        // What is forgotten twice, or was never named, harms nothing.
        let forgotten = [0, 0, 7];
        assert_eq!(reader.fetch((id, 4), &[], &forgotten).await, (0, id, vec![(1, true)]));
        let again = reader.fetch((id, 5), &[(0, 0), (1, 2)], &[]).await;
        assert_eq!(again, (0, id, vec![(0, true)]));
        let unknown = ErrorCode::FetchSessionIdNotFound.code();
        assert_eq!(reader.fetch((id + 1, 6), &[], &[]).await.0, unknown);
        assert_eq!(reader.fetch((id, -1), &[(0, 0)], &[]).await, (0, 0, vec![(0, true)]));
        assert_eq!(reader.fetch((id, 6), &[], &[]).await.0, unknown, "it was ended");
    }
}

#[tokio::test]
async fn a_session_is_of_its_connection_and_begins_anew() {
    let node = Node::start().await;
    let mut first = Reader::new(&node, 12).await;
    let mut second = Reader::new(&node, 12).await;
    let (_, id, _) = first.fetch((0, 0), &[(0, 0)], &[]).await;
    let unknown = ErrorCode::FetchSessionIdNotFound.code();
    assert_eq!(second.fetch((id, 1), &[], &[]).await.0, unknown);
    let (code, next, told) = first.fetch((id, 0), &[(0, 0), (1, 0)], &[]).await;
    assert_eq!((code, told.len()), (0, 2));
    assert!(next != id && next != 0);
    first.version = 13;
    let mixed = ErrorCode::FetchSessionTopicIdError.code();
    assert_eq!(first.fetch((next, 1), &[], &[]).await.0, mixed);
}

#[tokio::test]
async fn without_room_for_a_session_everything_is_told_each_time() {
    let settings = Settings { fetch_session_partitions_max: 2, ..Settings::default() };
    let node = Node::with(settings).await;
    let mut first = Reader::new(&node, 12).await;
    let mut second = Reader::new(&node, 12).await;
    let (_, id, _) = first.fetch((0, 0), &[(0, 0)], &[]).await;
    assert_ne!(id, 0);
    let both = [(0, 0), (1, 0)];
    assert_eq!(second.fetch((0, 0), &both, &[]).await, (0, 0, vec![(0, false), (1, false)]));
    assert_eq!(first.fetch((id, 1), &[(1, 0)], &[]).await, (0, id, vec![(1, false)]));
    drop(first);
    let freed = async {
        while second.fetch((0, 0), &both, &[]).await.1 == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::LIMIT, freed).await.expect("its room is given back");
}

#[tokio::test]
async fn a_partition_that_always_has_records_does_not_starve_the_others() {
    let node = Node::start().await;
    let mut other = node.connect().await;
    for _ in 0..3 {
        write(&mut other, 0).await;
        write(&mut other, 1).await;
    }
    let mut reader = Reader::new(&node, 12).await;
    // Each answer has room for one batch alone.
    let tight = |session: (i32, i32), places: Vec<(i32, i64)>| {
        let place = |(partition, fetch_offset): (i32, i64)| Partition {
            partition,
            fetch_offset,
            partition_max_bytes: 1,
            current_leader_epoch: -1,
            ..Partition::default()
        };
        let partitions: Vec<Partition> = places.into_iter().map(place).collect();
        let topic = Topic { topic: "orders".into(), partitions, ..Topic::default() };
        Request {
            min_bytes: 1,
            max_bytes: 1,
            session_id: session.0,
            session_epoch: session.1,
            topics: vec![topic],
            ..Request::default()
        }
    };
    let mut offsets = [0, 0];
    let (mut session, mut order) = ((0, 0), Vec::new());
    while offsets != [3, 3] {
        let places = vec![(0, offsets[0]), (1, offsets[1])];
        let frame = reader.client.ask(12, &tight(session, places)).await.expect("answered");
        let response: Response<'_> = body(12, &frame);
        assert_eq!(response.error_code, 0);
        session = (response.session_id, session.1 + 1);
        for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
            if data.records.as_ref().is_some_and(|records| !records.is_empty()) {
                order.push(data.partition_index);
                offsets[usize::try_from(data.partition_index).expect("0 or 1")] += 1;
            }
        }
    }
    assert_eq!(order, [0, 1, 0, 1, 0, 1]);
}

#[tokio::test]
async fn a_partition_that_is_named_twice_is_answered_once_and_from_where_it_was_asked_last() {
    for version in 4..=18 {
        let node = Node::start().await;
        let mut other = node.connect().await;
        write(&mut other, 0).await;
        let mut reader = Reader::new(&node, version).await;
        let (code, _, told) = reader.fetch((0, 0), &[(0, 1), (1, 0), (0, 0)], &[]).await;
        assert_eq!((code, told), (0, vec![(0, true), (1, false)]), "version {version}");
    }
}

#[tokio::test]
async fn what_no_topic_can_be_called_is_refused_and_kept_by_no_session() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let longest = "x".repeat(30_000);
    let ask = |session_id, session_epoch| {
        let partitions = vec![Partition { current_leader_epoch: -1, ..Partition::default() }];
        let topics =
            vec![Topic { topic: longest.as_str().into(), topic_id: Uuid::nil(), partitions }];
        Request { max_bytes: 1000, session_id, session_epoch, topics, ..Request::default() }
    };
    let frame = client.ask(11, &ask(0, 0)).await.expect("answered");
    let response: Response<'_> = body(11, &frame);
    assert_eq!((response.error_code, response.session_id), (0, 0), "there is no session");
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(response.responses[0].partitions[0].error_code, unknown);
    let mut reader = Reader::new(&node, 11).await;
    let (_, id, _) = reader.fetch((0, 0), &[(0, 0)], &[]).await;
    let frame = reader.client.ask(11, &ask(id, 1)).await.expect("answered");
    let response: Response<'_> = body(11, &frame);
    assert_eq!(response.error_code, ErrorCode::FetchSessionIdNotFound.code());
}
