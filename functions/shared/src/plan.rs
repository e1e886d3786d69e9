//! How many functions copy an image side by side, and which blobs each of them takes.

use crate::contract::{Blob, Shard};

/// The least that a function is started for, in bytes: what one environment's 625 Mbit/s move in some three seconds,
/// several times what it costs to start.
const LEAST: u64 = 256 * 1024 * 1024;

/// The most blobs that are handed out by name: Step Functions carries 256 KiB.
const MOST_BLOBS: usize = 1000;

/// The shards in which `blobs` are copied the soonest, at most `most` of them: none where one function does it as
/// well.
///
/// The largest blob goes first, each to the shard that has the fewest bytes. Of several numbers of shards that end at
/// nearly the same time, the smallest is taken: where one blob outweighs the rest, more shards would not help.
#[must_use]
pub fn shards(mut blobs: Vec<Blob>, most: usize) -> Vec<Shard> {
    let bytes: u64 = blobs.iter().map(|blob| blob.size).sum();
    let most = most.min(usize::try_from(bytes / LEAST).unwrap_or(usize::MAX)).min(blobs.len());
    if most < 2 || blobs.len() > MOST_BLOBS {
        return Vec::new();
    }
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    let soonest = heaviest(&divide(&blobs, most));
    let enough = (1..=most).find(|&count| heaviest(&divide(&blobs, count)) <= soonest + soonest / 10).unwrap_or(most);
    if enough < 2 { Vec::new() } else { divide(&blobs, enough) }
}

fn divide(blobs: &[Blob], count: usize) -> Vec<Shard> {
    let mut shards: Vec<(u64, Shard)> = (0..count).map(|_| (0, Shard { layers: Vec::new() })).collect();
    for blob in blobs {
        if let Some((bytes, shard)) = shards.iter_mut().min_by_key(|(bytes, shard)| (*bytes, shard.layers.len())) {
            *bytes += blob.size;
            shard.layers.push(blob.clone());
        }
    }
    shards.into_iter().map(|(_, shard)| shard).collect()
}

/// The bytes of the shard that ends last.
fn heaviest(shards: &[Shard]) -> u64 {
    shards.iter().map(|shard| shard.layers.iter().map(|blob| blob.size).sum()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::names::Digest;

    const MIB: u64 = 1024 * 1024;

    fn blobs(sizes: &[u64]) -> Vec<Blob> {
        let blob = |(number, size): (usize, &u64)| Blob {
            digest: Digest::of(&number.to_le_bytes()),
            size: *size,
            of_referrer: false,
        };
        sizes.iter().enumerate().map(blob).collect()
    }

    fn bytes(shard: &Shard) -> u64 {
        shard.layers.iter().map(|blob| blob.size).sum()
    }

    #[test]
    fn one_function_copies_what_it_copies_as_well() {
        for sizes in [&[][..], &[8], &[1024], &[255, 255], &[100; 5], &[4096, 10, 10]] {
            let sizes: Vec<u64> = sizes.iter().map(|size| size * MIB).collect();
            assert_eq!(shards(blobs(&sizes), 8), [], "{sizes:?}");
        }
        assert_eq!(shards(blobs(&[1024 * MIB; 8]), 1), []);
    }

    #[test]
    fn no_more_shards_than_help() {
        for (sizes, wanted) in
            [(&[256, 256][..], 2), (&[256; 16], 4), (&[2048, 700, 700, 700], 2), (&[2048, 2048, 10], 2)]
        {
            let sizes: Vec<u64> = sizes.iter().map(|size| size * MIB).collect();
            assert_eq!(shards(blobs(&sizes), 4).len(), wanted, "{sizes:?}");
        }
    }

    #[test]
    fn blobs_without_number_are_not_handed_out() {
        assert_eq!(shards(blobs(&vec![MIB; MOST_BLOBS + 1]), 4), []);
    }

    proptest! {
        #[test]
        fn each_blob_is_in_one_shard_and_the_shards_are_even(
            sizes in prop::collection::vec(prop_oneof![0..MIB, 0..3000 * MIB], 0..60),
            most in 1usize..40,
        ) {
            let blobs = blobs(&sizes);
            let shards = shards(blobs.clone(), most);
            if shards.is_empty() {
                return Ok(());
            }
            prop_assert!((2..=most).contains(&shards.len()));
            let handed_out: Vec<&Blob> = shards.iter().flat_map(|shard| &shard.layers).collect();
            prop_assert_eq!(handed_out.len(), blobs.len());
            let distinct: HashSet<&Blob> = handed_out.into_iter().collect();
            prop_assert_eq!(distinct, blobs.iter().collect::<HashSet<_>>());

            let total: u64 = sizes.iter().sum();
            prop_assert!(total >= shards.len() as u64 * LEAST, "a function is started for less than it is worth");
            // What the greedy division is known to keep to: the heaviest shard has at most an even share and one blob.
            let largest = sizes.iter().copied().max().unwrap_or(0);
            let heaviest = shards.iter().map(bytes).max().unwrap_or(0);
            prop_assert!(heaviest <= total / shards.len() as u64 + largest);
            prop_assert!(heaviest < total, "the shards are no sooner than one function");
            for shard in &shards {
                prop_assert!(shard.layers.is_sorted_by_key(|blob| std::cmp::Reverse(blob.size)));
            }
        }
    }
}
