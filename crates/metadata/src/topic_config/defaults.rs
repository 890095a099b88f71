//! Pure: the layers that a topic's configuration is resolved from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Key, Kind, TopicConfig, unknown};

/// Checked values by key.
pub type Layer = BTreeMap<Key, String>;

/// Where a value comes from, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Set for the topic.
    Topic,
    /// Set for the consumer group.
    Group,
    /// Set at run time for this node.
    Node,
    /// Set at run time for all nodes.
    Cluster,
    /// From this node's settings.
    Settings,
    /// Nobody set it.
    Default,
}

/// One key of a topic, as a describe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: String,
    /// Where the value comes from.
    pub source: Source,
    /// Every value that was set, and the default, the strongest first: the first one holds.
    pub layers: Vec<(Source, String)>,
}

/// What topics get that say nothing themselves, and how that goes together with what they say.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Strongest first.
    layers: [(Source, Layer); 3],
    /// What a topic without configs of its own has: shared, since most have none.
    resolved: Arc<TopicConfig>,
}

impl Defaults {
    /// Puts the layers on top of each other.
    #[must_use]
    pub fn new(node: Layer, cluster: Layer, settings: Layer) -> Self {
        let layers =
            [(Source::Node, node), (Source::Cluster, cluster), (Source::Settings, settings)];
        let mut resolved = TopicConfig::default();
        for (_, layer) in layers.iter().rev() {
            for (key, value) in layer {
                set_checked(&mut resolved, *key, value);
            }
        }
        Self { layers, resolved: Arc::new(resolved) }
    }

    /// The configuration of a topic that set `configs` itself.
    ///
    /// Keys and values that this build does not take are passed over: a newer one may have set them.
    #[must_use]
    pub fn resolve(&self, configs: &BTreeMap<String, String>) -> Arc<TopicConfig> {
        if configs.is_empty() {
            return Arc::clone(&self.resolved);
        }
        let mut resolved = TopicConfig::clone(&self.resolved);
        for (name, value) in configs {
            if let Ok(key) = super::find(name) {
                set_checked(&mut resolved, key, value);
            }
        }
        Arc::new(resolved)
    }

    /// Every key with its value and where that comes from, in the order of names.
    #[must_use]
    pub fn describe(&self, configs: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        Key::ALL.iter().map(|key| self.entry(*key, configs.get(key.spec().name))).collect()
    }

    fn entry(&self, key: Key, own: Option<&String>) -> ConfigEntry {
        let of_layer = |(source, layer): &(Source, Layer)| {
            layer.get(&key).map(|value| (*source, value.clone()))
        };
        let mut layers = Vec::from_iter(own.map(|value| (Source::Topic, value.clone())));
        layers.extend(self.layers.iter().filter_map(of_layer));
        layers.push((Source::Default, key.spec().default.to_owned()));
        let (source, value) = layers[0].clone();
        ConfigEntry { key, value, source, layers }
    }
}

/// Values were checked when they were set; one that a newer build checked is passed over.
fn set_checked(config: &mut TopicConfig, key: Key, value: &str) {
    if let Err(invalid) = config.set(key, value) {
        tracing::warn!(error = %invalid, "topic config ignored");
    }
}

/// What this node's settings say about topics that say nothing themselves.
///
/// Written under Kafka's broker names in snake case: `log_retention_ms: 3600000`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicDefaults(Layer);

impl TopicDefaults {
    /// The values that were given.
    #[must_use]
    pub fn layer(&self) -> &Layer {
        &self.0
    }

    /// The name of a key's default in settings.
    #[must_use]
    pub fn setting_name(key: Key) -> &'static str {
        use std::sync::LazyLock;
        static NAMES: LazyLock<BTreeMap<Key, String>> = LazyLock::new(|| {
            Key::ALL.iter().map(|key| (*key, key.spec().broker_name.replace('.', "_"))).collect()
        });
        NAMES.get(&key).expect("every key is in ALL")
    }
}

impl Serialize for TopicDefaults {
    /// Every key, so that the reader sees what can be set.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Key::ALL.len()))?;
        for key in Key::ALL {
            let spec = key.spec();
            let value = self.0.get(key).map_or(spec.default, String::as_str);
            map.serialize_key(Self::setting_name(*key))?;
            match spec.kind {
                Kind::Int { .. } | Kind::Long { .. } => {
                    map.serialize_value(&spec.long(value).map_err(serde::ser::Error::custom)?)?;
                }
                Kind::Double { .. } => {
                    map.serialize_value(&spec.double(value).map_err(serde::ser::Error::custom)?)?;
                }
                Kind::Boolean => {
                    map.serialize_value(&spec.boolean(value).map_err(serde::ser::Error::custom)?)?;
                }
                Kind::Choice(_) | Kind::List(_) => map.serialize_value(value)?,
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for TopicDefaults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DefaultsVisitor;
        impl<'de> Visitor<'de> for DefaultsVisitor {
            type Value = TopicDefaults;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("defaults of topic configs by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TopicDefaults, A::Error> {
                let mut layer = Layer::new();
                while let Some(name) = map.next_key::<String>()? {
                    let key = find_setting(&name).map_err(A::Error::custom)?;
                    let Scalar(value) = map.next_value()?;
                    TopicConfig::default().set(key, &value).map_err(A::Error::custom)?;
                    if layer.insert(key, value).is_some() {
                        return Err(A::Error::custom(format_args!("{name} is given twice")));
                    }
                }
                Ok(TopicDefaults(layer))
            }
        }
        deserializer.deserialize_map(DefaultsVisitor)
    }
}

fn find_setting(name: &str) -> Result<Key, super::InvalidConfig> {
    let setting = TopicDefaults::setting_name;
    // Its name in a topic, where most people know it from.
    if let Ok(key) = super::find(&name.replace('_', "."))
        && setting(key) != name
    {
        let nearest = Some(setting(key));
        return Err(super::InvalidConfig::UnknownKey { name: name.to_owned(), nearest });
    }
    Key::ALL
        .iter()
        .copied()
        .find(|key| setting(*key) == name)
        .ok_or_else(|| unknown(name, Key::ALL.iter().map(|key| setting(*key))))
}

/// A number, word or truth value, as its text: files and environments write them differently.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a word, true or false")
            }
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
