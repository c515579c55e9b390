//! One zstd context per queue and direction, made before the first pass and used for every chunk.
//!
//! Both work on private buffers. The source's copy does not change while it is packed. The destination unpacks beside
//! guest storage and copies what came out, for two reasons: a decompressor reads back what it has written, and two
//! copies of one transfer, of which one was thought lost, may arrive at the same time on two devices; and a frame that
//! turns out to be wrong has not touched the guest.

use guest_mem::PAGE_SIZE;
use isfc::frame::BODY_LEN_BYTES_MAX;
use zstd::zstd_safe::{CCtx, DCtx, get_error_name};

use super::LEVELS;
use super::dictionary::{PackDictionary, UnpackDictionary};
use super::texture::Texture;

/// Chunks that gained nothing, in a row, after which the source tries ever fewer: up to one in 64.
const TRIES_MAX_SHIFT: u32 = 6;
/// A chunk is sent packed if that saves at least one part in so many.
const GAIN_MIN_PARTS: usize = 16;

/// The source's side of one queue.
pub struct Packer {
    context: CCtx<'static>,
    /// Private copy of the pages of a chunk, [`BODY_LEN_BYTES_MAX`] bytes.
    pub copy: Vec<u8>,
    /// See [`Self::arrange`].
    order: Vec<u16>,
    arranges: bool,
    /// Chunks in a row that gained nothing.
    in_vain: u32,
    /// Chunks that are not to be tried any more for now.
    skip: u32,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("in_vain", &self.in_vain).finish_non_exhaustive()
    }
}

impl Packer {
    /// A context that is ready: its memory for `level` has been used once.
    ///
    /// # Errors
    /// zstd finds no memory.
    pub fn new(level: i32) -> std::io::Result<Self> {
        let context = CCtx::try_create().ok_or(std::io::ErrorKind::OutOfMemory)?;
        let copy = vec![0; BODY_LEN_BYTES_MAX as usize];
        let order = Vec::with_capacity(copy.len() / PAGE_SIZE);
        let mut packer = Self { context, copy, order, arranges: true, in_vain: 0, skip: 0 };
        let mut out = vec![0; 1 << 12];
        // A chunk of zeros becomes a few dozen bytes.
        let tried = packer.context.compress(&mut out[..], &packer.copy, level);
        tried.map_err(|code| std::io::Error::other(get_error_name(code)))?;
        Ok(packer)
    }

    /// Pages stay in their order, for a peer that takes no other.
    #[must_use]
    pub fn arranging(self, arranges: bool) -> Self {
        Self { arranges, ..self }
    }

    /// Is the next chunk worth a try? Content that does not pack is tried ever more seldom.
    pub fn is_worth_a_try(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        true
    }

    /// Puts the pages in the first `len` bytes of the copy into the order in which they pack best, and gives that order:
    /// which page was moved to each place. `scratch` is as long as the copy, and what is in it afterwards means nothing.
    pub fn arrange(&mut self, len: usize, scratch: &mut Vec<u8>) -> &[u16] {
        let pages = self.copy[..len].as_chunks::<PAGE_SIZE>().0;
        let mut textures = [Texture::Text; (BODY_LEN_BYTES_MAX as usize).div_ceil(PAGE_SIZE)];
        let textures = &mut textures[..pages.len()];
        if self.arranges {
            textures.iter_mut().zip(pages).for_each(|(texture, page)| *texture = Texture::of(page));
        }
        self.order.clear();
        for wanted in Texture::ALL {
            let of_it = (0..).zip(&*textures).filter(|(_, texture)| **texture == wanted);
            self.order.extend(of_it.map(|(page, _)| page as u16));
        }
        if !textures.is_sorted() {
            for (to, from) in scratch.as_chunks_mut::<PAGE_SIZE>().0.iter_mut().zip(&self.order) {
                *to = pages[usize::from(*from)];
            }
            std::mem::swap(&mut self.copy, scratch);
        }
        &self.order
    }

    /// Packs the first `len` bytes of the copy into `out`, and says how many bytes it became; `None` if they are to go
    /// out as they are.
    pub fn pack(&mut self, len: usize, level: i32, out: &mut [u8]) -> Option<usize> {
        self.pack_with(None, len, level, out)
    }

