//! Pure: the groups that metadata is divided into, and which shard a topic's name belongs to.

use std::fmt;

use rafka_core::TopicName;
use serde::{Deserialize, Serialize};

/// A shard of the metadata, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of things that are agreed on together: one log of commands, one state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Members, sessions, producer ids, node configs.
    Root,
    /// The topics of one arc of the ring.
    Shard(ShardIndex),
}

impl Group {
    /// The group's number on disk: the root is 0, shard `k` is `k + 1`.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Shard(shard) => u32::from(shard.0) + 1,
        }
    }

    /// The group with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        match number.checked_sub(1) {
            None => Some(Self::Root),
            Some(shard) => u16::try_from(shard).ok().map(|shard| Self::Shard(ShardIndex(shard))),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Shard(shard) => write!(f, "shard {shard}"),
        }
    }
}

/// How many shards there are: a power of two from 1 to 1024, fixed when the cluster is founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ShardCount(u16);

impl ShardCount {
    /// Far above what three voters each can use; keeps the tables small.
    pub const MAX: u16 = 1024;

    /// Checks `count`.
    ///
    /// # Errors
    /// If it is not a power of two from 1 to 1024.
    pub fn new(count: u16) -> Result<Self, InvalidShardCount> {
        if count.is_power_of_two() && count <= Self::MAX {
            Ok(Self(count))
        } else {
            Err(InvalidShardCount(count))
        }
    }

    /// The number of shards.
    #[must_use]
    pub fn count(self) -> u16 {
        self.0
    }

    /// The shard that owns topics of this name: the arc of the ring that the name falls on.
    ///
    /// Names that Kafka holds to collide (`a.b` and `a_b`) fall on the same place, so that one
    /// shard alone can refuse the second.
    #[must_use]
    pub fn shard_of(self, name: &TopicName) -> ShardIndex {
        let position = ring_position(name.as_str().bytes().map(fold));
        // Shard k owns the positions from k * 2^64 / S on: the position's first log2(S) bits.
        let shard = (u128::from(position) * u128::from(self.0)) >> 64;
        ShardIndex(u16::try_from(shard).expect("below the count of shards, which is a u16"))
    }

    /// Every shard.
    pub fn shards(self) -> impl Iterator<Item = ShardIndex> {
        (0..self.0).map(ShardIndex)
    }
}

impl Default for ShardCount {
    /// 16: one shard a core on the machines that people run brokers on.
    fn default() -> Self {
        Self(16)
    }
}

impl TryFrom<u16> for ShardCount {
    type Error = InvalidShardCount;
    fn try_from(count: u16) -> Result<Self, Self::Error> {
        Self::new(count)
    }
}

impl From<ShardCount> for u16 {
    fn from(count: ShardCount) -> Self {
        count.0
    }
}

/// The number cannot be a number of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shards is {0}, and must be a power of two from 1 to 1024")]
pub struct InvalidShardCount(u16);

/// Kafka turns `.` into `_` in metric names, and so refuses two topics that differ in that alone.
pub(crate) fn fold(byte: u8) -> u8 {
    if byte == b'.' { b'_' } else { byte }
}

/// Where bytes fall on the 64-bit ring: FNV-1a, then the 64-bit finaliser of `MurmurHash3`.
///
/// The finaliser spreads the last bytes over the high bits, which choose the arc. The function
/// never changes: it decides where committed topics are looked for.
#[must_use]
pub fn ring_position(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName {
        TopicName::new(text).expect("a valid name")
    }

    #[test]
    fn places_on_the_ring_never_change() {
        let check = |text: &str, position: u64| {
            assert_eq!(
                ring_position(text.bytes()),
                position,
                "{text}: {:#x}",
                ring_position(text.bytes())
            );
        };
        check("", 0xefd0_1f60_ba99_2926);
        check("a", 0x82a2_a958_a9be_ce5b);
        check("orders", 0x3252_0fbd_b4da_d5b9);
    }

    #[test]
    fn shards_share_topics_evenly_at_every_count() {
        for count in [1, 2, 16, 64] {
            let shards = ShardCount::new(count).expect("a power of two");
            let mut load = vec![0_u32; usize::from(count)];
            for number in 0..6400 {
                load[usize::from(shards.shard_of(&name(&format!("topic-{number}"))).0)] += 1;
            }
            let fair = 6400 / u32::from(count);
            assert!(load.iter().all(|load| fair / 2 < *load && *load < fair * 2), "{load:?}");
        }
    }

    #[test]
    fn names_that_collide_share_a_shard() {
        let shards = ShardCount::default();
        assert_eq!(shards.shard_of(&name("a.b_c")), shards.shard_of(&name("a_b.c")));
    }

    #[test]
    fn only_powers_of_two_up_to_1024_are_counts() {
        for count in [1, 2, 16, 1024] {
            assert_eq!(ShardCount::new(count).map(ShardCount::count), Ok(count));
        }
        for count in [0, 3, 1000, 2048] {
            assert_eq!(ShardCount::new(count), Err(InvalidShardCount(count)));
        }
    }

    #[test]
    fn a_group_is_found_by_its_number() {
        for group in [Group::Root, Group::Shard(ShardIndex(0)), Group::Shard(ShardIndex(1023))] {
            assert_eq!(Group::from_number(group.number()), Some(group));
        }
        assert_eq!(Group::from_number(u32::MAX), None);
    }
}
