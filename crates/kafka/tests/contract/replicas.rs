//! Replicas, leaders and log directories: the answers of a node that has no other beside it.

use rafka_kafka_wire::{
    alter_partition_reassignments, describe_log_dirs, describe_topic_partitions, elect_leaders,
    list_partition_reassignments,
};

use crate::support::{Client, Node, ask, batch, produce};

#[tokio::test]
async fn log_dirs_hold_what_was_written_in_every_version() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    client.ask(9, &produce(-1, 1, batch(&["a"]).to_bytes())).await.expect("answered");
    let asked = |name: &'static str, partitions: &[i32]| describe_log_dirs::Request {
        topics: Some(vec![describe_log_dirs::DescribableLogDirTopic {
            topic: name.into(),
            partitions: partitions.to_vec(),
        }]),
    };
    for version in 1..=4 {
        let mut sizes = Vec::new();
        for request in [
            describe_log_dirs::Request { topics: None },
            asked("orders", &[1, 9]),
            asked("nowhere", &[0]),
            describe_log_dirs::Request { topics: Some(Vec::new()) },
        ] {
            sizes.push(ask!(client, version, request => describe_log_dirs::Response<'_>, |r| {
                let [dir] = &r.results[..] else { panic!("one directory: {r:?}") };
                assert_eq!((r.error_code, dir.error_code, &*dir.log_dir), (0, 0, "memory"));
                let topics = dir.topics.iter().flat_map(|topic| {
                    let sizes = topic.partitions.iter();
                    sizes.map(|one| (topic.name.to_string(), one.partition_index, 0 < one.partition_size))
                });
                topics.collect::<Vec<_>>()
            }));
        }
        let [first, second] = [("orders".to_owned(), 0, false), ("orders".to_owned(), 1, true)];
        assert_eq!(sizes, [vec![first, second.clone()], vec![second], vec![], vec![]]);
    }
}

#[tokio::test]
async fn no_election_is_needed_where_one_node_leads() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let asked = |election_type, topics: Option<&[(&'static str, i32)]>| elect_leaders::Request {
        election_type,
        topic_partitions: topics.map(|topics| {
            let topic = |(name, partition): &(&'static str, i32)| elect_leaders::TopicPartitions {
                topic: (*name).into(),
                partitions: vec![*partition],
            };
            topics.iter().map(topic).collect()
        }),
        timeout_ms: 1000,
    };
    let some: &[(&str, i32)] = &[("orders", 1), ("orders", 2), ("nowhere", 0)];
    for version in 0..=2 {
        for (election_type, topics, expected) in [
            (0, Some(some), (0, vec![84, 3, 3])),
            (1, Some(some), (0, vec![84, 3, 3])),
            (0, None, (0, vec![])),
            (7, Some(some), (42, vec![])),
        ] {
            if version == 0 && election_type != 0 {
                continue;
            }
            let request = asked(election_type, topics);
            let found = ask!(client, version, request => elect_leaders::Response<'_>, |r| {
                let results = r.replica_election_results.iter();
                let codes = results.flat_map(|topic| topic.partition_result.iter().map(|one| one.error_code));
                (r.error_code, codes.collect::<Vec<_>>())
            });
            assert_eq!(found, expected, "version {version}, election {election_type}");
        }
    }
}

