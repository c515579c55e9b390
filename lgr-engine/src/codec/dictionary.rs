//! What pages from all over the guest have in common, told once, so that every chunk can refer to it.
//!
//! A chunk is packed by itself: it may go out again, on another queue and in another order, so it cannot look back at the
//! chunks before it, as a stream does. A dictionary gives it something to look back at all the same. It is nothing but
//! bytes of pages (zstd calls that raw content), so a frame that was made without it unpacks with it, too, and the
//! source may begin to use it in the middle of a pass, once the destination has said that it is there.

use guest_mem::{PAGE_SIZE, PageNumber, Runs, Storage, copy_zero};
use zstd::zstd_safe::{CDict, DDict};

use super::packer::Packer;
use crate::message::TAIL_LEN_BYTES_MAX;

/// Longest dictionary, in bytes. Twice as much gains another two parts in a hundred, and takes 32 MiB more of each side.
pub const DICTIONARY_LEN_BYTES_MAX: usize = 1 << 20;
/// A dictionary is no more than this part of what it is made for.
const PARTS_OF_TOUCHED: u64 = 64;
/// A guest that has touched less gets none: it is moved before one has paid for itself.
pub(super) const TOUCHED_PAGES_MIN: u64 = (32 << 20) / PAGE_SIZE as u64;
/// So many pages are looked at for each one that is taken.
const TRIES_PER_PAGE: u64 = 2;
/// A page is worth its place if it packs to this share of itself, in tenths.
const WORTH_TENTHS: usize = 7;
/// What the packed dictionary is packed with itself.
const LEVEL: i32 = 3;
/// With these bytes zstd's own trained dictionaries begin; they hold more than content.
const TRAINED_MAGIC: [u8; 4] = 0xEC30_A437_u32.to_le_bytes();

/// Bytes for a dictionary for `touched`, without the pages of `not_of`; empty if few pages pack.
pub(crate) fn gather(storage: &Storage, touched: &Runs, not_of: &Runs, packer: &mut Packer) -> Vec<u8> {
    let pages = touched.pages().get();
    if pages < TOUCHED_PAGES_MIN {
        return Vec::new();
    }
    let most = (pages / PARTS_OF_TOUCHED).min((DICTIONARY_LEN_BYTES_MAX / PAGE_SIZE) as u64);
    let step = pages / (most * TRIES_PER_PAGE); // 32 at least
    let (mut bytes, mut out) = (Vec::with_capacity(most as usize * PAGE_SIZE), [0; PAGE_SIZE]);
    for page in some(touched, step).filter(|page| !not_of.contains(*page)) {
        if bytes.len() == most as usize * PAGE_SIZE {
            break;
        }
        let copy = &mut packer.copy[..PAGE_SIZE];
        // SAFETY: the page lies in the storage; it may change while it is copied, and any bytes will do.
        let zero = unsafe { copy_zero(storage.page_ptr(page), copy) };
        if !zero && packer.fits(PAGE_SIZE, &mut out[..PAGE_SIZE * WORTH_TENTHS / 10]) {
            bytes.extend_from_slice(&packer.copy[..PAGE_SIZE]);
        }
    }
    if bytes.starts_with(&TRAINED_MAGIC) {
        bytes.drain(..PAGE_SIZE);
    }
    bytes
}

