//! Pure: what the leader of a group works out for its members, and what a member reads from it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rafka_client::TopicPartition;
use rafka_core::TopicName;
use rafka_core::assignor::{Assignor, Member};
use rafka_core::consumer_protocol::{Assignment, Error, TopicPartitions};

/// A member as it joined: its id, its static name, its subscription's bytes.
pub(crate) struct Joined {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) metadata: Bytes,
}

/// The members with what they want and have.
pub(crate) fn members(joined: &[Joined]) -> Vec<Member> {
    let member =
        |joined: &Joined| Member::new(joined.id.clone(), joined.instance.clone(), &joined.metadata);
    joined.iter().map(member).collect()
}

/// The topics that any member wants, as far as their names are valid.
pub(crate) fn topics_of(members: &[Member]) -> BTreeSet<TopicName> {
    let names = members.iter().flat_map(|member| &member.topics);
    names.filter_map(|name| TopicName::new(name).ok()).collect()
}

/// Every member's share, by member id.
pub(crate) fn assign(
    assignor: Assignor,
    partition_counts: &BTreeMap<TopicName, u32>,
    members: &[Member],
) -> Result<Vec<(String, Bytes)>, Error> {
    let shares = assignor.assign(partition_counts, members);
    let share = |(id, partitions): (String, BTreeMap<TopicName, Vec<_>>)| {
        let named = |(topic, partitions): (TopicName, Vec<_>)| TopicPartitions {
            topic: topic.to_string(),
            partitions,
        };
        let partitions = partitions.into_iter().map(named).collect();
        Ok((id, Assignment { partitions, user_data: None }.encode()?))
    };
    shares.into_iter().map(share).collect()
}

/// A member's own share. No bytes at all is nothing: the leader did not know the member.
pub(crate) fn read(assignment: &Bytes) -> Result<Vec<TopicPartition>, Error> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let mut partitions = Vec::new();
    for assigned in Assignment::decode(assignment)?.partitions {
        // Another client's leader may name what this one does not hold for a name.
        let Ok(topic) = TopicName::new(&assigned.topic) else { continue };
        let name = |partition| TopicPartition::new(topic.clone(), partition);
        partitions.extend(assigned.partitions.into_iter().map(name));
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}

/// What a member still has, as its subscription tells it to the leader.
pub(crate) fn owned(partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartitions> {
    let mut owned: Vec<TopicPartitions> = Vec::new();
    for TopicPartition { topic, partition } in partitions {
        match owned.last_mut().filter(|last| last.topic == topic.as_str()) {
            Some(last) => last.partitions.push(*partition),
            None => owned
                .push(TopicPartitions { topic: topic.to_string(), partitions: vec![*partition] }),
        }
    }
    owned
}

#[cfg(test)]
mod tests {
    use rafka_core::consumer_protocol::Subscription;

    use super::*;

    fn joined(id: &str, topics: &[&str]) -> Joined {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let metadata = Subscription::new(topics).encode().expect("short texts");
        Joined { id: id.to_owned(), instance: None, metadata }
    }

    #[test]
    fn what_the_leader_writes_the_members_read() {
        let mut joined = vec![joined("a", &["t"]), joined("b", &["t", "no/name"])];
        joined.push(Joined {
            id: "c".to_owned(),
            instance: None,
            metadata: Bytes::from_static(&[0xff; 3]),
        });
        let members = members(&joined);
        let topics = topics_of(&members);
        assert_eq!(topics.iter().map(TopicName::as_str).collect::<Vec<_>>(), ["t"]);
        let counts = topics.into_iter().map(|topic| (topic, 3)).collect();
        let shares = assign(Assignor::Range, &counts, &members).expect("short texts");
        let sizes: Vec<_> = shares
            .iter()
            .map(|(id, share)| (id.as_str(), read(share).expect("sound").len()))
            .collect();
        assert_eq!(sizes, [("a", 2), ("b", 1), ("c", 0)]);
        assert_eq!(read(&Bytes::new()), Ok(Vec::new()));
        assert!(read(&Bytes::from_static(&[0])).is_err());
    }
}
