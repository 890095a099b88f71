//! What the requests about configs share: whose configs they are, and how they are shown and changed.

use std::collections::{BTreeMap, BTreeSet};

use rafka_broker::topics::{ConfigEntry, Kind, Source};
use rafka_broker::{Error, GroupConfig, NodeConfig, NodeConfigKind, TopicRef};
use rafka_core::{ErrorCode, GroupId, NodeId};
use uuid::Uuid;

use super::common;
use crate::Settings;
use crate::gateway::Gateway;

/// Kafka's numbers for types of resources.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Whose configs.
pub(super) enum Owner {
    Topic(TopicRef),
    /// A node's, or what was set for all.
    Node(Option<NodeId>),
    /// A consumer group's, whether or not it exists.
    Group(GroupId),
}

/// A config as the answers show it.
pub(super) struct Shown {
    pub(super) name: &'static str,
    /// What its default is called where that is set.
    pub(super) default_name: &'static str,
    pub(super) value: String,
    pub(super) source: Source,
    /// Every value that was set, and the default, the strongest first.
    pub(super) layers: Vec<(Source, String)>,
    /// Kafka's number for the type.
    pub(super) kind: i8,
    pub(super) is_list: bool,
    pub(super) is_read_only: bool,
    pub(super) documentation: &'static str,
}

/// The values that configs shall have; `None` for their defaults.
pub(super) type Changes = BTreeMap<String, Option<String>>;

impl Owner {
    /// # Errors
    /// If the configs of such a resource are not looked after here.
    pub(super) fn of(kind: i8, name: &str) -> Result<Self, Error> {
        match kind {
            TOPIC => common::topic(name, Uuid::nil()).map(Self::Topic),
            BROKER if name.is_empty() => Ok(Self::Node(None)),
            BROKER => match name.parse() {
                Ok(number) => Ok(Self::Node(Some(NodeId(number)))),
                Err(_) => Err(invalid(format!("{name} is no node: nodes have numbers"))),
            },
            GROUP => common::group(name).map(Self::Group),
            BROKER_LOGGER => Err(invalid(
                "the levels of the log are in the node's settings and cannot be seen or changed here"
                    .to_owned(),
            )),
            CLIENT_METRICS => {
                Err(invalid("metrics of clients are not gathered, and have no configs".to_owned()))
            }
            other => Err(invalid(format!(
                "there are no configs of resources of type {other}: those of topics (2), brokers (4) \
                 and groups (32) are looked after here"
            ))),
        }
    }

    /// Every config with its value.
    pub(super) fn describe(&self, gateway: &Gateway) -> Result<Vec<Shown>, Error> {
        Ok(match self {
            Self::Topic(topic) => {
                gateway.broker.describe_configs(topic)?.into_iter().map(of_topic).collect()
            }
            Self::Node(node) => {
                let configs = gateway.broker.describe_node_configs(*node)?;
                let mut shown: Vec<Shown> = configs.into_iter().map(of_node).collect();
                if let Some(node) = node {
                    shown.extend(of_gateway(&gateway.settings, *node));
                    shown.sort_by_key(|config| config.name);
                }
                shown
            }
            Self::Group(group) => {
                gateway.broker.describe_group_configs(group).into_iter().map(of_group).collect()
            }
        })
    }

    /// Where a value comes from that was set for this owner itself.
    pub(super) fn own_source(&self) -> Source {
        match self {
            Self::Topic(_) => Source::Topic,
            Self::Node(Some(_)) => Source::Node,
            Self::Node(None) => Source::Cluster,
            Self::Group(_) => Source::Group,
        }
    }

    pub(super) async fn alter(
        self,
        gateway: &Gateway,
        changes: Changes,
        validate_only: bool,
    ) -> Result<(), Error> {
        match self {
            Self::Topic(topic) => {
                let changes = changes.into_iter().collect();
                gateway.broker.alter_configs(topic, changes, validate_only).await
            }
            Self::Node(node) => {
                gateway.broker.alter_node_configs(node, changes, validate_only).await
            }
            Self::Group(group) => {
                gateway.broker.alter_group_configs(group, changes, validate_only).await
            }
        }
    }
}

