//! Which pages of a chunk belong side by side, so that it packs well.
//!
//! zstd writes one table of byte frequencies for each 128 KiB, and its table is a poor one for all of them where pages of
//! text, of pointers and of random bytes take turns. Guest memory is like that. With the pages of each kind together a
//! chunk of such a mix becomes a tenth smaller at level 1, and is packed faster. Pages that look random stay in the
//! frame: zstd passes over them quickly, and still finds two that are the same.

use guest_mem::PAGE_SIZE;

/// Bytes of a word that is looked at.
const WORD_BYTES: usize = 8;
/// From one word that is looked at to the next: no power of two, so that arrays of structures do not show one field only.
const STEP_BYTES: usize = 33 * WORD_BYTES;
/// Words that are looked at.
const WORDS: usize = (PAGE_SIZE - WORD_BYTES) / STEP_BYTES + 1;
const SAMPLE_BYTES: usize = WORDS * WORD_BYTES;
/// Equal pairs among the sampled bytes, if all values are equally frequent.
const EVEN_PAIRS: usize = SAMPLE_BYTES * (SAMPLE_BYTES - 1) / 2 / 256;

/// How the bytes of a page are distributed, from a sample of them. In the order in which pages go into a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Texture {
    /// Some values are more frequent than others: text, code.
    Text,
    /// At least a quarter is zero: pointers, integers, sparse structures.
    Words,
    /// All values are about as frequent: packed or encrypted.
    Noise,
}

impl Texture {
    /// All, in their order.
    pub const ALL: [Self; 3] = [Self::Text, Self::Words, Self::Noise];

    /// The texture of a page. Looks at 128 bytes of it.
    pub fn of(page: &[u8; PAGE_SIZE]) -> Self {
        let (mut counts, mut pairs) = ([0u8; 256], 0);
        for word in 0..WORDS {
            let at = word * STEP_BYTES;
            for byte in &page[at..at + WORD_BYTES] {
                let count = &mut counts[usize::from(*byte)];
                pairs += usize::from(*count);
                *count += 1;
            }
        }
        if usize::from(counts[0]) * 4 >= SAMPLE_BYTES {
            Self::Words
        } else if pairs < 2 * EVEN_PAIRS {
            Self::Noise
        } else {
            Self::Text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64) -> [u8; PAGE_SIZE] {
        let mut state = seed;
        std::array::from_fn(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
    }

    #[test]
    fn the_sample_ends_inside_the_page_and_its_counts_fit_a_byte() {
        const { assert!((WORDS - 1) * STEP_BYTES + WORD_BYTES <= PAGE_SIZE) };
        assert_eq!(SAMPLE_BYTES, 128);
        assert_eq!(Texture::of(&[0; PAGE_SIZE]), Texture::Words);
        assert_eq!(Texture::of(&[7; PAGE_SIZE]), Texture::Text);
    }

    #[test]
    fn arrays_of_structures_show_all_their_fields() {
        // 64 and 128 bytes long; all but one word of each are random.
        for words in [8, 16] {
            let mut page = noise(1);
            for word in page.as_chunks_mut::<WORD_BYTES>().0.iter_mut().step_by(words) {
                word.fill(0);
            }
            assert_ne!(Texture::of(&page), Texture::Words, "a few are zero");
            for (at, word) in page.as_chunks_mut::<WORD_BYTES>().0.iter_mut().enumerate() {
                if at % words != 1 {
                    word.fill(0);
                }
            }
            assert_eq!(Texture::of(&page), Texture::Words, "all but a few are zero");
        }
    }

    proptest! {
        #[test]
        fn random_pages_are_noise(seed: u64) {
            prop_assert_eq!(Texture::of(&noise(seed)), Texture::Noise);
        }

        #[test]
        fn pages_of_printable_bytes_are_text(seed: u64) {
            let page = noise(seed).map(|byte| b' ' + byte % 64);
            prop_assert_eq!(Texture::of(&page), Texture::Text);
        }

        #[test]
        fn pointers_are_words(seed: u64) {
            let mut page = noise(seed);
            page.as_chunks_mut::<WORD_BYTES>().0.iter_mut().for_each(|word| word[5..].copy_from_slice(&[0x7F, 0, 0]));
            prop_assert_eq!(Texture::of(&page), Texture::Words);
        }
    }
}
