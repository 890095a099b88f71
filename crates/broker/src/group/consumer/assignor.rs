//! Pure: the assignors of next-generation groups: who shall own what in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rafka_core::{PartitionIndex, TopicId, TopicPartition};

use super::spread;

/// The partitions of one member.
pub(super) type Share = BTreeMap<TopicId, BTreeSet<PartitionIndex>>;

/// A way to share partitions out. Both leave partitions where they are as far as they can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Assignor {
    /// All partitions of all topics evenly over the members.
    Uniform,
    /// Topic by topic. Topics with the same number of partitions and the same subscribers are
    /// shared out alike, so that their partitions of one number meet in one member.
    Range,
}

/// A member that wants partitions.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) id: Arc<str>,
    /// Static members come first.
    pub(super) instance: Option<Arc<str>>,
    pub(super) topics: BTreeSet<TopicId>,
    /// What it was to own so far.
    pub(super) share: Option<&'a Share>,
}

impl Assignor {
    /// Both; of those that as many members want, the first is taken.
    pub(super) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Kafka's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Gives every partition of a subscribed topic to exactly one subscriber. Each candidate is in
    /// the answer, also with nothing.
    pub(super) fn assign(
        self,
        counts: &BTreeMap<TopicId, u32>,
        mut members: Vec<Candidate<'_>>,
    ) -> BTreeMap<Arc<str>, Share> {
        members.sort_by(|left, right| {
            let rank = |it: &Candidate<'_>| (it.instance.is_none(), it.instance.clone());
            (rank(left), &left.id).cmp(&(rank(right), &right.id))
        });
        let shares = match self {
            Self::Uniform => uniform(counts, &members),
            Self::Range => range(counts, &members),
        };
        members.into_iter().map(|member| member.id).zip(shares).collect()
    }
}

fn uniform(counts: &BTreeMap<TopicId, u32>, members: &[Candidate<'_>]) -> Vec<Share> {
    let mut holders = BTreeMap::new();
    for (position, member) in members.iter().enumerate() {
        for (topic, partition) in pairs(member.share) {
            holders.entry(TopicPartition { topic, partition }).or_insert(position);
        }
    }
    let holder = |at: TopicPartition| {
        let position = *holders.get(&at)?;
        members[position].topics.contains(&at.topic).then_some(position)
    };
    let units = |topic: TopicId, count: u32| {
        partitions(count).map(move |partition| TopicPartition { topic, partition })
    };
    let is_uniform = members.windows(2).all(|pair| pair[0].topics == pair[1].topics);
    let shares = if is_uniform {
        let wanted = members.first().map(|member| &member.topics);
        let is_wanted = |topic: &TopicId| wanted.is_some_and(|wanted| wanted.contains(topic));
        let wanted = counts.iter().filter(|(topic, _)| is_wanted(topic));
        let units: Vec<TopicPartition> =
            wanted.flat_map(|(topic, count)| units(*topic, *count)).collect();
        spread::evenly(&units, members.len(), holder)
    } else {
        let kind = |(topic, count): (&TopicId, &u32)| {
            (units(*topic, *count).collect(), subscribers(*topic, members))
        };
        let kinds: Vec<(Vec<TopicPartition>, Vec<usize>)> = counts.iter().map(kind).collect();
        spread::by_kind(&kinds, members.len(), holder)
    };
    let share = |units: Vec<TopicPartition>| {
        let mut share = Share::new();
        for TopicPartition { topic, partition } in units {
            share.entry(topic).or_default().insert(partition);
        }
        share
    };
    shares.into_iter().map(share).collect()
}

fn range(counts: &BTreeMap<TopicId, u32>, members: &[Candidate<'_>]) -> Vec<Share> {
    let mut alike: BTreeMap<(Vec<usize>, u32), Vec<TopicId>> = BTreeMap::new();
    for (topic, count) in counts {
        alike.entry((subscribers(*topic, members), *count)).or_default().push(*topic);
    }
    let mut shares = vec![Share::new(); members.len()];
    for ((subscribers, count), topics) in alike {
        if subscribers.is_empty() {
            continue;
        }
        // What a subscriber holds of any of the topics, it shall keep of all.
        let mut holders = BTreeMap::new();
        for topic in &topics {
            for (position, subscriber) in subscribers.iter().enumerate() {
                let held = members[*subscriber].share.and_then(|share| share.get(topic));
                for partition in held.into_iter().flatten() {
                    holders.entry(*partition).or_insert(position);
                }
            }
        }
        let units: Vec<PartitionIndex> = partitions(count).collect();
        let spread = spread::evenly(&units, subscribers.len(), |unit| holders.get(&unit).copied());
        for (subscriber, units) in subscribers.into_iter().zip(spread) {
            if units.is_empty() {
                continue;
            }
            for topic in &topics {
                shares[subscriber].insert(*topic, units.iter().copied().collect());
            }
        }
    }
    shares
}

fn subscribers(topic: TopicId, members: &[Candidate<'_>]) -> Vec<usize> {
    let wanting = members.iter().enumerate().filter(|(_, it)| it.topics.contains(&topic));
    wanting.map(|(position, _)| position).collect()
}

fn pairs(share: Option<&Share>) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
    let topics = share.into_iter().flatten();
    topics.flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
}

fn partitions(count: u32) -> impl Iterator<Item = PartitionIndex> + Clone {
    (0..i32::try_from(count).unwrap_or(i32::MAX)).map(PartitionIndex)
}

#[cfg(test)]
mod tests;
