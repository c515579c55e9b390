//! As much of an assembler as one boot sector needs: instructions are given with their bytes, and only what depends on
//! an address is worked out here.
//!
//! The text beside the bytes is not read by anything that boots. A test has a disassembler read the bytes, and
//! compares what it says with the text.

use std::collections::BTreeMap;
use std::fmt::Write;

/// How a label's address goes into an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// One byte: the distance from the end of the instruction.
    Relative8,
    /// Two bytes: the address itself.
    Absolute16,
    /// Four bytes: the address itself.
    Absolute32,
}

impl Field {
    fn len_bytes(self) -> usize {
        match self {
            Self::Relative8 => 1,
            Self::Absolute16 => 2,
            Self::Absolute32 => 4,
        }
    }
}

/// How the processor reads a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Code in real mode.
    Bits16,
    /// Code in long mode.
    Bits64,
    /// No code.
    Data,
}

/// An instruction (or data) with its text.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Offset of its first byte in the program.
    pub(crate) at: usize,
    /// Its bytes; a label's place is zero until the program is finished.
    pub(crate) len: usize,
    /// The instruction as GNU objdump shows it in Intel syntax. `{}` stands for the label's address.
    pub(crate) text: &'static str,
    pub(crate) mode: Mode,
    /// The label it refers to.
    pub(crate) label: Option<&'static str>,
}

#[derive(Debug)]
struct Fixup {
    at: usize,
    field: Field,
    label: &'static str,
}

/// A program being written.
#[derive(Debug)]
pub(crate) struct Assembler {
    origin: usize,
    mode: Mode,
    bytes: Vec<u8>,
    lines: Vec<Line>,
    labels: BTreeMap<&'static str, usize>,
    fixups: Vec<Fixup>,
}

/// A program with every address in its place.
#[derive(Debug)]
pub(crate) struct Program {
    /// Address of the first byte.
    pub(crate) origin: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: Vec<Line>,
    /// Offset of each label.
    pub(crate) labels: BTreeMap<&'static str, usize>,
}

impl Assembler {
    /// A program that will lie at `origin` and begins in real mode.
    pub(crate) fn new(origin: usize) -> Self {
        Self {
            origin,
            mode: Mode::Bits16,
            bytes: Vec::new(),
            lines: Vec::new(),
            labels: BTreeMap::new(),
            fixups: Vec::new(),
        }
    }

    /// What follows is read in this mode.
    pub(crate) fn mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Names the place that is next.
    pub(crate) fn label(&mut self, name: &'static str) {
        let old = self.labels.insert(name, self.bytes.len());
        assert!(old.is_none(), "label {name} is there twice");
    }

    /// Adds an instruction, or data, as it is.
    pub(crate) fn op(&mut self, text: &'static str, bytes: &[u8]) {
        self.line(text, bytes, None);
    }

    /// Adds an instruction of which `head` comes before the address of `label`, and `tail` after it.
    pub(crate) fn op_to(
        &mut self,
        text: &'static str,
        head: &[u8],
        field: Field,
        label: &'static str,
        tail: &[u8],
    ) {
        self.fixups.push(Fixup { at: self.bytes.len() + head.len(), field, label });
        let zeroes = [0; 4];
        self.line(text, &[head, &zeroes[..field.len_bytes()], tail].concat(), Some(label));
    }

    fn line(&mut self, text: &'static str, bytes: &[u8], label: Option<&'static str>) {
        self.lines.push(Line { at: self.bytes.len(), len: bytes.len(), text, mode: self.mode, label });
        self.bytes.extend_from_slice(bytes);
    }

    /// Puts every address in its place.
    pub(crate) fn finish(mut self) -> Program {
        for fixup in &self.fixups {
            let target = *self.labels.get(fixup.label).expect("every label that is used is defined");
            let (from, len) = (fixup.at, fixup.field.len_bytes());
            let value = match fixup.field {
                Field::Relative8 => {
                    let distance = target as i64 - (from + len) as i64;
                    i8::try_from(distance).expect("a short jump reaches its label").cast_unsigned().into()
                }
                Field::Absolute16 | Field::Absolute32 => self.origin + target,
            };
            self.bytes[from..from + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        Program { origin: self.origin, bytes: self.bytes, lines: self.lines, labels: self.labels }
    }
}

impl Program {
    /// Address, bytes and text of each line, and the labels between them.
    pub(crate) fn listing(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let labels = self.labels.iter().filter(|(_, at)| **at == line.at);
            text.extend(labels.map(|(name, _)| format!("{name}:\n")));
            let bytes: String =
                self.bytes[line.at..line.at + line.len].iter().map(|byte| format!("{byte:02x} ")).collect();
            let bits = match line.mode {
                Mode::Bits16 => "16",
                Mode::Bits64 => "64",
                Mode::Data => "  ",
            };
            let _ = writeln!(text, "  {:#06x} {bits}  {bytes:37}{}", self.origin + line.at, self.text(line));
        }
        text
    }

    /// A line's text with the address that it refers to.
    pub(crate) fn text(&self, line: &Line) -> String {
        let address = line.label.map_or(0, |label| self.origin + self.labels[label]);
        // The gate's lower half: selector and address in one number.
        line.text.replace("0x8{}", &format!("0x8{address:04x}")).replace("{}", &format!("{address:#x}"))
    }
}
