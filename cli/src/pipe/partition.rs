//! To which partition a document belongs: the rule of Kafka's own producers, so that both brokers agree.

/// The partition of a document, from 0 to `partitions - 1`: murmur2 of its id's text, without the sign, modulo the
/// number of partitions (Kafka, `BuiltInPartitioner.partitionForKey`). It stays the same for ever.
pub(crate) fn of(document_id: &str, partitions: u32) -> u32 {
    (murmur2(document_id.as_bytes()) & 0x7fff_ffff) % partitions.max(1)
}

/// As in Kafka's `Utils.murmur2`.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Kafka's own test of it.
    #[test]
    fn the_hash_is_that_of_kafka() {
        for (text, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), expected as u32, "{text}");
        }
    }

    #[test]
    fn a_partition_is_one_of_them() {
        for id in ["", "1", "abc", "\u{fffd}"] {
            assert_eq!(of(id, 1), 0);
            assert!(of(id, 7) < 7);
        }
        assert_eq!(of("abc", 16), 479_470_107 % 16);
        assert_eq!(of("foobar", 16), (-790_332_482_i32 as u32 & 0x7fff_ffff) % 16);
    }
}