#[tokio::test]
async fn replicas_stay_where_they_are_and_nothing_is_ever_under_way() {
    use alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};

    let node = Node::start().await;
    let mut client = node.connect().await;
    let asked = |name: &'static str, partition_index, replicas: Option<&[i32]>, may_change| {
        alter_partition_reassignments::Request {
            allow_replication_factor_change: may_change,
            topics: vec![ReassignableTopic {
                name: name.into(),
                partitions: vec![ReassignablePartition {
                    partition_index,
                    replicas: replicas.map(<[i32]>::to_vec),
                }],
            }],
            ..Default::default()
        }
    };
    for version in 0..=1 {
        for (name, partition, replicas, expected) in [
            ("orders", 0, Some(&[0][..]), 0),
            ("orders", 0, None, 85),
            ("orders", 0, Some(&[1]), 39),
            ("orders", 0, Some(&[0, 0]), 39),
            ("orders", 0, Some(&[]), 39),
            ("orders", 2, Some(&[0]), 3),
            ("nowhere", 0, Some(&[0]), 3),
        ] {
            let request = asked(name, partition, replicas, version == 0);
            let found = ask!(client, version, request => alter_partition_reassignments::Response<'_>, |r| {
                (r.error_code, r.responses[0].partitions[0].error_code)
            });
            assert_eq!(found, (0, expected), "{name} {partition} {replicas:?}");
        }
    }
    let some = list_partition_reassignments::Topics {
        name: "orders".into(),
        partition_indexes: vec![0, 1],
    };
    for topics in [None, Some(vec![some])] {
        let request = list_partition_reassignments::Request { timeout_ms: 1000, topics };
        let found = ask!(client, 0, request => list_partition_reassignments::Response<'_>, |r| {
            (r.error_code, r.topics.len())
        });
        assert_eq!(found, (0, 0));
    }
}

/// The topics of a page with their code and partitions, and where the next one begins.
type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

async fn page(
    client: &mut Client,
    names: &[&'static str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> Page {
    use describe_topic_partitions::{Request, RequestCursor, Response, TopicRequest};

    let request = Request {
        topics: names.iter().map(|name| TopicRequest { name: (*name).into() }).collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(name, partition_index)| RequestCursor {
            topic_name: name.to_owned().into(),
            partition_index,
        }),
    };
    ask!(client, 0, request => Response<'_>, |r| {
        let topics = r.topics.iter().map(|topic| {
            let indexes = topic.partitions.iter().map(|one| {
                assert_eq!((one.error_code, one.leader_id, &one.isr_nodes[..]), (0, 0, &[0][..]));
            assert_eq!(one.eligible_leader_replicas, Some(vec![]), "Java does not take null");
                one.partition_index
            });
            let name = topic.name.clone().expect("a name").into_owned();
            (name, topic.error_code, indexes.collect())
        });
        let next = r.next_cursor.as_ref();
        (topics.collect(), next.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)))
    })
}

#[tokio::test]
async fn topics_come_in_pages_that_join_without_a_gap() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    rafka_broker::testing::create_topic(&node.broker, "many", 5, &[]).await;
    for names in [&[][..], &["orders", "many", "orders"]] {
        for limit in [1, 2, 3, 5, 7, 2000] {
            let (mut found, mut next) = (Vec::new(), None::<(String, i32)>);
            loop {
                let cursor = next.as_ref().map(|(name, index)| (name.as_str(), *index));
                let (topics, following) = page(&mut client, names, limit, cursor).await;
                let partitions = topics.into_iter().flat_map(|(name, code, indexes)| {
                    assert_eq!(code, 0);
                    indexes.into_iter().map(move |index| (name.clone(), index))
                });
                let partitions: Vec<_> = partitions.collect();
                assert!((1..=limit).contains(&i32::try_from(partitions.len()).expect("few")));
                found.extend(partitions);
                next = following;
                if next.is_none() {
                    break;
                }
            }
            let all = (0..5).map(|i| ("many", i)).chain((0..2).map(|i| ("orders", i)));
            assert_eq!(found, all.map(|(name, i)| (name.to_owned(), i)).collect::<Vec<_>>());
        }
    }
    let (topics, _) = page(&mut client, &["nowhere", "no/name"], 10, None).await;
    let missing = |name: &str, code| (name.to_owned(), code, Vec::new());
    assert_eq!(topics, [missing("no/name", 17), missing("nowhere", 3)]);
    let (topics, _) = page(&mut client, &["orders"], 10, Some(("many", 0))).await;
    assert_eq!(topics, [missing("orders", 42)], "the cursor is at none of them");
    let (topics, _) = page(&mut client, &["orders"], 10, Some(("orders", -1))).await;
    assert_eq!(topics, [missing("orders", 42)]);
    let (topics, next) = page(&mut client, &["orders"], 10, Some(("orders", 9))).await;
    assert_eq!((topics, next), (vec![("orders".to_owned(), 0, Vec::new())], None));
}
