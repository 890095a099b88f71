//! Pure: Kafka's cooperative-sticky assignor (KIP-429): members keep what they have as long as the
//! loads stay even, and what moves is let go by its owner in one round and given in the next.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Partitions, partitions, subscribers};
use crate::{PartitionIndex, TopicName};

type Key<'a> = (&'a TopicName, PartitionIndex);

/// The share of each member, in the members' order.
pub(super) fn assign(counts: &BTreeMap<TopicName, u32>, members: &[&Member]) -> Vec<Partitions> {
    let subscribed: BTreeMap<&TopicName, Vec<usize>> =
        counts.keys().map(|topic| (topic, subscribers(topic, members).collect())).collect();
    let claims = claims(counts, members);
    let mut loads = vec![0_usize; members.len()];
    let mut owners: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    for (key, claim) in &claims {
        if let Some(owner) = claim.owner.filter(|owner| subscribed[key.0].contains(owner)) {
            loads[owner] += 1;
            owners.insert(*key, owner);
        }
    }
    for (topic, count) in counts {
        for partition in partitions(*count) {
            if !owners.contains_key(&(topic, partition))
                && let Some(owner) = least_loaded(&subscribed[topic], &loads)
            {
                loads[owner] += 1;
                owners.insert((topic, partition), owner);
            }
        }
    }
    even_out(&mut owners, &mut loads, &subscribed);
    let mut shares = vec![Partitions::new(); members.len()];
    for ((topic, partition), owner) in owners {
        // Who still holds it must let go first: it is given when nobody claims it any more.
        let held = claims.get(&(topic, partition)).is_some_and(|claim| claim.is_held_beside(owner));
        if !held {
            shares[owner].entry(topic.clone()).or_default().push(partition);
        }
    }
    shares
}

/// Moves single partitions from members with more to subscribers with at least two fewer.
///
/// Each move lowers the sum of the squared loads: it comes to an end.
fn even_out(
    owners: &mut BTreeMap<Key<'_>, usize>,
    loads: &mut [usize],
    subscribed: &BTreeMap<&TopicName, Vec<usize>>,
) {
    let mut moved = true;
    while moved {
        moved = false;
        for ((topic, _), owner) in owners.iter_mut() {
            let Some(other) = least_loaded(&subscribed[topic], loads) else { continue };
            if loads[other] + 2 <= loads[*owner] {
                loads[*owner] -= 1;
                loads[other] += 1;
                *owner = other;
                moved = true;
            }
        }
    }
}

fn least_loaded(candidates: &[usize], loads: &[usize]) -> Option<usize> {
    candidates.iter().copied().min_by_key(|member| (loads[*member], *member))
}

/// Who says that a partition is theirs.
#[derive(Default)]
struct Claim {
    /// The newest generation in which somebody had it.
    generation: i32,
    /// Who had it then; nobody, if two say so.
    owner: Option<usize>,
    claimants: BTreeSet<usize>,
}

impl Claim {
    fn is_held_beside(&self, owner: usize) -> bool {
        self.claimants.iter().any(|claimant| *claimant != owner)
    }
}