fn of_topic(entry: ConfigEntry) -> Shown {
    let spec = entry.key.spec();
    Shown {
        name: spec.name,
        default_name: spec.broker_name,
        value: entry.value,
        source: entry.source,
        layers: entry.layers,
        kind: match spec.kind {
            Kind::Boolean => BOOLEAN,
            Kind::Choice(_) => STRING,
            Kind::Int { .. } => INT,
            Kind::Long { .. } => LONG,
            Kind::Double { .. } => DOUBLE,
            Kind::List(_) => LIST,
        },
        is_list: matches!(spec.kind, Kind::List(_)),
        is_read_only: false,
        documentation: spec.documentation,
    }
}

fn of_node(config: NodeConfig) -> Shown {
    Shown {
        name: config.name,
        default_name: config.name,
        value: config.value,
        source: config.source,
        layers: config.layers,
        kind: match config.kind {
            NodeConfigKind::Boolean => BOOLEAN,
            NodeConfigKind::Text => STRING,
            NodeConfigKind::Int => INT,
            NodeConfigKind::Long => LONG,
            NodeConfigKind::Double => DOUBLE,
            NodeConfigKind::List => LIST,
        },
        is_list: config.kind == NodeConfigKind::List,
        is_read_only: config.is_read_only,
        documentation: config.documentation,
    }
}

fn of_group(config: GroupConfig) -> Shown {
    let (source, value) = config.layers[0].clone();
    Shown {
        name: config.name,
        default_name: config.default_name,
        value,
        source,
        layers: config.layers,
        kind: INT,
        is_list: false,
        is_read_only: false,
        documentation: config.documentation,
    }
}

/// What the settings of the listener say, and the number of the node.
fn of_gateway(settings: &Settings, node: NodeId) -> impl Iterator<Item = Shown> {
    let (defaults, id) = (Settings::default(), node.0.to_string());
    let idle = |settings: &Settings| settings.idle_timeout.as_millis().to_string();
    let known = [
        (
            "max.connections",
            INT,
            settings.connections_max.to_string(),
            Some(defaults.connections_max.to_string()),
            "Connections at once; further ones are closed at once.",
        ),
        (
            "max.connections.per.ip",
            INT,
            settings.connections_per_address_max.to_string(),
            Some(defaults.connections_per_address_max.to_string()),
            "Connections at once from one client address.",
        ),
        (
            "connections.max.idle.ms",
            LONG,
            idle(settings),
            Some(idle(&defaults)),
            "How long a connection may stay without a request.",
        ),
        (
            "socket.request.max.bytes",
            INT,
            settings.request_bytes_max.0.to_string(),
            Some(defaults.request_bytes_max.0.to_string()),
            "The largest request; above it the connection is closed.",
        ),
        ("node.id", INT, id.clone(), None, "The number of the node."),
        ("broker.id", INT, id, None, "The number of the node."),
    ];
    known.into_iter().map(|(name, kind, value, default, documentation)| {
        let mut layers = Vec::from_iter(default.map(|value| (Source::Default, value)));
        if layers.first().is_none_or(|(_, default)| *default != value) {
            layers.insert(0, (Source::Settings, value.clone()));
        }
        Shown {
            name,
            default_name: name,
            value,
            source: layers[0].0,
            layers,
            kind,
            is_list: false,
            is_read_only: true,
            documentation,
        }
    })
}

/// Kafka's numbers for types of values.
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const DOUBLE: i8 = 6;
const LIST: i8 = 7;

/// Kafka's number for where a value comes from.
pub(super) fn source(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::Node => 2,
        Source::Cluster => 3,
        Source::Settings => 4,
        Source::Default => 5,
        Source::Group => 8,
    }
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

/// The resources that a request names more than once: none of them is changed.
pub(super) fn doubled<'a>(
    resources: impl Iterator<Item = (i8, &'a str)>,
) -> BTreeSet<(i8, &'a str)> {
    let mut seen = BTreeSet::new();
    resources.filter(|resource| !seen.insert(*resource)).collect()
}

pub(super) fn doubly_named() -> Error {
    invalid("the request names the resource twice".to_owned())
}
