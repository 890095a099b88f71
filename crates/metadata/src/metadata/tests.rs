//! What holds for those who propose and read, with the thread at work.

use std::collections::BTreeMap;

use rafka_core::rng;
use rafka_core::{Epoch, ErrorCode, PartitionIndex, TopicId, TopicName};

use super::*;
use crate::effect::Effect;
use crate::ops::{CreatePartitions, CreateTopic};
use crate::root::{Addresses, SessionEpoch};
use crate::{PARTITIONS_PER_TOPIC_MAX, REPLICAS_PER_NODE_MAX, ShardCount, Topic};

const LIMIT: Duration = Duration::from_secs(30);

fn open(shards: u16, observer: Observer) -> (Metadata, Committer) {
    let settings =
        Settings { shards: ShardCount::new(shards).expect("valid"), ..Settings::default() };
    Metadata::open(Place::Memory, Uuid::from_u128(1), settings, rng::from_seed(1), observer)
        .expect("memory cannot fail")
}

fn in_memory() -> (Metadata, Committer) {
    open(16, Box::new(|_, _| {}))
}

fn create(name: &str) -> CreateTopic {
    CreateTopic {
        name: TopicName::new(name).expect("valid"),
        partitions: None,
        replication_factor: None,
        configs: BTreeMap::new(),
        validate_only: false,
    }
}

