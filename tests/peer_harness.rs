//! The comparison with QEMU (`benches/peer`), as far as it can be tested without QEMU: the guest's program, the table of
//! scenarios, and what is said where there is no QEMU.

#![allow(clippy::unwrap_used)]

#[path = "../benches/peer/harness/mod.rs"]
mod harness;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use harness::guest::assembler::{Line, Mode, Program};
use harness::guest::program::assemble;
use harness::guest::{Fill, Parameters};
use harness::rows::ROWS;
use harness::table::{Scale, scenarios};

/// The line of the program with this text.
fn line<'a>(program: &'a Program, text: &str) -> &'a Line {
    program.lines.iter().find(|line| line.text == text).unwrap_or_else(|| panic!("no line {text}"))
}

fn bytes<'a>(program: &'a Program, line: &Line) -> &'a [u8] {
    &program.bytes[line.at..line.at + line.len]
}

#[test]
fn the_guest_is_pinned_byte_for_byte() {
    let program = assemble();
    // Whoever changes the program changes this with it, after the disassembler has agreed (see below).
    assert_eq!((program.bytes.len(), crc32c::crc32c(&program.bytes)), (GUEST_BYTES, GUEST_CRC32C));
}

const GUEST_BYTES: usize = 501;
const GUEST_CRC32C: u32 = 0xF8DF_0D36;

#[test]
fn the_guest_is_a_boot_sector_with_its_parameters_behind_it() {
    let parameters = Parameters {
        memory_bytes: 6 << 30,
        touched_bytes: 5 << 30,
        fill: Fill::Random,
        dirty_bytes_per_s: 4096e3,
        working_set_bytes: 256 << 20,
        tsc_hz: 2e9,
    };
    let disk = parameters.disk();
    assert_eq!(disk[..assemble().bytes.len()], assemble().bytes);
    assert_eq!(disk[510..512], [0x55, 0xAA]);
    let words: Vec<u64> =
        disk[512..512 + 88].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    // 2 MiB to 2 GiB below, the other 3 GiB from 4 GiB on.
    assert_eq!(words[..4], [2 << 20, 2 << 30, 4 << 30, 7 << 30]);
    assert_eq!(words[7], (2 << 30) - (256 << 20), "the working set ends where low memory ends");
    assert_eq!(words[8], (256 << 20) / 4096 - 1);
    // A page each millisecond; a tenth of a second of debt.
    assert_eq!(words[9..11], [2_000_000, 200_000_000]);
    assert!(words[4] % 8 == 5, "the multiplier gives the longest period: {:#x}", words[4]);
    assert!(words[5] % 2 == 1 && words[6] % 2 == 1, "a generator without increment needs odd seeds");
}

#[test]
fn zero_memory_comes_from_a_seed_of_zero_and_an_idle_guest_has_no_pace() {
    let idle = Parameters {
        memory_bytes: 1 << 30,
        touched_bytes: 1 << 30,
        fill: Fill::Zero,
        dirty_bytes_per_s: 0.0,
        working_set_bytes: 0,
        tsc_hz: 2e9,
    };
    let disk = idle.disk();
    assert_eq!(disk[512 + 40..512 + 48], [0; 8]);
    assert_eq!(disk[512 + 72..512 + 80], [0; 8]);
    let untouched = Parameters { fill: Fill::Nothing, ..idle };
    assert_eq!(untouched.disk()[512 + 8..512 + 16], [0; 8], "a range that ends before it begins");
}

#[test]
fn every_jump_of_the_guest_lands_on_the_instruction_with_its_label() {
    let program = assemble();
    let begins: BTreeSet<usize> = program.lines.iter().map(|line| line.at).collect();
    let mut jumps = 0;
    for line in program.lines.iter().filter(|line| line.mode != Mode::Data) {
        let Some(label) = line.label else { continue };
        let target = program.labels[label];
        let code = bytes(&program, line);
        let lands = match code[0] {
            // Short jumps: conditional, and not.
            0x70..=0x7F | 0xEB => (line.at + line.len).checked_add_signed(code[1].cast_signed().into()),
            0xEA => Some(usize::from(u16::from_le_bytes([code[1], code[2]])) - program.origin),
            _ => continue,
        };
        jumps += 1;
        assert_eq!(lands, Some(target), "{} to {label}", line.text);
        assert!(begins.contains(&target), "{label} is inside an instruction");
    }
    assert_eq!(jumps, 10);
}

#[test]
fn the_guests_tables_are_where_its_pointers_say() {
    let program = assemble();
    let (gdt, timer) = (program.origin + program.labels["gdt"], program.origin + program.labels["timer"]);
    let pointer = bytes(&program, line(&program, "24 bytes at gdt"));
    assert_eq!(pointer[2..6], u32::try_from(gdt).unwrap().to_le_bytes());
    let gate = bytes(&program, line(&program, "mov DWORD PTR ds:0x5080,0x8{}"));
    assert_eq!(gate[7..9], u16::try_from(timer).unwrap().to_le_bytes());
}

