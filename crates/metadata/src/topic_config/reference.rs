//! Pure: the reference page of topic configs, written from the table.

use std::fmt::Write as _;

use super::{Key, TopicDefaults};

/// The page `docs/reference/topic-configs.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Topic configs\n\
         \n\
         Names, types and defaults are Kafka's, where Kafka has the key. Only keys that do something\n\
         are listed; setting any other is refused with `INVALID_CONFIG` (40).\n\
         \n\
         A value comes from, the strongest first: the topic; the node at run time; the cluster at run\n\
         time; the node's settings (section `metadata.topic_defaults`); the default below.\n",
    );
    for key in Key::ALL {
        let spec = key.spec();
        let setting = TopicDefaults::setting_name(*key);
        write!(
            page,
            "\n## `{}`\n\n{}\n\n- type: {}\n- accepted: {}\n- default: `{}`\n- default of the node: \
             `{}`, in settings `{setting}`\n",
            spec.name,
            spec.documentation,
            spec.kind.name(),
            spec.kind.accepted(),
            spec.default,
            spec.broker_name,
        )
        .expect("writing to a String does not fail");
    }
    page
}