fn text_map(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn code<T: fmt::Debug>(result: Result<T, ProposeError>) -> ErrorCode {
    result.expect_err("refused").code()
}

#[tokio::test]
async fn topics_are_created_grown_configured_and_deleted_with_any_number_of_shards() {
    for shards in [1, 16] {
        let (metadata, committer) = open(shards, Box::new(|_, _| {}));
        for name in ["b", "a", "c"] {
            let partitions = Some(3);
            metadata.create_topic(CreateTopic { partitions, ..create(name) }).await.expect("new");
        }
        let names: Vec<_> =
            metadata.view().topics().iter().map(|topic| topic.name.to_string()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let topic = metadata.view().topic(&create("a").name).expect("created").id;
        let more = CreatePartitions { topic, total: 5, validate_only: false };
        let grown = metadata.create_partitions(more).await.expect("5 is more than 3");
        assert_eq!(grown.partitions.len(), 5);
        let changes = BTreeMap::from([("durability".to_owned(), Some("os".to_owned()))]);
        metadata.alter_configs(topic, changes, false).await.expect("valid");
        let view = metadata.view();
        let found = view.topic_by_id(topic).expect("it exists");
        assert_eq!(view.config(found).log.durability, rafka_storage::Durability::Os);
        assert_eq!((view.topic_count(), view.partition_count()), (3, 11));
        metadata.delete_topic(topic).await.expect("it exists");
        assert!(metadata.view().topic(&create("a").name).is_none());
        assert_eq!(code(metadata.delete_topic(topic).await), ErrorCode::UnknownTopicId);
        assert!(view.topic_by_id(topic).is_some(), "a view does not change");
        committer.stop(LIMIT).await.expect("nothing hangs");
    }
}

#[tokio::test]
async fn impossible_wishes_are_refused_with_kafka_s_codes() {
    let (metadata, _committer) = in_memory();
    let topic = metadata.create_topic(create("t")).await.expect("new").id;
    let try_create = async |create: CreateTopic| code(metadata.create_topic(create).await);
    assert_eq!(try_create(create("t")).await, ErrorCode::TopicAlreadyExists);
    metadata.create_topic(create("a.b")).await.expect("new");
    assert_eq!(try_create(create("a_b")).await, ErrorCode::InvalidTopic);
    for partitions in [Some(0), Some(u32::MAX), u32::try_from(PARTITIONS_PER_TOPIC_MAX + 1).ok()] {
        let create = CreateTopic { partitions, ..create("u") };
        assert_eq!(try_create(create).await, ErrorCode::InvalidPartitions, "{partitions:?}");
    }
    for replication_factor in [Some(0), Some(2), Some(u16::MAX)] {
        let create = CreateTopic { replication_factor, ..create("u") };
        assert_eq!(try_create(create).await, ErrorCode::InvalidReplicationFactor);
    }
    for configs in [text_map(&[("retention.mss", "1")]), text_map(&[("retention.ms", "soon")])] {
        let create = CreateTopic { configs, ..create("u") };
        assert_eq!(try_create(create).await, ErrorCode::InvalidConfig);
    }
    for total in [0, 1] {
        let less = CreatePartitions { topic, total, validate_only: false };
        assert_eq!(code(metadata.create_partitions(less).await), ErrorCode::InvalidPartitions);
    }
    let changes = BTreeMap::from([
        ("retention.ms".to_owned(), Some("1".to_owned())),
        ("nonsense".to_owned(), None),
    ]);
    let altered = metadata.alter_configs(topic, changes, false).await;
    assert_eq!(code(altered), ErrorCode::InvalidConfig);
    let view = metadata.view();
    assert!(view.topic_by_id(topic).expect("it exists").configs.is_empty(), "none was changed");
    assert!(view.topic(&create("u").name).is_none());
}

#[tokio::test]
async fn validation_alone_judges_the_same_and_changes_nothing() {
    let (metadata, _committer) = in_memory();
    let version = metadata.view().version();
    let validate = CreateTopic { validate_only: true, partitions: Some(7), ..create("t") };
    let would_be = metadata.create_topic(validate).await.expect("it could be created");
    assert_eq!(would_be.partitions.len(), 7);
    let bad = CreateTopic { validate_only: true, partitions: Some(0), ..create("t") };
    assert_eq!(code(metadata.create_topic(bad).await), ErrorCode::InvalidPartitions);
    let configs = text_map(&[("segment.ms", "0")]);
    let bad = CreateTopic { validate_only: true, configs, ..create("t") };
    assert_eq!(code(metadata.create_topic(bad).await), ErrorCode::InvalidConfig);
    assert_eq!(metadata.view().version(), version);
}

#[tokio::test]
async fn a_node_takes_no_more_replicas_than_its_bound() {
    let (metadata, _committer) = in_memory();
    let partitions = u32::try_from(PARTITIONS_PER_TOPIC_MAX).ok();
    let topics = usize::try_from(REPLICAS_PER_NODE_MAX).expect("small") / PARTITIONS_PER_TOPIC_MAX;
    for number in 0..topics {
        let create = CreateTopic { partitions, ..create(&format!("large-{number}")) };
        metadata.create_topic(create).await.expect("within the bound");
    }
    let more = metadata.create_topic(create("one-more")).await;
    assert_eq!(code(more), ErrorCode::PolicyViolation);
}

fn leader_epoch(topic: &Topic, partition: i32) -> Epoch {
    topic.partitions.get(PartitionIndex(partition)).expect("it exists").leader_epoch()
}

#[tokio::test]
async fn a_restart_ends_every_leadership_before_the_session_is_told() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = Place::File {
        disk: Arc::new(rafka_storage::disk::OsDisk),
        path: directory.path().join("metadata.redb"),
    };
    let mut cluster = None;
    for run in 1..4 {
        let (metadata, committer) = Metadata::open(
            place.clone(),
            Uuid::from_u128(1),
            Settings::default(),
            rng::from_seed(run),
            Box::new(|_, _| {}),
        )
        .expect("a healthy disk");
        let session = metadata.begin_session(Addresses::new(), true).await.expect("durable");
        assert_eq!(session, SessionEpoch(run));
        let view = metadata.view();
        assert_eq!(*cluster.get_or_insert(view.cluster_id()), view.cluster_id());
        for topic in view.topics() {
            let number = topic.name.as_str().strip_prefix("run-").expect("run-N");
            let created_in: u64 = number.parse().expect("run-N");
            let expected = i32::try_from(run - created_in).expect("small");
            assert_eq!(leader_epoch(&topic, 0), Epoch(expected), "{}", topic.name);
        }
        assert_eq!(view.topic_count() as u64, run - 1);
        metadata.create_topic(create(&format!("run-{run}"))).await.expect("new");
        committer.stop(LIMIT).await.expect("nothing hangs");
        assert_eq!(code(metadata.create_topic(create("late")).await), ErrorCode::NotController);
    }
}

#[tokio::test]
async fn the_observer_hears_all_in_order_and_before_the_proposer() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let heard = Arc::clone(&heard);
        Box::new(move |view: &View, effects: &[Effect]| {
            for effect in effects {
                if let Effect::TopicCreated(topic) = effect {
                    assert!(view.topic_by_id(topic.id).is_some(), "the view shows it already");
                    heard.lock().push(topic.id);
                }
            }
        })
    };
    let (metadata, committer) = open(16, observer);
    let mut created: Vec<TopicId> = Vec::new();
    for number in 0..50 {
        let topic = metadata.create_topic(create(&format!("t{number}"))).await.expect("new");
        created.push(topic.id);
        assert_eq!(*heard.lock(), created);
    }
    committer.stop(LIMIT).await.expect("nothing hangs");
}

