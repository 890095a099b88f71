//! Pure: Kafka's assignors: which member of a group consumes which partition.

mod sticky;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::consumer_protocol::{Subscription, TopicPartitions};
use crate::{PartitionIndex, TopicName};

/// A way to share partitions out. The name is what members vote for when they join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Topic by topic, a run of neighbouring partitions to each subscribed member.
    ///
    /// Topics with the same number of partitions are split alike, so that their partitions of one
    /// number meet in one member; the members that come first get more.
    Range,
    /// All partitions of all topics in one round over the members.
    RoundRobin,
    /// Evenly, and each member keeps what it has as far as that allows. Members go on reading
    /// through a rebalance: a partition that moves is left out of one round, in which its owner
    /// lets it go and joins again, and given in the next (KIP-429).
    CooperativeSticky,
}

/// A member that wants partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its static identity, if it has one. Static members come first.
    pub instance: Option<String>,
    /// The topics it subscribed to. Those that do not exist are passed over.
    pub topics: BTreeSet<String>,
    /// What it has. Only the cooperative assignor asks for it.
    pub owned: Partitions,
    /// The generation in which it was given that; -1 if in none.
    pub generation: i32,
}

/// The partitions of one member.
pub type Partitions = BTreeMap<TopicName, Vec<PartitionIndex>>;

impl Assignor {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Range, Self::RoundRobin, Self::CooperativeSticky];

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor that Kafka calls so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Whether members keep their partitions while they join again.
    #[must_use]
    pub fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// Gives every partition of a subscribed topic to exactly one subscribed member; the cooperative
    /// assignor leaves those out that another member has still to let go of.
    ///
    /// `partition_counts` names the topics that exist. Every member is in the answer, by its id,
    /// also when nothing is left for it. The order of `members` does not matter.
    #[must_use]
    pub fn assign(
        self,
        partition_counts: &BTreeMap<TopicName, u32>,
        members: &[Member],
    ) -> BTreeMap<String, Partitions> {
        let mut ordered: Vec<&Member> = members.iter().collect();
        ordered.sort_by(|left, right| left.order(right));
        let shares = match self {
            Self::Range => range(partition_counts, &ordered),
            Self::RoundRobin => round_robin(partition_counts, &ordered),
            Self::CooperativeSticky => sticky::assign(partition_counts, &ordered),
        };
        ordered.into_iter().map(|member| member.id.clone()).zip(shares).collect()
    }
}

impl Member {
    /// A member as the bytes of its subscription describe it. What it has of topics whose names
    /// cannot be is passed over, and a subscription that cannot be read is one to nothing: an odd
    /// member must not keep the others from their partitions.
    #[must_use]
    pub fn new(id: String, instance: Option<String>, subscription: &Bytes) -> Self {
        let read = Subscription::decode(subscription);
        let Subscription { topics, owned, generation, .. } =
            read.unwrap_or_else(|_odd| Subscription::new(Vec::new()));
        let named = |TopicPartitions { topic, partitions }: TopicPartitions| {
            Some((TopicName::new(&topic).ok()?, partitions))
        };
        let owned = owned.into_iter().filter_map(named).collect();
        Self { id, instance, topics: topics.into_iter().collect(), owned, generation }
    }

    /// Kafka's order: static members by instance, then the others by id.
    fn order(&self, other: &Self) -> Ordering {
        match (&self.instance, &other.instance) {
            (Some(mine), Some(its)) => mine.cmp(its),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.id.cmp(&other.id),
        }
    }
}

/// The share of each member, in the members' order.
fn range(counts: &BTreeMap<TopicName, u32>, members: &[&Member]) -> Vec<Partitions> {
    let mut shares = vec![Partitions::new(); members.len()];
    for (topic, count) in counts {
        let subscribed: Vec<usize> = subscribers(topic, members).collect();
        let Some(share) = index(*count).checked_div(subscribed.len()) else { continue };
        let extra = index(*count) % subscribed.len();
        let mut partitions = partitions(*count);
        for (position, member) in subscribed.into_iter().enumerate() {
            let taken = share + usize::from(position < extra);
            if 0 < taken {
                shares[member].insert(topic.clone(), partitions.by_ref().take(taken).collect());
            }
        }
    }
    shares
}

