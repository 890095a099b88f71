//! Pure: what the members want, in the topics that there are, and the target made from it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use rafka_core::{ErrorCode, Time, TopicId, TopicName};
use regex::{Regex, RegexBuilder};

use super::{Candidate, Consumers, Share};
use crate::group::log::{Topic, Topics};

/// The longest pattern, in bytes.
pub(super) const REGEX_BYTES_MAX: usize = 4096;

/// What a compiled pattern may take: it bounds the work of making and of matching it, too.
const REGEX_COMPILED_BYTES_MAX: usize = 256 << 10;

/// Different patterns in one group. Members of a group are one program: they share one.
const REGEXES_MAX: usize = 32;

/// The least time between two matchings of all topics with a group's patterns: where topics come
/// and go all the time, they are not matched for each.
const MATCH_PAUSE: Duration = Duration::from_secs(1);

/// Compiles a pattern that matches whole names.
pub(crate) fn compile(pattern: &str) -> Result<Regex, ErrorCode> {
    if REGEX_BYTES_MAX < pattern.len() {
        return Err(ErrorCode::InvalidRegularExpression);
    }
    // By itself first, so that no unpaired parenthesis reaches out of the group around it.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

fn build(pattern: &str) -> Result<Regex, ErrorCode> {
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(REGEX_COMPILED_BYTES_MAX).dfa_size_limit(REGEX_COMPILED_BYTES_MAX);
    builder.build().map_err(|_invalid| ErrorCode::InvalidRegularExpression)
}

fn matching(pattern: &Regex, topics: &Topics) -> BTreeSet<TopicName> {
    let is_match = |name: &TopicName| !name.is_internal() && pattern.is_match(name.as_str());
    topics.names().into_iter().filter(is_match).collect()
}

impl Consumers {
    /// Whether a group may have one more pattern, if this one is new to it.
    pub(super) fn has_room_for(&self, pattern: &str) -> bool {
        self.regexes.contains_key(pattern) || self.regexes.len() < REGEXES_MAX
    }

    /// Matches a pattern that is new to the group with the topics.
    pub(super) fn match_new(&mut self, pattern: &str, compiled: &Regex, topics: &Topics) {
        if !self.regexes.contains_key(pattern) {
            self.regexes.insert(pattern.to_owned(), matching(compiled, topics));
            self.dirty.regexes.insert(pattern.to_owned());
        }
    }

    pub(super) fn forget_unused_regexes(&mut self) {
        let used: BTreeSet<&String> =
            self.members.values().filter_map(|member| member.profile.regex.as_ref()).collect();
        let unused = self.regexes.extract_if(.., |pattern, _| !used.contains(pattern));
        self.dirty.regexes.extend(unused.map(|(pattern, _)| pattern));
    }

    /// Looks at the topics again if they may have changed.
    pub(super) fn look_at(&mut self, topics: &Topics, now: Time) {
        let version = topics.version();
        let is_matched = self.regexes.is_empty()
            || self
                .regexes_seen
                .is_some_and(|(seen, at)| seen == version || now < at + MATCH_PAUSE);
        if !is_matched {
            self.regexes_seen = Some((version, now));
            for (pattern, matched) in &mut self.regexes {
                let Ok(compiled) = compile(pattern) else { continue };
                let again = matching(&compiled, topics);
                if again != *matched {
                    *matched = again;
                    self.dirty.regexes.insert(pattern.clone());
                    self.seen = None;
                }
            }
        }
        if self.seen != Some(version) {
            self.seen = Some(version);
            // A target that is to be made anyway is made for the topics as they are.
            let is_aimed = self.target_epoch == self.epoch;
            if is_aimed && digest(&self.wanted(topics)) != self.topics_hash {
                self.bump();
            }
        }
    }

    /// The topics that some member wants and that exist.
    fn wanted(&self, topics: &Topics) -> BTreeMap<TopicName, Topic> {
        let found = |name: TopicName| topics.get(&name).map(|topic| (name, topic));
        self.names().into_iter().filter_map(found).collect()
    }

    /// The names that some member wants.
    fn names(&self) -> BTreeSet<TopicName> {
        let by_name = self.members.values().flat_map(|member| &member.profile.topics);
        by_name.chain(self.regexes.values().flatten()).cloned().collect()
    }

    /// The same as texts.
    pub(super) fn subscribed(&self) -> BTreeSet<String> {
        self.names().into_iter().map(|name| name.as_str().to_owned()).collect()
    }

    /// Makes the target of the group's epoch, if it is not made yet. Whether it was made.
    pub(super) fn aim(&mut self, topics: &Topics) -> bool {
        if self.target_epoch == self.epoch {
            return false;
        }
        let wanted = self.wanted(topics);
        self.topics_hash = digest(&wanted);
        self.dirty.group = true;
        let counts: BTreeMap<TopicId, u32> =
            wanted.values().map(|topic| (topic.id, topic.partition_count)).collect();
        let by_regex: BTreeMap<&String, Vec<TopicId>> = self
            .regexes
            .iter()
            .map(|(pattern, names)| (pattern, ids(names, &wanted).collect()))
            .collect();
        let candidates = self.members.iter().map(|(id, member)| {
            let matched = member.profile.regex.as_ref().and_then(|regex| by_regex.get(regex));
            let named = ids(&member.profile.topics, &wanted);
            Candidate {
                id: Arc::clone(id),
                instance: member.profile.instance.clone(),
                topics: named.chain(matched.into_iter().flatten().copied()).collect(),
                share: self.target.get(id),
            }
        });
        let target = self.assignor().assign(&counts, candidates.collect());
        for (id, share) in &target {
            if self.target.get(id) != Some(share) {
                self.dirty.targets.insert(Arc::clone(id));
            }
        }
        self.target = target;
        self.target_epoch = self.epoch;
        self.dirty.target_epoch = true;
        true
    }

    /// What a member shall own in the end.
    pub(super) fn target_of(&self, id: &str) -> Option<&Share> {
        self.target.get(id)
    }
}

fn ids<'a>(
    names: &'a BTreeSet<TopicName>,
    wanted: &'a BTreeMap<TopicName, Topic>,
) -> impl Iterator<Item = TopicId> + use<'a> {
    names.iter().filter_map(|name| wanted.get(name)).map(|topic| topic.id)
}

/// Another number for other topics: their names, ids and partition counts.
fn digest(topics: &BTreeMap<TopicName, Topic>) -> i64 {
    let mut hasher = DefaultHasher::new();
    for (name, topic) in topics {
        (name.as_str(), topic).hash(&mut hasher);
    }
    hasher.finish().cast_signed()
}
