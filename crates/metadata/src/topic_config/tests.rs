//! What topics accept, what they get, and that the reference page tells the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rafka_core::ByteSize;

use super::*;

#[test]
fn the_defaults_of_the_table_are_the_defaults_of_the_type() {
    let mut config = TopicConfig::default();
    for key in Key::ALL {
        config.set(*key, key.spec().default).expect("a default is accepted");
    }
    assert_eq!(config, TopicConfig::default());
}

#[test]
fn keys_stand_in_the_order_of_their_names() {
    assert!(Key::ALL.is_sorted_by_key(|key| key.spec().name));
}

#[test]
fn values_are_held_to_kafka_s_ranges() {
    let good = [
        ("cleanup.policy", "compact, delete"),
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("compression.type", "zstd"),
        ("durability", "os"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.cleanable.dirty.ratio", "0"),
        ("retention.ms", "-1"),
        ("retention.bytes", " 42 "),
        ("segment.bytes", "4096"),
        ("unclean.leader.election.enable", "TRUE"),
    ];
    for (name, value) in good {
        assert!(check(name, value).is_ok(), "{name}={value}");
    }
    let long = "delete,".repeat(1000);
    let bad = [
        ("cleanup.policy", ""),
        ("cleanup.policy", "delete,shred"),
        ("cleanup.policy", &long),
        ("compression.type", "none"),
        ("durability", "never"),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("min.insync.replicas", "0"),
        ("retention.ms", "-2"),
        ("retention.ms", "9223372036854775808"),
        ("retention.ms", "1h"),
        ("segment.bytes", "100"),
        ("segment.ms", "0"),
        ("unclean.leader.election.enable", "1"),
    ];
    for (name, value) in bad {
        let error = check(name, value).expect_err(name);
        assert!(error.to_string().starts_with(name), "{error}");
        assert!(error.to_string().len() < 256, "{error}");
    }
}

#[test]
fn a_bound_to_when_records_are_on_disk_is_kept_by_having_them_there_at_once() {
    use rafka_storage::Durability;

    let unbounded = i64::MAX.to_string();
    for (configs, expected) in [
        (vec![(Key::Durability, "os")], Durability::Os),
        (vec![(Key::Durability, "os"), (Key::FlushMs, "1000")], Durability::Fsync),
        (vec![(Key::FlushMessages, "1"), (Key::Durability, "os")], Durability::Fsync),
        (vec![(Key::Durability, "os"), (Key::FlushMs, &unbounded)], Durability::Os),
        (vec![(Key::FlushMessages, "1")], Durability::Fsync),
    ] {
        let mut config = TopicConfig::default();
        for (key, value) in &configs {
            config.set(*key, value).expect("accepted");
        }
        assert_eq!(config.log.durability, expected, "{configs:?}");
    }
}

#[test]
fn a_refusal_says_what_would_be_accepted() {
    let message = |name, value| check(name, value).expect_err("refused").to_string();
    assert_eq!(
        message("segment.bytes", "7"),
        "segment.bytes is \"7\", and must be a whole number from 4096 to 2147483647"
    );
    assert_eq!(message("durability", "x"), "durability is \"x\", and must be fsync or os");
    assert_eq!(
        message("compression.type", "brotli"),
        "compression.type is \"brotli\", and must be producer, uncompressed, gzip, snappy, lz4 or zstd"
    );
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest() {
    let nearest = |name: &str| match find(name) {
        Err(InvalidConfig::UnknownKey { nearest, .. }) => nearest,
        found => panic!("{found:?}"),
    };
    assert_eq!(nearest("retention.msec"), Some("retention.ms"));
    assert_eq!(nearest("cleanup_policy"), Some("cleanup.policy"));
    assert_eq!(nearest("zzz"), None);
    assert_eq!(nearest(&"retention.ms".repeat(100_000)), None);
    let error = find("retention.mss").expect_err("unknown");
    assert_eq!(error.to_string(), "unknown config \"retention.mss\"; did you mean retention.ms?");
}

fn layer(values: &[(Key, &str)]) -> Layer {
    values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

fn configs(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_stronger_layer_wins() {
    let defaults = Defaults::new(
        layer(&[(Key::RetentionMs, "1")]),
        layer(&[(Key::RetentionMs, "2"), (Key::SegmentMs, "2")]),
        layer(&[(Key::RetentionMs, "3"), (Key::SegmentMs, "3"), (Key::MaxMessageBytes, "3")]),
    );
    let plain = defaults.resolve(&BTreeMap::new());
    assert_eq!(plain.log.retention_age, Some(Duration::from_millis(1)));
    assert_eq!(plain.log.segment_age, Duration::from_millis(2));
    assert_eq!(plain.message_bytes_max, ByteSize(3));
    let own = configs(&[("retention.ms", "-1"), ("of.the.future", "yes")]);
    assert_eq!(defaults.resolve(&own).log.retention_age, None);
    let source = |name: &str| {
        let entries = defaults.describe(&own);
        let entry = entries.iter().find(|entry| entry.key.spec().name == name).expect("listed");
        (entry.source, entry.value.clone())
    };
    assert_eq!(source("retention.ms"), (Source::Topic, "-1".to_owned()));
    assert_eq!(source("segment.ms"), (Source::Cluster, "2".to_owned()));
    assert_eq!(source("max.message.bytes"), (Source::Settings, "3".to_owned()));
    assert_eq!(source("durability"), (Source::Default, "fsync".to_owned()));
}

#[test]
fn topics_without_configs_share_one_resolved_configuration() {
    let defaults = Defaults::new(Layer::new(), Layer::new(), Layer::new());
    let (one, other) = (defaults.resolve(&BTreeMap::new()), defaults.resolve(&BTreeMap::new()));
    assert!(std::sync::Arc::ptr_eq(&one, &other));
}

#[test]
fn settings_take_numbers_and_words_under_the_broker_s_names() {
    let text = r#"{"log_retention_ms": 5, "log_durability": "os", "message_max_bytes": "77",
        "unclean_leader_election_enable": true, "log_cleaner_min_cleanable_ratio": 0.25}"#;
    let defaults: TopicDefaults = serde_json::from_str(text).expect("valid");
    let resolved = Defaults::new(Layer::new(), Layer::new(), defaults.layer().clone())
        .resolve(&BTreeMap::new());
    assert_eq!(resolved.log.retention_age, Some(Duration::from_millis(5)));
    assert_eq!(resolved.message_bytes_max, ByteSize(77));
    assert!(resolved.unclean_election);
    let written = serde_json::to_value(&defaults).expect("written");
    assert_eq!(written["log_retention_ms"], 5);
    assert_eq!(written["log_cleanup_policy"], "delete");
    assert_eq!(written.as_object().map(serde_json::Map::len), Some(Key::ALL.len()));
}

#[test]
fn bad_settings_are_refused_with_the_key() {
    let error =
        |text: &str| serde_json::from_str::<TopicDefaults>(text).expect_err("refused").to_string();
    assert!(error(r#"{"log_retention_mss": 5}"#).contains("did you mean log_retention_ms?"));
    assert!(error(r#"{"log_retention_ms": -7}"#).contains("at least -1"));
}

#[test]
fn the_reference_page_is_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/topic-configs.md");
    if std::env::var_os("RAFKA_BLESS").is_some() {
        std::fs::write(&page, markdown()).expect("the docs can be written");
    }
    let found = std::fs::read_to_string(&page).expect("the page is part of the docs");
    assert!(
        found == markdown(),
        "{} differs from the table; RAFKA_BLESS=1 writes it anew",
        page.display()
    );
}
