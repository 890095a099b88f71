//! What readers of committed records are given, in every version of Fetch.

use rafka_core::batch::{EndMarker, Outcome};
use rafka_core::{Batch, TopicName};
use rafka_kafka_wire::fetch;
use uuid::Uuid;

use crate::support::{Client, Node, batch, body, produce};
use crate::transactions::{add, end, init, write};

/// What a fetch from one offset of the first partition of `orders` brought.
#[derive(Debug)]
struct Found {
    stable: i64,
    end: i64,
    aborted: Option<Vec<(i64, i64)>>,
    batches: Vec<Batch>,
}

impl Found {
    fn offsets(&self) -> Vec<i64> {
        self.batches.iter().map(|batch| batch.base_offset().0).collect()
    }
}

async fn fetch(client: &mut Client, (version, id): (i16, Uuid), level: i8, offset: i64) -> Found {
    let has_names = version < 13;
    let request = fetch::Request {
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: level,
        session_epoch: -1,
        topics: vec![fetch::Topic {
            topic: if has_names { "orders".into() } else { "".into() },
            topic_id: if has_names { Uuid::nil() } else { id },
            partitions: vec![fetch::Partition {
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..fetch::Partition::default()
            }],
        }],
        ..fetch::Request::default()
    };
    let frame = client.ask(version, &request).await.expect("answered");
    let response: fetch::Response<'_> = body(version, &frame);
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, 0, "version {version}");
    let mut bytes = data.records.clone().unwrap_or_default().into_bytes();
    let batches = std::iter::from_fn(|| Batch::split_first(&mut bytes).expect("whole and sound"));
    let aborted = data
        .aborted_transactions
        .as_ref()
        .map(|all| all.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect());
    Found {
        stable: data.last_stable_offset,
        end: data.high_watermark,
        aborted,
        batches: batches.collect(),
    }
}

async fn write_plainly(client: &mut Client) {
    client.ask(9, &produce(-1, 0, batch(&["plain"]).to_bytes())).await.expect("answered");
}

#[tokio::test]
async fn readers_of_what_is_committed_stop_at_open_transactions_and_are_told_of_aborted_ones() {
    let node = Node::start().await;
    let name = TopicName::new("orders").expect("valid");
    let id = node.broker.describe_topic(&name.into()).expect("it exists").id.0;
    let mut client = node.connect().await;
    let producer = init(&mut client, 0).await;
    assert_eq!(add(&mut client, 3, producer).await, 0);
    for sequence in [0, 1] {
        assert_eq!(write(&mut client, producer, sequence).await, 0);
    }
    write_plainly(&mut client).await;
    for version in 4..=18 {
        let found = fetch(&mut client, (version, id), 1, 0).await;
        assert_eq!((found.stable, found.end, found.offsets()), (0, 3, vec![]), "{found:?}");
        assert_eq!(found.aborted, Some(vec![]), "nobody knows yet");
        let found = fetch(&mut client, (version, id), 0, 0).await;
        assert_eq!((found.stable, found.end, found.offsets()), (0, 3, vec![0, 1, 2]), "{found:?}");
        assert_eq!(found.aborted, None, "it takes all as it comes");
    }
    // Each next one begins when the markers of the one before are written: at 3 and at 5.
    assert_eq!(end(&mut client, 4, producer, false).await, 0);
    assert_eq!(add(&mut client, 3, producer).await, 0);
    assert_eq!(write(&mut client, producer, 2).await, 0);
    assert_eq!(end(&mut client, 4, producer, true).await, 0);
    assert_eq!(add(&mut client, 3, producer).await, 0);
    assert_eq!(write(&mut client, producer, 3).await, 0);
    write_plainly(&mut client).await;
    for version in 4..=18 {
        let aborted = vec![(producer.0, 0)];
        // Listed as long as something of it, its marker at least, is still to come.
        for (from, aborted) in [
            (0, aborted.clone()),
            (1, aborted.clone()),
            (2, aborted.clone()),
            (3, aborted),
            (4, vec![]),
            (5, vec![]),
            (6, vec![]),
            (7, vec![]),
        ] {
            let found = fetch(&mut client, (version, id), 1, from).await;
            assert_eq!((found.stable, found.end), (6, 8));
            assert_eq!(found.aborted, Some(aborted), "version {version} from {from}");
            assert_eq!(found.offsets(), (from..6).collect::<Vec<_>>(), "the one at 6 is open");
        }
        let found = fetch(&mut client, (version, id), 0, 0).await;
        assert_eq!((found.stable, found.end, found.aborted.is_none()), (6, 8, true));
        assert_eq!(found.offsets(), (0..8).collect::<Vec<_>>());
        let attributes: Vec<i16> =
            found.batches.iter().map(|batch| batch.header.attributes.0).collect();
        // 16: of a transaction; 32: a control batch.
        assert_eq!(attributes, [16, 16, 0, 48, 16, 48, 16, 0]);
        let outcome = |at: usize| {
            let marker = &found.batches[at];
            assert_eq!(marker.header.producer_id.0, producer.0);
            EndMarker::of(marker).map(|marker| marker.outcome)
        };
        assert_eq!((outcome(3), outcome(5)), (Some(Outcome::Abort), Some(Outcome::Commit)));
    }
}