/// The claims to partitions that exist. One of an older generation is not believed, but its member
/// may still read there.
fn claims<'a>(
    counts: &'a BTreeMap<TopicName, u32>,
    members: &[&Member],
) -> BTreeMap<Key<'a>, Claim> {
    let mut claims: BTreeMap<Key<'a>, Claim> = BTreeMap::new();
    for (position, member) in members.iter().enumerate() {
        for (topic, owned) in &member.owned {
            let Some((topic, count)) = counts.get_key_value(topic) else { continue };
            let exists = |partition: &&PartitionIndex| {
                u32::try_from(partition.0).is_ok_and(|index| index < *count)
            };
            for partition in owned.iter().filter(exists) {
                let claim = claims.entry((topic, *partition)).or_default();
                if claim.claimants.is_empty() || claim.generation < member.generation {
                    (claim.generation, claim.owner) = (member.generation, Some(position));
                } else if claim.generation == member.generation {
                    claim.owner = None;
                }
                claim.claimants.insert(position);
            }
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::super::Assignor;
    use super::*;
    use crate::rng::{self, RngExt as _};

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).expect("the name is valid")
    }

    fn member(id: &str, topics: &[&str], owned: &[(&str, &[i32])]) -> Member {
        let indexes = |numbers: &[i32]| numbers.iter().copied().map(PartitionIndex).collect();
        Member {
            id: id.to_owned(),
            instance: None,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            owned: owned.iter().map(|(name, numbers)| (topic(name), indexes(numbers))).collect(),
            generation: 1,
        }
    }

    fn check(counts: &[(&str, u32)], members: &[Member], expected: &[&[(&str, &[i32])]]) {
        let counts = counts.iter().map(|(name, count)| (topic(name), *count)).collect();
        let shares = Assignor::CooperativeSticky.assign(&counts, members);
        for (one, expected) in members.iter().zip(expected) {
            let expected = member("", &[], expected).owned;
            assert_eq!(shares[&one.id], expected, "the share of {}", one.id);
        }
    }

    #[test]
    fn what_a_member_has_it_keeps_and_what_moves_waits_for_its_owner() {
        // A newcomer: two partitions move to it, and are nobody's in this round.
        check(
            &[("t", 4)],
            &[member("a", &["t"], &[("t", &[0, 1, 2, 3])]), member("b", &["t"], &[])],
            &[&[("t", &[2, 3])], &[]],
        );
        // The round after: they are free now.
        check(
            &[("t", 4)],
            &[member("a", &["t"], &[("t", &[2, 3])]), member("b", &["t"], &[])],
            &[&[("t", &[2, 3])], &[("t", &[0, 1])]],
        );
        // One left: its partitions go to the others, and nothing else moves.
        check(
            &[("t", 4)],
            &[member("a", &["t"], &[("t", &[2, 3])]), member("c", &["t"], &[("t", &[1])])],
            &[&[("t", &[2, 3])], &[("t", &[0, 1])]],
        );
    }

    #[test]
    fn a_member_gets_only_what_it_wants() {
        check(
            &[("t", 2), ("u", 1)],
            &[member("a", &["t"], &[("u", &[0])]), member("b", &["t", "u"], &[("t", &[0, 1])])],
            &[&[], &[("t", &[1])]],
        );
        check(&[], &[member("a", &["t"], &[("t", &[0])])], &[&[]]);
        check(&[("t", 1)], &[member("a", &["t"], &[("t", &[7])])], &[&[("t", &[0])]]);
    }

    #[test]
    fn of_two_that_claim_a_partition_the_newer_generation_is_believed_and_both_let_go_first() {
        let mut old = member("old", &["t"], &[("t", &[0])]);
        old.generation = 0;
        let new = member("new", &["t"], &[("t", &[0])]);
        check(&[("t", 1)], &[old, new], &[&[], &[]]);
    }

    /// Goes through rounds until nobody has to let go of anything, as members do.
    #[test]
    fn rounds_end_with_even_loads_and_nobody_reads_what_another_reads() {
        for seed in 0..300 {
            let mut rng = rng::from_seed(seed);
            let names: Vec<String> = (0..rng.random_range(1..5)).map(|n| format!("t{n}")).collect();
            let counts: BTreeMap<TopicName, u32> =
                names.iter().map(|name| (topic(name), rng.random_range(0..16))).collect();
            let alike = rng.random_bool(0.5);
            let mut members: Vec<Member> = Vec::new();
            for change in 0..6 {
                if members.is_empty() || rng.random_bool(0.7) {
                    let wants = |_: &&String| alike || rng.random_bool(0.6);
                    let topics: Vec<&str> =
                        names.iter().filter(wants).map(String::as_str).collect();
                    members.push(member(&format!("m{change}"), &topics, &[]));
                } else {
                    members.remove(rng.random_range(0..members.len()));
                }
                let rounds = settle(&counts, &mut members);
                assert!(rounds <= 3, "seed {seed}: {rounds} rounds");
                check_settled(&counts, &members, alike, seed);
            }
        }
    }

    /// The number of rounds that it took.
    fn settle(counts: &BTreeMap<TopicName, u32>, members: &mut [Member]) -> usize {
        for round in 1..10 {
            let shares = Assignor::CooperativeSticky.assign(counts, members);
            let mut let_go = false;
            for member in &mut *members {
                let share = shares[&member.id].clone();
                let_go |= member.owned.iter().any(|(topic, owned)| {
                    let kept = share.get(topic);
                    owned.iter().any(|index| kept.is_none_or(|kept| !kept.contains(index)))
                });
                (member.owned, member.generation) = (share, member.generation + 1);
            }
            if !let_go {
                return round;
            }
        }
        10
    }

    fn check_settled(
        counts: &BTreeMap<TopicName, u32>,
        members: &[Member],
        alike: bool,
        seed: u64,
    ) {
        let load = |member: &Member| member.owned.values().map(Vec::len).sum::<usize>();
        for (topic, count) in counts {
            let wanted = members.iter().any(|member| member.topics.contains(topic.as_str()));
            for partition in partitions(*count) {
                let has = |member: &&Member| {
                    member.owned.get(topic).is_some_and(|owned| owned.contains(&partition))
                };
                let owners: Vec<&Member> = members.iter().filter(has).collect();
                assert_eq!(owners.len(), usize::from(wanted), "seed {seed}: {topic} {partition}");
                for owner in owners {
                    assert!(owner.topics.contains(topic.as_str()), "seed {seed}: {topic}");
                    let other = members.iter().find(|other| {
                        other.topics.contains(topic.as_str()) && load(other) + 2 <= load(owner)
                    });
                    assert_eq!(other, None, "seed {seed}: {topic} {partition} could move");
                }
            }
        }
        let loads: Vec<usize> = members.iter().map(load).collect();
        if alike && let (Some(most), Some(least)) = (loads.iter().max(), loads.iter().min()) {
            assert!(most - least <= 1, "seed {seed}: {loads:?}");
        }
    }
}
