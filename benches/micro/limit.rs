//! What this machine could do at best, and how a benchmark stands against it.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};

/// Far larger than the caches.
const BUFFER_BYTES: usize = 256 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const ROUNDS: usize = 5;

/// The least time an iteration could take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) what: &'static str,
    pub(crate) seconds: f64,
}

impl Limit {
    pub(crate) const fn new(what: &'static str, seconds: f64) -> Self {
        Self { what, seconds }
    }

    /// Reading `bytes` of memory once with one thread.
    pub(crate) fn read(bytes: u64) -> Self {
        Self::new("streaming read", bytes as f64 / memory().read_bytes_per_s)
    }

    /// Copying `bytes` of memory in chunks into one buffer that stays in the cache.
    pub(crate) fn copy_to_cache(bytes: u64) -> Self {
        Self::new("plain copy into the cache", bytes as f64 / memory().copy_to_cache_bytes_per_s)
    }

    /// Reading or copying `bytes` that are in the cache.
    pub(crate) fn cached(what: &'static str, bytes: u64) -> Self {
        Self::new(what, bytes as f64 / memory().cached_bytes_per_s)
    }
}

struct Memory {
    read_bytes_per_s: f64,
    copy_to_cache_bytes_per_s: f64,
    cached_bytes_per_s: f64,
}

/// Measured once, when it is first asked for; the best of a few rounds, since it is a limit.
fn memory() -> &'static Memory {
    static MEMORY: OnceLock<Memory> = OnceLock::new();
    MEMORY.get_or_init(|| {
        let buffer = vec![1_u64; BUFFER_BYTES / 8];
        let sum = |words: &[u64]| words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word));
        let mut chunk = vec![0_u64; CHUNK_BYTES / 8];
        let small = vec![1_u64; 2048];
        Memory {
            read_bytes_per_s: best(BUFFER_BYTES, || {
                black_box(sum(black_box(&buffer)));
            }),
            copy_to_cache_bytes_per_s: best(BUFFER_BYTES, || {
                for piece in buffer.chunks_exact(CHUNK_BYTES / 8) {
                    chunk.copy_from_slice(piece);
                    black_box(&mut chunk);
                }
            }),
            cached_bytes_per_s: best(64 * size_of_val(&small[..]), || {
                for _ in 0..64 {
                    black_box(sum(black_box(&small)));
                }
            }),
        }
    })
}

fn best(bytes: usize, mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    bytes as f64 / (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// Benchmarks `work`, each time after `prepare`, which is not in the time; then prints how it stands against `limit`.
/// With `bytes`, rates are shown, else times.
pub(crate) fn against<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    bytes: Option<u64>,
    limit: &Limit,
    mut prepare: impl FnMut() -> T,
    mut work: impl FnMut(T),
) {
    let seconds = RefCell::new(Vec::new());
    if let Some(bytes) = bytes {
        group.throughput(Throughput::Bytes(bytes));
    }
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let input = prepare();
                let started = Instant::now();
                work(input);
                total += started.elapsed();
            }
            seconds.borrow_mut().push(total.as_secs_f64() / iterations as f64);
            total
        });
    });
    let mut seconds = seconds.into_inner();
    // A filter on the command line may have left it out.
    if seconds.is_empty() {
        return;
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let share = limit.seconds / median * 100.0;
    let told = match bytes {
        Some(bytes) => {
            format!("{} of {}", rate(bytes as f64 / median), rate(bytes as f64 / limit.seconds))
        }
        None => format!("{} and at best {}", time(median), time(limit.seconds)),
    };
    println!("limit  {name}: {told} ({}), {share:.0} %\n", limit.what);
}

fn rate(bytes_per_s: f64) -> String {
    format!("{:.1} GB/s", bytes_per_s / 1e9)
}

fn time(seconds: f64) -> String {
    match seconds {
        small if small < 1e-6 => format!("{:.1} ns", small * 1e9),
        small if small < 1e-3 => format!("{:.2} us", small * 1e6),
        other => format!("{:.2} ms", other * 1e3),
    }
}