/// One page of every `step` pages of `touched`, now here and now there, as guests like even distances themselves.
fn some(touched: &Runs, step: u64) -> impl Iterator<Item = PageNumber> {
    let place = move |number: u64| number * step + (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % step;
    let (mut number, mut before) = (0, 0);
    touched.iter().flat_map(move |run| {
        let (start, first) = (run.start.get(), number);
        let (skipped, end) = (before, before + run.pages.get());
        while place(number) < end {
            number += 1;
        }
        before = end;
        (first..number).map(move |number| PageNumber(start + place(number) - skipped))
    })
}

/// Packs `bytes` for a message, cut to what a message holds.
pub(crate) fn to_message(bytes: &mut Vec<u8>) -> std::io::Result<Vec<u8>> {
    loop {
        let packed = zstd::bulk::compress(bytes, LEVEL)?;
        if packed.len() <= TAIL_LEN_BYTES_MAX {
            return Ok(packed);
        }
        bytes.truncate(bytes.len() / 2);
    }
}

/// The destination's side.
pub struct UnpackDictionary(DDict<'static>);

impl std::fmt::Debug for UnpackDictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnpackDictionary").finish_non_exhaustive()
    }
}

impl UnpackDictionary {
    /// What a message told. Anything may be in it.
    ///
    /// # Errors
    /// In words, if it is no dictionary.
    pub fn from_message(packed: &[u8]) -> Result<Self, String> {
        let bytes = zstd::bulk::decompress(packed, DICTIONARY_LEN_BYTES_MAX).map_err(|error| {
            format!("a dictionary of at most {DICTIONARY_LEN_BYTES_MAX} bytes cannot be unpacked: {error}")
        })?;
        if bytes.is_empty() || bytes.starts_with(&TRAINED_MAGIC) {
            return Err("a dictionary that is not content".to_owned());
        }
        DDict::try_create(&bytes).map(Self).ok_or_else(|| "a dictionary: zstd finds no memory".to_owned())
    }

    pub(super) fn prepared(&self) -> &DDict<'static> {
        &self.0
    }
}

/// The source's side: ready for each level that may be used.
pub struct PackDictionary {
    len_bytes: u64,
    levels: Vec<(i32, CDict<'static>)>,
}

impl std::fmt::Debug for PackDictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackDictionary").field("len_bytes", &self.len_bytes).finish_non_exhaustive()
    }
}

impl PackDictionary {
    /// Ready for `levels`; `None` if zstd finds no memory.
    pub(crate) fn new(bytes: &[u8], levels: &[i32]) -> Option<Self> {
        let ready = |level: &i32| CDict::try_create(bytes, *level).map(|dictionary| (*level, dictionary));
        let levels = levels.iter().map(ready).collect::<Option<_>>()?;
        Some(Self { len_bytes: bytes.len() as u64, levels })
    }