    /// As [`Self::pack`], with what `dictionary` has for this level.
    pub fn pack_with(
        &mut self,
        dictionary: Option<&PackDictionary>,
        len: usize,
        level: i32,
        out: &mut [u8],
    ) -> Option<usize> {
        // Room for no more than what is worth sending: zstd gives up when it is full.
        let room = (len - len / GAIN_MIN_PARTS).min(out.len());
        let (bytes, out) = (&self.copy[..len], &mut out[..room]);
        let packed = match dictionary.and_then(|dictionary| dictionary.at(level)) {
            Some(prepared) => self.context.compress_using_cdict(out, bytes, prepared).ok(),
            None => self.context.compress(out, bytes, level).ok(),
        };
        match packed {
            Some(_) => self.in_vain = 0,
            None => {
                self.in_vain = (self.in_vain + 1).min(TRIES_MAX_SHIFT);
                self.skip = (1 << self.in_vain) - 1;
            }
        }
        packed
    }
}

impl Packer {
    /// Do the first `len` bytes of the copy fit into `out`, packed at the lowest level?
    pub(super) fn fits(&mut self, len: usize, out: &mut [u8]) -> bool {
        self.context.compress(out, &self.copy[..len], LEVELS.0).is_ok()
    }
}

/// The destination's side of one queue.
pub struct Unpacker {
    context: DCtx<'static>,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

impl Unpacker {
    /// A context that is ready.
    ///
    /// # Errors
    /// zstd finds no memory.
    pub fn new() -> std::io::Result<Self> {
        let context = DCtx::try_create().ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { context, bytes: vec![0; BODY_LEN_BYTES_MAX as usize] })
    }

    /// What `payload` becomes, which must be exactly `len` bytes.
    ///
    /// # Errors
    /// In words, if `payload` is no zstd frame, or becomes more or fewer bytes. Nothing is ever written beyond `len`.
    pub fn unpack(&mut self, payload: &[u8], len: u64) -> Result<&[u8], String> {
        self.unpack_with(None, payload, len)
    }

