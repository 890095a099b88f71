//! Which crate may use which: the walls of the house, held against the manifests.

use cargo_metadata::{DependencyKind, Metadata};

use super::Finding;

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

pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        let used: Vec<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
            .map(|dependency| dependency.name.as_str())
            .collect();
        findings.extend(check_crate(&package.name, &used));
    }
    findings
}

fn check_crate(name: &str, used: &[&str]) -> Vec<Finding> {
    let manifest = "xtask/src/tidy/arrows.rs";
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        let what = format!("crate {name} is not in the table of arrows: decide what it may use");
        return vec![Finding::new(manifest, 1, what)];
    };
    let ours = |dependency: &str| ARROWS.iter().any(|(known, _)| *known == dependency);
    let forbidden = |dependency: &str| {
        let wall = ours(dependency) && !allowed.contains(&dependency);
        let confined =
            CONFINED.iter().any(|(other, rooms)| *other == dependency && !rooms.contains(&name));
        wall || confined
    };
    used.iter()
        .filter(|dependency| forbidden(dependency))
        .map(|dependency| {
            let what = format!("{name} may not use {dependency}: see the table of arrows");
            Finding::new(manifest, 1, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_against_the_design_is_found() {
        assert!(check_crate("rafka-grpc", &["rafka-broker", "tokio", "bytes"]).is_empty());
        assert_eq!(check_crate("rafka-grpc", &["rafka-storage"]).len(), 1);
        assert_eq!(check_crate("rafka-core", &["tokio"]).len(), 1);
        assert_eq!(check_crate("rafka-common", &[]).len(), 1);
    }
}
