/// A sequence of chances that is the same for the same seed and place (SplitMix64).
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, place: usize) -> Self {
        Self(mixed(mixed(seed) ^ place as u64))
    }

    /// Whether what is as likely as this happens, the next time.
    pub(crate) fn falls(&mut self, probability: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let drawn = (mixed(self.0) >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < probability
    }
}

fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_likely_falls_often() {
        for (probability, expected) in [(0.0, 0..=0), (0.1, 900..=1100), (0.5, 4800..=5200), (1.0, 10_000..=10_000)] {
            for (seed, place) in [(0, 0), (0, 1), (1, 0), (u64::MAX, 7)] {
                let mut chance = Chance::new(seed, place);
                let fell = (0..10_000).filter(|_| chance.falls(probability)).count();
                assert!(expected.contains(&fell), "{probability} {seed} {place}: {fell}");
            }
        }
    }

    #[test]
    fn a_sequence_is_given_by_its_seed_and_place() {
        let sequence = |seed, place| {
            let mut chance = Chance::new(seed, place);
            (0..64).map(|_| chance.falls(0.5)).collect::<Vec<_>>()
        };
        assert_eq!(sequence(3, 1), sequence(3, 1));
        for other in [sequence(3, 0), sequence(1, 3), sequence(4, 1)] {
            assert_ne!(sequence(3, 1), other);
        }
    }
}
