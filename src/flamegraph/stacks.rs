//! From addresses to lines of names, as flame graph tools take them: `frame;frame;frame COUNT`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use lgr_engine::report::Side;

use super::sampler::Sample;
use super::stages::name_of;

/// Everything nearer to a thread's begin than this is the same for all threads, and is left out.
const THREAD_BEGINS: &str = "__rust_begin_short_backtrace";

/// One line for each stack that was met: side, stage, thread and functions from the outermost in, and how often. In order
/// of the stages.
pub(super) fn fold(side: Side, samples: &[Sample]) -> String {
    let mut names = Names::default();
    let mut counts: BTreeMap<(u32, String), u64> = BTreeMap::new();
    for sample in samples {
        let mut frames = vec![kind_of_thread(&sample.thread)];
        frames.extend(names.of_stack(&sample.frames));
        *counts.entry((sample.stage, frames.join(";"))).or_default() += 1;
    }
    let line = |((stage, frames), count): (&(u32, String), &u64)| {
        format!("{};{};{frames} {count}\n", side.name(), name_of(*stage))
    };
    counts.iter().map(line).collect()
}

/// Threads that do the same, as one: `ctc-07` is `ctc-*`.
fn kind_of_thread(name: &str) -> String {
    let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if kind.len() < name.len() { format!("{kind}*") } else { name.to_owned() }
}

/// Names of addresses, each looked up once; with inlined functions, one address has several.
#[derive(Default)]
struct Names(HashMap<usize, Vec<String>>);

impl Names {
    /// The functions of a stack, the outermost first.
    fn of_stack(&mut self, frames: &[usize]) -> Vec<String> {
        let mut inner_first: Vec<String> = Vec::new();
        for (depth, frame) in frames.iter().enumerate() {
            // The call is before the address it returns to.
            let names = self.of_address(frame - usize::from(depth > 0));
            let begin = names.iter().position(|name| name.contains(THREAD_BEGINS));
            inner_first.extend(names[..begin.unwrap_or(names.len())].iter().cloned());
            if begin.is_some() {
                break;
            }
        }
        inner_first.reverse();
        inner_first
    }

    fn of_address(&mut self, address: usize) -> &[String] {
        self.0.entry(address).or_insert_with(|| {
            let mut found: Vec<(String, bool)> = Vec::new();
            backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
                let Some(name) = symbol.name() else { return };
                let name = short(&format!("{name:#}"));
                let path = symbol.filename();
                let is_std = path.is_some_and(|path| path.iter().any(|part| part == "library"));
                found.push((path.map_or_else(|| name.clone(), |path| with_module(path, &name)), is_std));
            });
            // What is inlined from the standard library, iterators above all, only hides who called it.
            let outermost = found.pop().map_or_else(|| "[unknown]".to_owned(), |(name, _)| name);
            let inlined = found.into_iter().filter(|(name, is_std)| !is_std || name.contains(THREAD_BEGINS));
            inlined.map(|(name, _)| name).chain([outermost]).collect()
        })
    }
}

/// A function with the module that its file is: line tables have names without paths.
fn with_module(path: &Path, name: &str) -> String {
    if name.contains("::") {
        return name.to_owned();
    }
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let Some(src) = parts.iter().rposition(|part| *part == "src") else { return name.to_owned() };
    let is_here =
        path.parent().is_some_and(|folder| folder.starts_with(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    let package = match src.checked_sub(1) {
        Some(index) if !is_here => parts[index],
        _ => env!("CARGO_PKG_NAME"),
    };
    // `rayon-1.12.0` is rayon.
    let package = package
        .rsplit_once('-')
        .filter(|(_, version)| version.contains('.'))
        .map_or(package, |(name, _)| name);
    let modules = parts[src + 1..].iter().map(|part| part.trim_end_matches(".rs"));
    let modules = modules.filter(|module| !["lib", "main", "mod"].contains(module));
    let mut text = package.replace('-', "_");
    modules.chain([name]).for_each(|part| text = format!("{text}::{part}"));
    text
}

/// A name without what these lines use as marks, and without generic arguments: `Vec<u8>::push` is `Vec::push`.
fn short(name: &str) -> String {
    let (mut text, mut depth, mut previous) = (String::new(), 0_u32, ' ');
    for letter in name.chars() {
        match letter {
            // `<T as Trait>::call` begins with one that names the type.
            '<' if !text.is_empty() => depth += 1,
            '>' if depth > 0 && previous != '-' => depth -= 1,
            ';' | '\n' if depth == 0 => text.push(','),
            _ if depth == 0 => text.push(letter),
            _ => {}
        }
        previous = letter;
    }
    text.replace("::::", "::").trim_end_matches("::").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_arguments_and_marks() {
        for (name, expected) in [
            ("isfc::device::uring::Device::turn", "isfc::device::uring::Device::turn"),
            ("alloc::vec::Vec<u8>::push", "alloc::vec::Vec::push"),
            ("core::iter::Map<I,F>::fold<usize>", "core::iter::Map::fold"),
            (
                "<lgr_engine::feed::Feed as isfc::Source>::next",
                "<lgr_engine::feed::Feed as isfc::Source>::next",
            ),
            ("f::<fn(u8) -> u8>::{{closure}}", "f::{{closure}}"),
            ("<[u8; 16]>::fill", "<[u8, 16]>::fill"),
        ] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn a_function_is_told_with_the_module_of_its_file() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/relocate.rs");
        for (path, name, expected) in [
            (here, "move_to", "lgr::relocate::move_to"),
            ("/x/guest-mem/src/content/mod.rs", "is_zero", "guest_mem::content::is_zero"),
            ("/y/registry/src/z/rayon-1.12.0/src/iter/mod.rs", "drive", "rayon::iter::drive"),
            ("/rustc/1/library/core/src/ptr/mod.rs", "read", "core::ptr::read"),
            ("/build/glibc/string/memcpy.S", "memcpy", "memcpy"),
            ("/x/isfc/src/lib.rs", "isfc::start", "isfc::start"),
        ] {
            assert_eq!(with_module(Path::new(path), name), expected);
        }
    }

    #[test]
    fn threads_that_do_the_same_are_one() {
        assert_eq!(kind_of_thread("ctc-07"), "ctc-*");
        assert_eq!(kind_of_thread("isfc-keeper"), "isfc-keeper");
    }

    #[test]
    fn stacks_are_counted_in_order_of_the_stages() {
        let sample = |stage| Sample { stage, thread: "vcpu-0".into(), frames: Vec::new() };
        let lines = fold(Side::Source, &[sample(12), sample(9), sample(12)]);
        assert_eq!(lines, "source;unknown;vcpu-* 1\nsource;unknown;vcpu-* 2\n");
    }
}