#[tokio::test]
async fn of_many_that_create_the_same_topic_one_succeeds() {
    let (metadata, _committer) = in_memory();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let metadata = metadata.clone();
        tasks.spawn(async move { metadata.create_topic(create("same")).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for result in results.into_iter().filter(Result::is_err) {
        assert_eq!(code(result), ErrorCode::TopicAlreadyExists);
    }
}

#[tokio::test]
async fn producer_ids_are_never_given_twice() {
    let (metadata, _committer) = in_memory();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let metadata = metadata.clone();
        tasks.spawn(async move { metadata.producer_id_block().await.expect("memory") });
    }
    let mut starts: Vec<_> =
        tasks.join_all().await.into_iter().map(|block| block.start.0).collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..20).map(|number| number * 1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn defaults_set_at_run_time_reach_every_topic_that_says_nothing_itself() {
    let (metadata, _committer) = in_memory();
    metadata.create_topic(create("plain")).await.expect("new");
    let configs = text_map(&[("retention.ms", "5")]);
    metadata.create_topic(CreateTopic { configs, ..create("own") }).await.expect("new");
    let set = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), Some(value.to_owned()))]);
    metadata.alter_node_configs(None, set("log.retention.ms", "9")).await.expect("valid");
    let retention = |name: &str| {
        let view = metadata.view();
        let topic = view.topic(&create(name).name).expect("created");
        view.config(topic).log.retention_age.expect("bounded").as_millis()
    };
    assert_eq!((retention("plain"), retention("own")), (9, 5));
    let unknown = metadata.alter_node_configs(None, set("retention.ms", "9")).await;
    let message = unknown.expect_err("a topic's name for it").to_string();
    assert!(message.contains("did you mean log.retention.ms?"), "{message}");
    let invalid = metadata.alter_node_configs(None, set("log.retention.ms", "x")).await;
    assert_eq!(code(invalid), ErrorCode::InvalidConfig);
}

#[tokio::test]
async fn a_writer_that_panics_fails_its_proposers_and_is_noticed() {
    let (metadata, committer) = open(1, Box::new(|_, _| panic!("the observer is broken")));
    let failed = metadata.create_topic(create("t")).await;
    assert!(matches!(failed, Err(ProposeError::Failed(_))), "{failed:?}");
    assert_eq!(committer.stop(LIMIT).await, Err(StopError::Panicked));
    assert!(metadata.failure().is_some());
    let after = metadata.create_topic(create("u")).await;
    assert_eq!(after.map(drop), Err(ProposeError::Dead("the metadata writer panicked".into())));
}