fn round_robin(counts: &BTreeMap<TopicName, u32>, members: &[&Member]) -> Vec<Partitions> {
    let mut shares = vec![Partitions::new(); members.len()];
    let mut turn = 0;
    for (topic, count) in counts {
        let subscribed: Vec<usize> = subscribers(topic, members).collect();
        if subscribed.is_empty() {
            continue;
        }
        for partition in partitions(*count) {
            // The turn goes to the next subscriber at or after it, around the circle.
            let after = subscribed.partition_point(|member| *member < turn);
            let member = subscribed[after % subscribed.len()];
            shares[member].entry(topic.clone()).or_default().push(partition);
            turn = (member + 1) % members.len();
        }
    }
    shares
}

fn subscribers(topic: &TopicName, members: &[&Member]) -> impl Iterator<Item = usize> {
    members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.topics.contains(topic.as_str()))
        .map(|(position, _)| position)
}

fn partitions(count: u32) -> impl Iterator<Item = PartitionIndex> {
    (0..i32::try_from(count).unwrap_or(i32::MAX)).map(PartitionIndex)
}

fn index(count: u32) -> usize {
    usize::try_from(count).expect("a count of 32 bits fits the address space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, RngExt as _};

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Member {
        Member {
            id: id.to_owned(),
            instance: instance.map(str::to_owned),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            owned: Partitions::new(),
            generation: -1,
        }
    }

    fn counts(topics: &[(&str, u32)]) -> BTreeMap<TopicName, u32> {
        let name = |topic: &str| TopicName::new(topic).expect("the name is valid");
        topics.iter().map(|(topic, count)| (name(topic), *count)).collect()
    }

    /// The share of `id` as text: `t0:0,1 t1:0`.
    fn share(assigned: &BTreeMap<String, Partitions>, id: &str) -> String {
        let topic = |(topic, partitions): (&TopicName, &Vec<PartitionIndex>)| {
            let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            format!("{topic}:{}", numbers.join(","))
        };
        assigned[id].iter().map(topic).collect::<Vec<_>>().join(" ")
    }

    fn check(assignor: Assignor, topics: &[(&str, u32)], members: &[Member], expected: &[&str]) {
        let assigned = assignor.assign(&counts(topics), members);
        let found: Vec<String> =
            members.iter().map(|member| share(&assigned, &member.id)).collect();
        assert_eq!(found, expected, "{assignor:?} {topics:?}");
    }

    #[test]
    fn range_shares_are_those_of_kafka() {
        let both = |id| member(id, None, &["t0", "t1"]);
        let check = |topics: &[(&str, u32)], members: &[Member], expected: &[&str]| {
            check(Assignor::Range, topics, members, expected);
        };
        check(&[("t0", 3), ("t1", 3)], &[both("a"), both("b")], &["t0:0,1 t1:0,1", "t0:2 t1:2"]);
        check(&[("t0", 1)], &[both("b"), both("a")], &["", "t0:0"]);
        check(&[("t0", 0)], &[both("a")], &[""]);
        check(&[], &[both("a")], &[""]);
        check(
            &[("t0", 3), ("t1", 2)],
            &[member("a", None, &["t0"]), both("b"), member("c", None, &["t0"])],
            &["t0:0", "t0:1 t1:0,1", "t0:2"],
        );
        let absent = member("a", None, &["t0", "no such topic!"]);
        check(&[("t0", 2)], &[absent], &["t0:0,1"]);
    }

    #[test]
    fn round_robin_shares_are_those_of_kafka() {
        let both = |id| member(id, None, &["t0", "t1"]);
        let check = |topics: &[(&str, u32)], members: &[Member], expected: &[&str]| {
            check(Assignor::RoundRobin, topics, members, expected);
        };
        check(&[("t0", 3), ("t1", 3)], &[both("a"), both("b")], &["t0:0,2 t1:1", "t0:1 t1:0,2"]);
        // The example of Kafka's own documentation: members with different subscriptions.
        check(
            &[("t0", 1), ("t1", 2), ("t2", 3)],
            &[
                member("C0", None, &["t0"]),
                member("C1", None, &["t0", "t1"]),
                member("C2", None, &["t0", "t1", "t2"]),
            ],
            &["t0:0", "t1:0", "t1:1 t2:0,1,2"],
        );
        check(&[("t0", 1)], &[member("a", None, &[])], &[""]);
    }

    #[test]
    fn static_members_come_first_in_the_order_of_their_instances() {
        let members = [
            member("1", None, &["t"]),
            member("2", Some("z"), &["t"]),
            member("3", Some("a"), &["t"]),
        ];
        check(Assignor::Range, &[("t", 4)], &members, &["t:3", "t:2", "t:0,1"]);
        check(Assignor::RoundRobin, &[("t", 4)], &members, &["t:2", "t:1", "t:0,3"]);
    }

    #[test]
    fn names_are_found_again() {
        for assignor in Assignor::ALL {
            assert_eq!(Assignor::from_name(assignor.name()), Some(assignor));
        }
        assert_eq!(Assignor::from_name("sticky"), None);
    }

    /// How many partitions each member got of `topics`, for the members subscribed to `topic`.
    fn spread(
        assigned: &BTreeMap<String, Partitions>,
        members: &[Member],
        of: impl Fn(&TopicName) -> bool,
        subscribed: impl Fn(&Member) -> bool,
    ) -> usize {
        let load = |member: &Member| -> usize {
            assigned[&member.id].iter().filter(|(t, _)| of(t)).map(|(_, p)| p.len()).sum()
        };
        let loads: Vec<usize> = members.iter().filter(|m| subscribed(m)).map(load).collect();
        loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0)
    }

    #[test]
    fn every_partition_goes_to_one_subscribed_member_and_loads_differ_by_one() {
        for seed in 0..500 {
            let mut rng = rng::from_seed(seed);
            let names: Vec<String> =
                (0..rng.random_range(1..6)).map(|topic| format!("t{topic}")).collect();
            let topics: Vec<(&str, u32)> =
                names.iter().map(|name| (name.as_str(), rng.random_range(0..20))).collect();
            let alike = rng.random_bool(0.5);
            let members: Vec<Member> = (0..rng.random_range(1..8))
                .map(|number| {
                    let instance = rng.random_bool(0.3).then(|| format!("i{number}"));
                    let topics = names.iter().filter(|_| alike || rng.random_bool(0.6)).cloned();
                    let (owned, generation) = (Partitions::new(), -1);
                    let topics = topics.collect();
                    Member { id: format!("m{number}"), instance, topics, owned, generation }
                })
                .collect();
            for assignor in Assignor::ALL {
                let assigned = assignor.assign(&counts(&topics), &members);
                let mut owners: BTreeMap<(String, i32), Vec<&Member>> = BTreeMap::new();
                for member in &members {
                    for (topic, partitions) in &assigned[&member.id] {
                        for partition in partitions {
                            let partition = (topic.to_string(), partition.0);
                            owners.entry(partition).or_default().push(member);
                        }
                    }
                }
                for (topic, count) in counts(&topics) {
                    let wanted = |m: &Member| m.topics.contains(topic.as_str());
                    for partition in 0..count.cast_signed() {
                        let key = (topic.to_string(), partition);
                        let owners = owners.remove(&key).unwrap_or_default();
                        let expected = usize::from(members.iter().any(wanted));
                        assert_eq!(owners.len(), expected, "{assignor:?}, seed {seed}, {key:?}");
                        assert!(owners.iter().all(|m| wanted(m)), "{assignor:?}, seed {seed}");
                    }
                    if assignor == Assignor::Range {
                        let spread = spread(&assigned, &members, |t| *t == topic, wanted);
                        assert!(spread <= 1, "{assignor:?}, seed {seed}, {topic}: {spread}");
                    }
                }
                assert!(owners.is_empty(), "{assignor:?}, seed {seed}: {owners:?} do not exist");
                if assignor != Assignor::Range && alike {
                    let spread = spread(&assigned, &members, |_| true, |_| true);
                    assert!(spread <= 1, "{assignor:?}, seed {seed}: {spread}");
                }
            }
        }
    }
}
