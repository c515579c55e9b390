//! How fast chunks are packed, in bytes of guest storage per second and core: pages as they lie, and in the order in which a
//! relocation packs them. The limit has the pages of the whole guest sorted, and those that look random only copied.

use std::hint::black_box;
use std::time::Instant;

use criterion::Criterion;
use guest_mem::{ContentMix, PAGE_SIZE, Pattern, Storage, StorageOptions, WorkloadOptions, fill};
use lgr_engine::codec::packer::Packer;
use lgr_engine::codec::texture::Texture;

use crate::limit::{Limit, against};

const BYTES: u64 = 64 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const LEVELS: [i32; 3] = [1, 2, 3];
/// What a relocation has no time for, to show how far one could get: tried once, on every so manieth page.
const SLOW_LEVELS: [i32; 2] = [9, 19];
const SLOW_STEP: usize = 8;

/// The pages of a guest with realistic content, without those that are zero.
fn pages() -> Vec<[u8; PAGE_SIZE]> {
    let storage = Storage::create(&StorageOptions::small(BYTES)).expect("64 MiB of storage");
    let options = WorkloadOptions {
        pattern: Pattern::Idle,
        dirty_rate_bytes_per_s: 0,
        working_set_bytes: None,
        touched_bytes: BYTES,
        content: ContentMix::Realistic,
        seed: 1,
        vcpus: 1,
    };
    fill(&storage, &options, &|_| {}).expect("memory");
    let read = |page| {
        let mut bytes = [0; PAGE_SIZE];
        storage.read_page(page, &mut bytes);
        bytes
    };
    storage.whole().page_numbers().map(read).filter(|bytes| *bytes != [0; PAGE_SIZE]).collect()
}

/// Packs all `pages`, chunk by chunk, and tells what they became.
fn pack(packer: &mut Packer, scratch: &mut Vec<u8>, pages: &[[u8; PAGE_SIZE]], level: i32) -> usize {
    let mut became = 0;
    for chunk in pages.as_flattened().chunks(CHUNK_BYTES) {
        packer.copy[..chunk.len()].copy_from_slice(chunk);
        packer.arrange(chunk.len(), scratch);
        became += packer.pack(chunk.len(), level, scratch).unwrap_or(chunk.len());
    }
    became
}

pub(crate) fn codec(criterion: &mut Criterion) {
    let pages = pages();
    let bytes = (pages.len() * PAGE_SIZE) as u64;
    let mut scratch = vec![0; CHUNK_BYTES];
    let (mut sorted, noise): (Vec<_>, Vec<_>) =
        pages.iter().copied().partition(|page| Texture::of(page) != Texture::Noise);
    sorted.sort_by_key(Texture::of);
    let mut group = criterion.benchmark_group("codec");
    group.sample_size(10);
    let mut measured = false;
    for level in LEVELS {
        let mut packer = Packer::new(level).expect("memory for zstd");
        pack(&mut packer, &mut scratch, &sorted, level); // its memory has been used once
        let started = Instant::now();
        let least = pack(&mut packer, &mut scratch, &sorted, level) + noise.len() * PAGE_SIZE;
        let seconds =
            started.elapsed().as_secs_f64() + Limit::copy_to_cache((noise.len() * PAGE_SIZE) as u64).seconds;
        let limit = Limit::new("all pages sorted", seconds);
        for (name, arranges) in [("as they lie", false), ("by kind", true)] {
            packer = packer.arranging(arranges);
            let mut became = 0;
            let name = format!("pack realistic pages {name}, level {level}");
            let work = |()| became = black_box(pack(&mut packer, &mut scratch, &pages, level));
            against(&mut group, &name, Some(bytes), &limit, || (), work);
            measured |= became > 0;
            if became > 0 {
                let ratio = |became: usize| bytes as f64 / became as f64;
                println!(
                    "limit  {name}: {:.3} to 1 of {:.3} (all pages sorted)\n",
                    ratio(became),
                    ratio(least)
                );
            }
        }
    }
    group.finish();
    if measured {
        tell_parts(&sorted, &noise);
    }
}

/// What each kind of page becomes, alone.
fn tell_parts(sorted: &[[u8; PAGE_SIZE]], noise: &[[u8; PAGE_SIZE]]) {
    let mut scratch = vec![0; CHUNK_BYTES];
    for level in LEVELS.into_iter().chain(SLOW_LEVELS) {
        let step = if SLOW_LEVELS.contains(&level) { SLOW_STEP } else { 1 };
        let mut packer = Packer::new(level).expect("memory for zstd");
        let mut ratio = |texture| {
            let of_it = sorted.iter().chain(noise).copied().filter(|page| Texture::of(page) == texture);
            let pages: Vec<_> = of_it.step_by(step).collect();
            let became = pack(&mut packer, &mut scratch, &pages, level);
            format!("{texture:?} {:.2}", (pages.len() * PAGE_SIZE) as f64 / became as f64)
        };
        let parts = Texture::ALL.map(&mut ratio);
        println!("limit  level {level}, pages of one kind: {} to 1", parts.join(", "));
    }
    println!();
}
