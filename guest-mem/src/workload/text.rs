//! Text by key: words by rank with numbers, marks and phrases that come again, no two pages alike.
//!
//! zstd shrinks many pages of it 3.2 times at level 1 and 3.5 times at level 3, alike whether it has seen one MiB of
//! them or a hundred: as prose and logs, and unlike text that is cut from one small pool.

use super::generate::random_word;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::sync::OnceLock;

const PIECES: usize = 1 << 10;
/// Room for the longest word with a number behind it.
const PIECE_BYTES: usize = 32;
/// How much the text repeats of itself.
const PHRASE_BYTES: std::ops::Range<usize> = 24..56;

const WORDS: &str = "the of and to in is that for it as was with be by on not he his but at are this have from or had an \
    they which one you were all her she there would their we him been has when who will no more if out so what up said \
    about than its into them can only other time new some could these two may first then do any like my now over such \
    our man me even most made after also did many off before must well back through years where much your way down \
    should because long each just state those people too mister how little good world make very year still see own \
    work men day get here between both life being under three never know same last another while us might great go \
    come since against right came take used himself few house american use place during high without again home around \
    small however found mrs part school thought went say general once upon every left war don does got united number \
    hand course water until always away public something fact less though far put head think called set almost enough \
    end took government night yet better nothing system eyes told eye going asked later knew point next program city \
    business give group toward days young let room order side present second possible rather given several per often \
    error warning status request response GET POST HTTP/1.1 200 404 true false null select insert update where id name value \
    user session 127.0.0.1 2024-11-05T12:30:00Z INFO DEBUG WARN connection timeout bytes pages cluster member device link";

/// A word and what stands behind it.
#[derive(Clone, Copy)]
struct Piece {
    bytes: [u8; PIECE_BYTES],
    len_bytes: usize,
}

fn piece(words: &[&str], random: &mut impl Rng) -> Piece {
    let value = random.next_u64();
    let draw = |shift: u32| (value >> shift & 0xFFFF) as usize % words.len();
    // The smaller of two draws leans to the frequent words at the front.
    let word = words[draw(0).min(draw(16))];
    let text = match value >> 56 {
        0..8 => format!("{word} {} ", value >> 40 & 0xFFFF),
        8..24 => format!("{word}, "),
        24..36 => format!("{word}.\n"),
        _ => format!("{word} "),
    };
    let mut bytes = [0; PIECE_BYTES];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    Piece { bytes, len_bytes: text.len() }
}

fn pieces() -> &'static [Piece; PIECES] {
    static TABLE: OnceLock<Box<[Piece; PIECES]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(0x7E87);
        Box::new(std::array::from_fn(|_| piece(&words, &mut random)))
    })
}

/// Makes the table of words now rather than at the first page, which could lie in a blackout.
pub(super) fn prepare() {
    let _ = pieces();
}

/// Fills `body` with text: the same for the same key.
pub(super) fn fill(key: u64, body: &mut [u8]) {
    let pieces = pieces();
    let mut at = 0;
    for index in 1.. {
        let mut value = random_word(key, index);
        for _ in 0..5 {
            let piece = &pieces[value as usize % PIECES];
            value /= PIECES as u64;
            let room = &mut body[at..];
            match room.first_chunk_mut() {
                Some(whole) => *whole = piece.bytes,
                None => {
                    let kept = room.len().min(piece.len_bytes);
                    room[..kept].copy_from_slice(&piece.bytes[..kept]);
                }
            }
            at += piece.len_bytes;
            if at >= body.len() {
                return;
            }
        }
        // The 14 bits that are left: one time in four a phrase from further up.
        if value & 3 == 0 {
            at += repeat(body, at, value as usize >> 2);
            if at >= body.len() {
                return;
            }
        }
    }
}

/// Writes at `at` what stands up to 1 KiB before it; gives back its length. `value` has 12 bits.
fn repeat(body: &mut [u8], at: usize, value: usize) -> usize {
    let len_bytes = PHRASE_BYTES.start + value % PHRASE_BYTES.len();
    let Some(from) = at.checked_sub(PHRASE_BYTES.end + (value >> 2)) else { return 0 };
    let len_bytes = len_bytes.min(body.len() - at);
    body.copy_within(from..from + len_bytes, at);
    len_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: usize = 4096;
    const BODY_BYTES: usize = 4064;

    fn pages() -> Vec<u8> {
        let mut text = vec![0; PAGES * BODY_BYTES];
        for (key, body) in text.chunks_exact_mut(BODY_BYTES).enumerate() {
            fill(super::super::generate::mix(key as u64), body);
        }
        text
    }

    #[test]
    fn it_is_words_to_the_last_byte() {
        let text = pages();
        let seen: std::collections::BTreeSet<u8> = text.iter().copied().collect();
        assert!(seen.iter().all(|byte| byte.is_ascii_graphic() || b" \n".contains(byte)), "{seen:?}");
    }

    #[test]
    fn a_body_of_any_length_is_filled_alike() {
        let mut whole = [0; BODY_BYTES];
        fill(7, &mut whole);
        for len_bytes in 0..=BODY_BYTES {
            let mut part = vec![0; len_bytes];
            fill(7, &mut part);
            assert_eq!(part, whole[..len_bytes], "{len_bytes} bytes");
        }
    }

    #[test]
    fn it_shrinks_threefold_however_much_of_it_a_compressor_has_seen() {
        let text = pages();
        let ratio =
            |text: &[u8], level| text.len() as f64 / zstd::bulk::compress(text, level).unwrap().len() as f64;
        let whole = [ratio(&text, 1), ratio(&text, 3)];
        let part = [ratio(&text[..1 << 20], 1), ratio(&text[..1 << 20], 3)];
        println!("16 MiB: {whole:.2?}, 1 MiB: {part:.2?}");
        for (whole, part) in whole.iter().zip(part) {
            assert!((2.8..3.8).contains(whole) && (2.8..3.8).contains(&part) && *whole < part * 1.1);
        }
    }
}