    /// For chunks that are packed at `level`.
    pub(super) fn at(&self, level: i32) -> Option<&CDict<'static>> {
        self.levels.iter().find(|(at, _)| *at == level).map(|(_, dictionary)| dictionary)
    }

    /// Its length.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::packer::Unpacker;
    use guest_mem::{Run, StorageOptions};

    const PAGES: u64 = 16 << 10;

    /// Pages that share sentences with pages far away, and in every fourth nothing at all.
    fn storage() -> Storage {
        let storage = Storage::create(&StorageOptions::small(PAGES * PAGE_SIZE as u64)).unwrap();
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        };
        let sentences: Vec<Vec<u8>> =
            (0..200).map(|_| (0..97).map(|_| b'a' + (random() % 26) as u8).collect()).collect();
        for page in 0..PAGES {
            let mut bytes: Vec<u8> = Vec::new();
            while bytes.len() < PAGE_SIZE {
                match page % 4 {
                    0 => bytes.push(random() as u8),
                    _ => bytes.extend_from_slice(&sentences[random() as usize % sentences.len()]),
                }
            }
            storage.write_bytes(PageNumber(page), 0, &bytes[..PAGE_SIZE]);
        }
        storage
    }

    fn all() -> Runs {
        Runs::from_run(Run::new(0, PAGES))
    }

    #[test]
    fn some_pages_of_every_run_are_taken_and_none_between_them() {
        let touched = Runs::from_unsorted(vec![Run::new(10, 3), Run::new(100, 1000), Run::new(5000, 1)]);
        let pages: Vec<u64> = some(&touched, 4).map(|page| page.get()).collect();
        assert_eq!(pages.len(), 251);
        assert!(pages.is_sorted() && pages.iter().all(|page| touched.contains(PageNumber(*page))));
        let places = |place| pages.iter().filter(|page| *page % 4 == place).count();
        assert!((0..4).all(|place| places(place) > 40), "{pages:?}");
        assert_eq!(some(&touched, 1).count(), 1004);
        assert_eq!(some(&Runs::new(), 4).count(), 0);
    }

    #[test]
    fn a_chunk_refers_to_pages_that_are_not_in_it() {
        let (storage, mut packer) = (storage(), Packer::new(1).unwrap());
        let not_of = Runs::from_run(Run::new(0, 64));
        let mut bytes = gather(&storage, &all(), &not_of, &mut packer);
        assert_eq!(bytes.len() as u64, PAGES / PARTS_OF_TOUCHED * PAGE_SIZE as u64);
        let message = to_message(&mut bytes).unwrap();
        let source = PackDictionary::new(&bytes, &[3]).unwrap();
        let destination = UnpackDictionary::from_message(&message).unwrap();
        let chunk = 8 * PAGE_SIZE;
        for (page, bytes) in packer.copy.as_chunks_mut().0.iter_mut().take(8).enumerate() {
            storage.read_page(PageNumber(page as u64), bytes);
        }
        let content = packer.copy[..chunk].to_vec();
        let mut frame = |dictionary| {
            let mut out = vec![0; chunk];
            let len = packer.pack_with(dictionary, chunk, 3, &mut out).unwrap();
            out.truncate(len);
            out
        };
        let (alone, together) = (frame(None), frame(Some(&source)));
        assert!(together.len() * 5 < alone.len() * 4, "{} against {}", together.len(), alone.len());
        let mut unpacker = Unpacker::new().unwrap();
        // What was made before the dictionary was there unpacks, too.
        for frame in [&together, &alone] {
            let unpacked = unpacker.unpack_with(Some(&destination), frame, chunk as u64).unwrap();
            assert_eq!(unpacked, content);
        }
        assert!(unpacker.unpack(&together, chunk as u64).is_err());
    }

    #[test]
    fn a_small_guest_and_one_that_does_not_pack_have_none() {
        let storage = storage();
        let mut packer = Packer::new(1).unwrap();
        let small = Runs::from_run(Run::new(0, TOUCHED_PAGES_MIN - 1));
        assert!(gather(&storage, &small, &Runs::new(), &mut packer).is_empty());
        let noise: Runs = (0..PAGES / 4).map(|page| Run::new(page * 4, 1)).collect();
        let twice: Runs = noise.union(&Runs::from_run(Run::new(0, 1)));
        assert!(gather(&storage, &twice, &Runs::new(), &mut packer).is_empty());
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        let pack = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
        let trained = [&TRAINED_MAGIC[..], &[1; 4096]].concat();
        for (bytes, what) in [
            (vec![], "not content"),
            (b"no frame".to_vec(), "a dictionary of at most"),
            (pack(&[7; DICTIONARY_LEN_BYTES_MAX + 1]), "a dictionary of at most"),
            (pack(&[]), "not content"),
            (pack(&trained), "not content"),
        ] {
            let error = UnpackDictionary::from_message(&bytes).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        assert!(UnpackDictionary::from_message(&pack(&[7; DICTIONARY_LEN_BYTES_MAX])).is_ok());
    }

    #[test]
    fn one_that_does_not_fit_a_message_is_cut() {
        let mut state = 1u64;
        let mut bytes: Vec<u8> = (0..DICTIONARY_LEN_BYTES_MAX)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let message = to_message(&mut bytes).unwrap();
        assert!(message.len() <= TAIL_LEN_BYTES_MAX && bytes.len() == DICTIONARY_LEN_BYTES_MAX / 4);
        assert!(UnpackDictionary::from_message(&message).is_ok());
    }
}
