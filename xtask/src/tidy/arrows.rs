//! Which crate may use which: the walls of the house, held against the manifests.

use cargo_metadata::{DependencyKind, Metadata};

use super::{Finding, Source, code};

/// Each crate with the crates of ours that it may use. A new arrow is a decision: write it down.
const ARROWS: &[(&str, &[&str])] = &[
    ("rafka-core", &[]),
    ("rafka-proto", &[]),
    ("rafka-kafka-wire", &[]),
    ("rafka-storage", &["rafka-core"]),
    ("rafka-metadata", &["rafka-core", "rafka-storage"]),
    ("rafka-broker", &["rafka-core", "rafka-metadata", "rafka-storage"]),
    ("rafka-grpc", &["rafka-core", "rafka-proto", "rafka-broker"]),
    ("rafka-kafka", &["rafka-core", "rafka-kafka-wire", "rafka-broker"]),
    ("rafka-http", &["rafka-core"]),
    ("rafka-client", &["rafka-core", "rafka-proto"]),
    ("rafka-producer", &["rafka-core", "rafka-proto", "rafka-client"]),
    ("rafka-consumer", &["rafka-core", "rafka-proto", "rafka-client"]),
    (
        "rafka",
        &[
            "rafka-core",
            "rafka-storage",
            "rafka-metadata",
            "rafka-broker",
            "rafka-grpc",
            "rafka-http",
            "rafka-kafka",
            "rafka-proto",
            "rafka-client",
            "rafka-producer",
            "rafka-consumer",
            // The load generator of `rafka bench` speaks Kafka's protocol itself.
            "rafka-kafka-wire",
        ],
    ),
    ("xtask", &[]),
];

/// Crates of others that belong to one room alone.
const CONFINED: &[(&str, &[&str])] = &[
    ("redb", &["rafka-storage", "rafka-metadata"]),
    ("axum", &["rafka-http"]),
    ("anyhow", &["rafka", "xtask"]),
    (
        "tonic",
        &[
            "rafka-proto",
            "rafka-grpc",
            "rafka-client",
            "rafka-producer",
            "rafka-consumer",
            // The load generator of `rafka bench` sends encoded batches past the SDK.
            "rafka",
        ],
    ),
    (
        "tokio",
        &[
            "rafka-metadata",
            "rafka-broker",
            "rafka-grpc",
            "rafka-kafka",
            "rafka-http",
            "rafka-client",
            "rafka-producer",
            "rafka-consumer",
            "rafka",
        ],
    ),
];

/// What the tests of a crate may use besides: mostly a node to talk to.
const TEST_ARROWS: &[(&str, &[&str])] = &[
    ("rafka-kafka-wire", &["rafka-core", "anyhow"]),
    ("rafka-kafka", &["anyhow"]),
    ("rafka-client", &["rafka-broker", "rafka-grpc"]),
    ("rafka-producer", &["rafka-broker", "rafka-grpc"]),
    ("rafka-consumer", &["rafka-broker", "rafka-grpc", "rafka-producer"]),
];

/// Crates that only a part of a crate may name: as code calls them, whose, and where.
const PLACES: &[(&str, &str, &[&str])] =
    &[("rafka_kafka_wire", "the load generator and tests", &["src/bench/", "tests/"])];

pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        for kind in [DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development] {
            let used: Vec<&str> = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == kind)
                .map(|dependency| dependency.name.as_str())
                .collect();
            findings.extend(check_crate(&package.name, &used, kind));
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

fn check_crate(name: &str, used: &[&str], kind: DependencyKind) -> Vec<Finding> {
    let manifest = "xtask/src/tidy/arrows.rs";
    let row = |table: &[(&str, &'static [&'static str])]| {
        table.iter().find(|(known, _)| *known == name).map(|(_, allowed)| *allowed)
    };
    let Some(allowed) = row(ARROWS) else {
        let what = format!("crate {name} is not in the table of arrows: decide what it may use");
        return vec![Finding::new(manifest, 1, what)];
    };
    let tested = match kind {
        DependencyKind::Development => row(TEST_ARROWS).unwrap_or(&[]),
        _ => &[],
    };
    let ours = |dependency: &str| ARROWS.iter().any(|(known, _)| *known == dependency);
    let forbidden = |dependency: &str| {
        // A crate names itself for the features that only its tests need.
        let wall = ours(dependency) && dependency != name && !allowed.contains(&dependency);
        let confined =
            CONFINED.iter().any(|(other, rooms)| *other == dependency && !rooms.contains(&name));
        (wall || confined) && !tested.contains(&dependency)
    };
    used.iter()
        .filter(|dependency| forbidden(dependency))
        .map(|dependency| {
            let what = format!("{name} may not use {dependency}: see the tables of arrows");
            Finding::new(manifest, 1, what)
        })
        .collect()
}

/// What a file of the binary names that is only for another part of it.
pub(super) fn check_places(source: &Source) -> Vec<Finding> {
    if !["src/", "tests/"].iter().any(|own| source.path.starts_with(own)) {
        return Vec::new();
    }
    let misplaced = |name: &str| {
        let known = PLACES.iter().find(|(known, ..)| *known == name)?;
        let (_, whose, folders) = known;
        let inside = folders.iter().any(|folder| source.path.starts_with(folder));
        (!inside).then(|| format!("{name} is for {whose} alone"))
    };
    let paths = code::paths(&source.text).into_iter();
    paths
        .filter_map(|named| {
            let what = misplaced(named.segments.first()?)?;
            Some(Finding::new(&source.path, named.line, what))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{lines, source};
    use super::*;

    #[test]
    fn an_arrow_against_the_design_is_found() {
        let normal = |name, used: &[&str]| check_crate(name, used, DependencyKind::Normal).len();
        assert_eq!(normal("rafka-grpc", &["rafka-broker", "tokio", "bytes"]), 0);
        assert_eq!(normal("rafka-grpc", &["rafka-storage"]), 1);
        assert_eq!(normal("rafka-core", &["tokio"]), 1);
        assert_eq!(normal("rafka-common", &[]), 1);
        assert_eq!(check_crate("rafka-core", &["tokio"], DependencyKind::Build).len(), 1);
    }

    #[test]
    fn tests_may_use_what_their_table_says_and_no_more() {
        let tested = |name, used: &[&str]| check_crate(name, used, DependencyKind::Development);
        assert_eq!(tested("rafka-client", &["rafka-grpc", "rafka-core", "bolero"]), []);
        assert_eq!(tested("rafka-client", &["rafka-storage"]).len(), 1);
        assert_eq!(tested("rafka-http", &["rafka-broker"]).len(), 1);
        assert_eq!(tested("rafka-core", &["tokio"]).len(), 1);
        assert_eq!(tested("rafka-broker", &["rafka-broker"]), []);
        assert_eq!(check_crate("rafka-client", &["rafka-grpc"], DependencyKind::Normal).len(), 1);
    }

    #[test]
    fn the_binary_speaks_kafka_s_protocol_only_in_its_load_generator() {
        let code = "//! a\n// rafka_kafka_wire\nuse rafka_kafka_wire::Frame;\n";
        assert_eq!(lines(&check_places(&source("src/serve.rs", code))), [3]);
        assert_eq!(lines(&check_places(&source("src/bench.rs", code))), [3]);
        for path in ["src/bench/kafka.rs", "tests/it/kafka.rs", "crates/kafka/src/api.rs"] {
            assert_eq!(check_places(&source(path, code)), [], "{path}");
        }
    }
}