/// What GNU objdump makes of the bytes of one mode: each instruction's offset and text, blanks made single.
fn disassemble(program: &Program, mode: Mode, machine: &str) -> Option<Vec<(usize, String)>> {
    let lines: Vec<&Line> = program.lines.iter().filter(|line| line.mode == mode).collect();
    let (first, last) = (lines.first()?, lines.last()?);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &program.bytes[..last.at + last.len]).unwrap();
    let start = format!("--start-address={}", program.origin + first.at);
    let origin = format!("--adjust-vma={}", program.origin);
    let words = ["-D", "-b", "binary", "-M", "intel", "-w", "-m", machine, &origin, &start];
    let answer = Command::new("objdump").args(words).arg(file.path()).output().ok()?;
    let text = String::from_utf8(answer.stdout).unwrap();
    let instructions = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, '\t');
        let at = usize::from_str_radix(parts.next()?.trim().strip_suffix(':')?, 16).ok()?;
        let text = parts.nth(1)?.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        Some((at - program.origin, text))
    });
    Some(instructions.collect())
}

#[test]
fn a_disassembler_reads_the_guests_bytes_as_its_source_says() {
    let program = assemble();
    for (mode, machine) in [(Mode::Bits16, "i8086"), (Mode::Bits64, "i386:x86-64")] {
        let Some(read) = disassemble(&program, mode, machine) else {
            println!("skipped: objdump (Debian: apt install binutils)");
            return;
        };
        let written: Vec<(usize, String)> = program
            .lines
            .iter()
            .filter(|line| line.mode == mode)
            .map(|line| (line.at, program.text(line)))
            .collect();
        assert!(written.len() > 30, "{mode:?}");
        assert_eq!(read, written, "{mode:?}");
    }
}

#[test]
fn every_line_of_the_table_of_limits_is_decided_by_a_scenario() {
    for scale in [Scale::Full, Scale::Quick] {
        let claims: Vec<_> = scenarios(scale).into_iter().flat_map(|scenario| scenario.claims).collect();
        for row in ROWS {
            for part in row.parts {
                let decided = claims.iter().any(|claim| claim.row == row.scenario && claim.must == *part);
                assert!(decided, "nothing decides {}: {part}", row.scenario);
            }
        }
        for claim in &claims {
            assert!(ROWS.iter().any(|row| row.scenario == claim.row), "{} is no line", claim.row);
        }
    }
}

#[test]
fn claims_speak_of_contenders_that_are_there() {
    for scenario in scenarios(Scale::Full) {
        let names: BTreeSet<&str> = scenario.contenders.iter().map(|contender| contender.name).collect();
        assert_eq!(names.len(), scenario.contenders.len(), "{}: names are given twice", scenario.name);
        for claim in &scenario.claims {
            assert!(!claim.of.is_empty() && claim.of.iter().all(|name| names.contains(name)), "{claim:?}");
            if let harness::scenario::Test::Against(others, _) = claim.test {
                assert!(!others.is_empty() && others.iter().all(|name| names.contains(name)), "{claim:?}");
            }
        }
    }
}

#[test]
fn all_scenarios_together_take_no_more_than_half_an_hour() {
    let minutes: f64 = scenarios(Scale::Full).iter().map(|scenario| scenario.minutes).sum();
    assert!(minutes <= 30.0, "{minutes}");
}

#[test]
fn without_qemu_it_says_so_and_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no-such-qemu").display().to_string();
    let output = dir.path().display().to_string();
    let mut said = Vec::new();
    harness::run(["peer", "--bench", "--qemu", &missing, "--output", &output], &mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("skipped: ") && said.contains("apt install"), "{said}");
    assert!(Path::new(&missing).parent().unwrap().read_dir().unwrap().next().is_none(), "it left files");
}

#[test]
fn the_list_names_every_scenario_and_every_line() {
    let mut said = Vec::new();
    harness::run(["peer", "--list"], &mut said).unwrap();
    let said = String::from_utf8(said).unwrap();
    for scenario in scenarios(Scale::Full) {
        assert!(said.contains(scenario.name), "{said}");
    }
    for row in ROWS {
        assert!(said.contains(row.scenario), "{said}");
    }
}

#[test]
fn a_scenario_that_is_not_there_is_refused_by_name() {
    let refused = harness::run(["peer", "--scenario", "nonsense"], &mut Vec::new()).unwrap_err();
    assert!(refused.to_string().contains("nonsense"), "{refused}");
}
