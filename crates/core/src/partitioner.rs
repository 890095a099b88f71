//! Pure: which partition a key belongs to, as Kafka's clients decide it.

/// The partition of `key` among `partition_count`: murmur2, as in the Java client.
///
/// # Panics
/// If `partition_count` is 0: a topic has partitions.
#[must_use]
pub fn partition_of_key(key: &[u8], partition_count: u32) -> u32 {
    assert!(0 < partition_count, "a topic has at least one partition");
    (murmur2(key) & 0x7fff_ffff) % partition_count
}

/// The 32-bit MurmurHash2 with Kafka's seed.
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).expect("keys are bounded far below 4 GiB");
    let mut hash = SEED ^ length;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let word: [u8; 4] = word.try_into().expect("chunks of four have four bytes");
        let mut mixed = u32::from_le_bytes(word).wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MIX) ^ mixed.wrapping_mul(MIX);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (index, byte) in (0_u32..).zip(tail) {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_java_client() {
        // The vectors of Kafka's own UtilsTest.
        let check =
            |key: &str, hash: i32| assert_eq!(murmur2(key.as_bytes()), hash.cast_unsigned());
        check("21", -973_932_308);
        check("foobar", -790_332_482);
        check("a-little-bit-long-string", -985_981_536);
        check("a-little-bit-longer-string", -1_486_304_829);
        check("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971);
        check("abc", 479_470_107);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let hit: std::collections::BTreeSet<u32> =
            (0..100_u32).map(|key| partition_of_key(&key.to_be_bytes(), 8)).collect();
        assert_eq!(hit.len(), 8);
    }
}
