//! Pure: the configs that a group may have for itself, under Kafka's names (KIP-848).

use std::collections::BTreeMap;
use std::time::Duration;

use rafka_core::ErrorCode;

use super::Settings;
use crate::Error;

/// A config of groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: &'static str,
    /// The name of its default on the node.
    pub(crate) default_name: &'static str,
    /// What it does.
    pub(crate) documentation: &'static str,
    of: fn(&mut Settings) -> &mut Duration,
}

/// All of them, by name.
pub(crate) const SPECS: [Spec; 2] = [
    Spec {
        name: "consumer.heartbeat.interval.ms",
        default_name: "group.consumer.heartbeat.interval.ms",
        documentation: "How often a member of a next-generation group sends a heartbeat. 1 to the \
                        session timeout.",
        of: |settings| &mut settings.group_consumer_heartbeat_interval,
    },
    Spec {
        name: "consumer.session.timeout.ms",
        default_name: "group.consumer.session.timeout.ms",
        documentation: "After how much silence a member of a next-generation group is taken for \
                        dead. 1 to 86400000 (a day).",
        of: |settings| &mut settings.group_consumer_session_timeout,
    },
];

impl Spec {
    /// The value that it has in settings, as text.
    pub(crate) fn value(&self, settings: &Settings) -> String {
        let mut settings = settings.clone();
        (self.of)(&mut settings).as_millis().to_string()
    }
}

/// The settings that hold for a group which set `configs` itself. What this build does not take is
/// passed over: a newer one may have set it.
pub(crate) fn over(settings: &Settings, configs: &BTreeMap<String, String>) -> Settings {
    let mut own = settings.clone();
    for spec in &SPECS {
        if let Some(Ok(millis)) = configs.get(spec.name).map(|value| value.parse()) {
            *(spec.of)(&mut own) = Duration::from_millis(millis);
        }
    }
    // The node's settings may have changed since: nobody is told to be silent for longer than allowed.
    let longest = own.group_consumer_session_timeout;
    own.group_consumer_heartbeat_interval = own.group_consumer_heartbeat_interval.min(longest);
    own
}

/// Judges what a group shall have.
///
/// # Errors
/// Names the config that cannot be, and what it could be.
pub(crate) fn check(settings: &Settings, configs: &BTreeMap<String, String>) -> Result<(), Error> {
    let invalid = |message| Error::new(ErrorCode::InvalidConfig, message);
    let mut own = settings.clone();
    for (name, value) in configs {
        let Some(spec) = SPECS.iter().find(|spec| spec.name == name) else {
            let known = SPECS.map(|spec| spec.name).join(" and ");
            return Err(invalid(format!("unknown config of groups {name:?}: there are {known}")));
        };
        let millis = value.trim().parse::<u32>();
        let millis = millis.map_err(|_other| {
            invalid(format!("{name} is {value:?}, and must be a number of milliseconds"))
        })?;
        *(spec.of)(&mut own) = Duration::from_millis(millis.into());
    }
    let [(interval, longest), session] = SPECS.map(|spec| (spec.name, *(spec.of)(&mut own)));
    let (session, timeout) = session;
    let (least, day) = (Duration::from_millis(1), Duration::from_hours(24));
    if !(least..=day).contains(&timeout) {
        return Err(invalid(format!(
            "{session} is {}, and must be from 1 to {}",
            timeout.as_millis(),
            day.as_millis()
        )));
    }
    if !(least..=timeout).contains(&longest) {
        return Err(invalid(format!(
            "{interval} is {}, and must be from 1 to {session}, which is {}",
            longest.as_millis(),
            timeout.as_millis()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(configs: &[(&str, &str)]) -> BTreeMap<String, String> {
        configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_group_cannot_have_is_refused_by_name() {
        let settings = Settings::default();
        for (configs, expected) in [
            (set(&[]), None),
            (set(&[("consumer.session.timeout.ms", "60000")]), None),
            (
                set(&[("consumer.session.timeout.ms", "0")]),
                Some("consumer.session.timeout.ms is 0,"),
            ),
            (
                set(&[("consumer.session.timeout.ms", "4000")]),
                Some("consumer.heartbeat.interval.ms is"),
            ),
            (
                set(&[("consumer.heartbeat.interval.ms", "46000")]),
                Some("consumer.heartbeat.interval.ms is"),
            ),
            (set(&[("consumer.heartbeat.interval.ms", "soon")]), Some("is \"soon\"")),
            (set(&[("share.session.timeout.ms", "1")]), Some("there are consumer.heartbeat")),
        ] {
            let found = check(&settings, &configs).map_err(|error| error.message);
            match expected {
                None => assert_eq!(found, Ok(()), "{configs:?}"),
                Some(text) => {
                    let message = found.expect_err(text);
                    assert!(message.contains(text), "{message}");
                }
            }
        }
    }

    #[test]
    fn a_group_has_its_own_and_the_rest_of_the_node() {
        let own = over(&Settings::default(), &set(&[("consumer.session.timeout.ms", "2000")]));
        assert_eq!(own.group_consumer_session_timeout, Duration::from_secs(2));
        assert_eq!(own.group_consumer_heartbeat_interval, Duration::from_secs(2));
        assert_eq!(own.group_members_max, Settings::default().group_members_max);
        let strange = set(&[("consumer.session.timeout.ms", "?"), ("of.tomorrow", "1")]);
        assert_eq!(over(&Settings::default(), &strange), Settings::default());
    }
}