    /// As [`Self::unpack`], for a payload that may refer to `dictionary`.
    ///
    /// # Errors
    /// As for [`Self::unpack`].
    pub fn unpack_with(
        &mut self,
        dictionary: Option<&UnpackDictionary>,
        payload: &[u8],
        len: u64,
    ) -> Result<&[u8], String> {
        let room = usize::try_from(len).ok().and_then(|len| self.bytes.get_mut(..len));
        let room = room.ok_or_else(|| format!("{len} bytes are more than a transfer has"))?;
        let unpacked = match dictionary {
            Some(dictionary) => self.context.decompress_using_ddict(room, payload, dictionary.prepared()),
            None => self.context.decompress(room, payload),
        };
        match unpacked {
            Ok(unpacked) if unpacked as u64 == len => Ok(room),
            Ok(unpacked) => Err(format!("a packed payload becomes {unpacked} bytes in place of {len}")),
            Err(code) => {
                Err(format!("a packed payload does not become {len} bytes: {}", get_error_name(code)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(bytes: &[u8], level: i32) -> Option<Vec<u8>> {
        let mut packer = Packer::new(1).unwrap();
        packer.copy[..bytes.len()].copy_from_slice(bytes);
        let mut out = vec![0; BODY_LEN_BYTES_MAX as usize];
        packer.pack(bytes.len(), level, &mut out).map(|len| out[..len].to_vec())
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let next = |state: &mut u64| {
            *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (*state >> 56) as u8
        };
        (0..len).map(|_| next(&mut state)).collect()
    }

    #[test]
    fn pages_of_one_texture_come_together_in_their_old_order() {
        let kinds: [fn(usize) -> Vec<u8>; 3] = [
            |_| noise(PAGE_SIZE),
            |page| [0, 0, 0, page as u8].repeat(PAGE_SIZE / 4),
            |page| vec![b'a' + page as u8; PAGE_SIZE],
        ];
        let pages: Vec<Vec<u8>> = (0..9).map(|page| kinds[page % 3](page)).collect();
        let mut packer = Packer::new(1).unwrap();
        let mut scratch = vec![0; packer.copy.len()];
        packer.copy[..9 * PAGE_SIZE].copy_from_slice(&pages.concat());
        let order = [2, 5, 8, 1, 4, 7, 0, 3, 6];
        assert_eq!(packer.arrange(9 * PAGE_SIZE, &mut scratch), order);
        let arranged = order.map(|page| pages[usize::from(page)].clone()).concat();
        assert!(packer.copy[..9 * PAGE_SIZE] == arranged);
        assert_eq!(
            packer.arrange(9 * PAGE_SIZE, &mut scratch),
            [0, 1, 2, 3, 4, 5, 6, 7, 8],
            "it is in order"
        );
        assert!(packer.copy[..9 * PAGE_SIZE] == arranged);
        assert!(packer.arrange(0, &mut scratch).is_empty());
        packer.copy[..9 * PAGE_SIZE].copy_from_slice(&pages.concat());
        packer = packer.arranging(false);
        assert_eq!(packer.arrange(9 * PAGE_SIZE, &mut scratch), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(packer.copy[..9 * PAGE_SIZE] == pages.concat());
        assert_eq!(packer.arrange(packer.copy.len(), &mut scratch).len(), 256);
    }

    #[test]
    fn a_bomb_and_a_short_frame_are_refused() {
        let frame = zstd::bulk::compress(&vec![7; 64 << 20], 1).unwrap();
        assert!(frame.len() < 1 << 20, "it fits into a transfer");
        let mut unpacker = Unpacker::new().unwrap();
        for len in [4096, BODY_LEN_BYTES_MAX, BODY_LEN_BYTES_MAX + 1, u64::MAX] {
            assert!(unpacker.unpack(&frame, len).is_err(), "{len}");
        }
        let frame = zstd::bulk::compress(&[7; 4096], 1).unwrap();
        let error = unpacker.unpack(&frame, 8192).unwrap_err();
        assert!(error.contains("4096 bytes in place of 8192"), "{error}");
        assert_eq!(unpacker.unpack(&frame, 4096), Ok(&[7; 4096][..]), "it goes on after an error");
    }

    #[test]
    fn a_frame_that_does_not_say_its_length_cannot_grow_either() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        std::io::copy(&mut std::io::repeat(7).take_bytes(8 << 20), &mut encoder).unwrap();
        let frame = encoder.finish().unwrap();
        assert!(Unpacker::new().unwrap().unpack(&frame, 4096).is_err());
    }

    trait TakeBytes: std::io::Read + Sized {
        fn take_bytes(self, len: u64) -> std::io::Take<Self> {
            std::io::Read::take(self, len)
        }
    }

    impl TakeBytes for std::io::Repeat {}

    #[test]
    fn what_does_not_pack_is_sent_as_it_is_and_tried_ever_more_seldom() {
        let bytes = noise(256 << 10);
        assert_eq!(packed(&bytes, 3), None);
        let mut packer = Packer::new(1).unwrap();
        let mut out = vec![0; BODY_LEN_BYTES_MAX as usize];
        let mut tries = 0;
        packer.copy[..bytes.len()].copy_from_slice(&bytes);
        for _ in 0..1000 {
            if packer.is_worth_a_try() {
                tries += 1;
                assert_eq!(packer.pack(bytes.len(), 1, &mut out), None);
            }
        }
        assert!((7..30).contains(&tries), "{tries} tries of 1000");
        packer.copy.fill(1);
        while !packer.is_worth_a_try() {}
        assert!(packer.pack(4096, 1, &mut out).is_some());
        assert!(packer.is_worth_a_try(), "content that packs again is tried each time");
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(seed: u8, pages in 1usize..40, level in 1i32..=9) {
            let bytes: Vec<u8> = (0..pages * 4096).map(|at| (at / 7) as u8 ^ (at as u8 & seed)).collect();
            if let Some(frame) = packed(&bytes, level) {
                prop_assert!(frame.len() < bytes.len());
                let mut unpacker = Unpacker::new().unwrap();
                prop_assert_eq!(unpacker.unpack(&frame, bytes.len() as u64), Ok(&bytes[..]));
            }
        }

        #[test]
        fn any_bytes_become_what_was_announced_or_an_error(bytes: Vec<u8>, len in 0u64..1 << 21) {
            if let Ok(unpacked) = Unpacker::new().unwrap().unpack(&bytes, len) {
                prop_assert_eq!(unpacked.len() as u64, len);
            }
        }

        #[test]
        fn a_damaged_frame_never_becomes_more(seed: u8, at: proptest::sample::Index, bit in 0u8..8) {
            let bytes: Vec<u8> = (0..5 * 4096).map(|n| (n / 9) as u8 ^ seed).collect();
            let mut frame = packed(&bytes, 1).unwrap();
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            if let Ok(unpacked) = Unpacker::new().unwrap().unpack(&frame, bytes.len() as u64) {
                prop_assert_eq!(unpacked.len(), bytes.len());
            }
        }
    }
}
