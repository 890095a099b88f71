//! Every partition has one subscriber, the shares are even, and what can stay stays.

use rafka_core::rng::{self, RngExt as _};

use super::*;

fn topic(number: u8) -> TopicId {
    TopicId::from_random(u128::from(number))
}

/// What members want, by topic number, and what they were to own.
struct Case {
    counts: BTreeMap<TopicId, u32>,
    members: BTreeMap<Arc<str>, BTreeSet<TopicId>>,
    before: BTreeMap<Arc<str>, Share>,
}

impl Case {
    fn assign(&self, assignor: Assignor) -> BTreeMap<Arc<str>, Share> {
        let candidate = |(id, topics): (&Arc<str>, &BTreeSet<TopicId>)| Candidate {
            id: Arc::clone(id),
            instance: None,
            topics: topics.clone(),
            share: self.before.get(id),
        };
        assignor.assign(&self.counts, self.members.iter().map(candidate).collect())
    }

    /// Assigns, checks what holds for every assignment, and goes on from there.
    fn next(&mut self, assignor: Assignor) -> BTreeMap<Arc<str>, Share> {
        let after = self.assign(assignor);
        assert!(after.keys().eq(self.members.keys()), "every member has a share, if an empty one");
        let mut owners = BTreeMap::new();
        for (id, share) in &after {
            for (topic, partition) in pairs(Some(share)) {
                assert!(self.members[id].contains(&topic), "{id} does not want {topic}");
                assert_eq!(owners.insert((topic, partition), id), None, "two own {topic}");
            }
        }
        let is_wanted = |topic: &&TopicId| self.members.values().any(|it| it.contains(*topic));
        let wanted = self.counts.keys().filter(is_wanted).map(|topic| self.counts[topic]);
        assert_eq!(owners.len(), wanted.map(|count| count as usize).sum::<usize>());
        self.before = after.clone();
        assert_eq!(self.assign(assignor), after, "nothing moves without a reason");
        after
    }
}

fn size(share: &Share) -> usize {
    share.values().map(BTreeSet::len).sum()
}

/// How many partitions are with another member than before, of those that were with a member that
/// is still there.
fn moved(before: &BTreeMap<Arc<str>, Share>, after: &BTreeMap<Arc<str>, Share>) -> usize {
    let lost = |(id, share): (&Arc<str>, &Share)| {
        let has = after.get(id);
        let is_gone = |(topic, at): &(TopicId, PartitionIndex)| {
            let has = has.and_then(|has| has.get(topic));
            !has.is_some_and(|has| has.contains(at))
        };
        if has.is_none() { 0 } else { pairs(Some(share)).filter(is_gone).count() }
    };
    before.iter().map(lost).sum()
}

#[test]
fn members_that_want_the_same_get_as_much_and_move_no_more_than_they_must() {
    for seed in 0..300 {
        let mut rng = rng::from_seed(seed);
        let counts: BTreeMap<TopicId, u32> =
            (0..rng.random_range(1..4)).map(|it| (topic(it), rng.random_range(0..9))).collect();
        let topics: BTreeSet<TopicId> = counts.keys().copied().collect();
        let mut case = Case { counts, members: BTreeMap::new(), before: BTreeMap::new() };
        for number in 0..20 {
            let before = case.before.clone();
            let is_joining = case.members.len() < 2 || rng.random_bool(0.6);
            if is_joining {
                case.members.insert(format!("m{number}").into(), topics.clone());
            } else {
                let position = rng.random_range(0..case.members.len());
                let id = case.members.keys().nth(position).cloned().expect("it is in range");
                case.members.remove(&id);
            }
            let after = case.next(Assignor::Uniform);
            let sizes: Vec<usize> = after.values().map(size).collect();
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            assert!(most.copied() <= least.map(|least| least + 1), "seed {seed}: {sizes:?}");
            let newcomers = after.iter().filter(|(id, _)| !before.contains_key(*id));
            let newcomers: usize = newcomers.map(|(_, share)| size(share)).sum();
            let must = if is_joining { newcomers } else { 0 };
            assert!(moved(&before, &after) <= must, "seed {seed}: more moved than {must}");
        }
    }
}

#[test]
fn members_that_want_different_things_are_as_even_as_single_moves_make_them() {
    for seed in 0..300 {
        let mut rng = rng::from_seed(seed);
        let mut case = Case {
            counts: (0..5).map(|it| (topic(it), rng.random_range(0..7))).collect(),
            members: BTreeMap::new(),
            before: BTreeMap::new(),
        };
        for _ in 0..10 {
            let id: Arc<str> = format!("m{}", rng.random_range(0..6)).into();
            let topics = (0..5).filter(|_| rng.random_bool(0.5)).map(topic).collect();
            case.members.insert(id, topics);
            let after = case.next(Assignor::Uniform);
            for (giver, share) in &after {
                for (taker, topics) in &case.members {
                    let may_take = share.keys().any(|topic| topics.contains(topic));
                    let is_even = size(share) <= size(&after[taker]) + 1;
                    assert!(!may_take || is_even, "seed {seed}: {giver} should give to {taker}");
                }
            }
        }
    }
}

#[test]
fn range_lets_partitions_of_one_number_meet() {
    for seed in 0..300 {
        let mut rng = rng::from_seed(seed);
        let count = rng.random_range(1..9);
        let counts = BTreeMap::from([(topic(0), count), (topic(1), count), (topic(2), 4)]);
        let mut case = Case { counts, members: BTreeMap::new(), before: BTreeMap::new() };
        for number in 0..10 {
            if 1 < case.members.len() && rng.random_bool(0.4) {
                case.members.pop_first();
            } else {
                case.members.insert(format!("m{number}").into(), (0..3).map(topic).collect());
            }
            let after = case.next(Assignor::Range);
            for (id, share) in &after {
                assert_eq!(share.get(&topic(0)), share.get(&topic(1)), "seed {seed}: {id}");
            }
            let sizes = after.values().map(|share| share.get(&topic(0)).map_or(0, BTreeSet::len));
            let (least, most) = (sizes.clone().min(), sizes.max());
            assert!(most <= least.map(|least| least + 1), "seed {seed}");
        }
    }
}

#[test]
fn static_members_come_first() {
    let counts = BTreeMap::from([(topic(0), 1)]);
    let candidate = |id: &str, instance: Option<&str>| Candidate {
        id: id.into(),
        instance: instance.map(Arc::from),
        topics: BTreeSet::from([topic(0)]),
        share: None,
    };
    for assignor in Assignor::ALL {
        let shares =
            assignor.assign(&counts, vec![candidate("a", None), candidate("b", Some("z"))]);
        assert_eq!(size(&shares["b"]), 1, "{}", assignor.name());
    }
}
