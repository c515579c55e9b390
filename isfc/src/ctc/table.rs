//! The state machine of a CTC as data: what each command does in each state of the other side.
//!
//! A cell is written as in the manuals' tables: `new state / unit status / actions`. `-` leaves the
//! state as it is. Status: CE channel end, DE device end, UC unit check, B busy, BA busy and
//! attention, 0 none yet. Actions: **S** tell the other side, **M** this completes the partner's
//! outstanding command, **w** wait for a match, **a** raise Attention at the partner. The text is
//! parsed when the crate is compiled; a typing error does not compile.

use super::command::Command;
use super::status::UnitStatus;

/// What a side is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// P: a Prepare is outstanding.
    Prepare,
    /// C: a Control is outstanding.
    Control,
    /// R: a Read is outstanding.
    Read,
    /// W: a Write is outstanding.
    Write,
    /// A: available.
    Available,
    /// N: not ready.
    NotReady,
}

impl State {
    /// A command is outstanding.
    pub const fn is_working(self) -> bool {
        matches!(self, Self::Prepare | Self::Control | Self::Read | Self::Write)
    }
}

/// A column of the table: the partner's state, or why this side does not even look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Partner: Prepare outstanding.
    P,
    /// Partner: Control outstanding.
    C,
    /// Partner: Read outstanding.
    R,
    /// Partner: Write outstanding.
    W,
    /// Partner: available.
    A,
    /// Partner: not ready.
    N,
    /// This side has a command outstanding.
    X,
    /// This side has an interrupt pending.
    I,
}

impl From<State> for Column {
    fn from(state: State) -> Self {
        match state {
            State::Prepare => Self::P,
            State::Control => Self::C,
            State::Read => Self::R,
            State::Write => Self::W,
            State::Available => Self::A,
            State::NotReady => Self::N,
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Prepare.
    Pre,
    /// Control.
    Ctl,
    /// Read.
    Red,
    /// Write.
    Wrt,
    /// Sense Command Byte.
    Scb,
    /// Read Backward.
    Rbk,
    /// Write End of File.
    Wef,
    /// No-operation and the two mode settings.
    Nop,
    /// Sense Adapter State, Sense ID, Read Configuration Data.
    Sas,
    /// No command of a CTC.
    Inv,
    /// Not a command: a reset.
    Rst,
}

impl From<Command> for Row {
    fn from(command: Command) -> Self {
        match command {
            Command::Prepare => Self::Pre,
            Command::Control => Self::Ctl,
            Command::Read => Self::Red,
            Command::Write => Self::Wrt,
            Command::SenseCommandByte => Self::Scb,
            Command::ReadBackward => Self::Rbk,
            Command::WriteEndOfFile => Self::Wef,
            Command::NoOperation | Command::SetExtendedMode | Command::SetBasicMode => Self::Nop,
            Command::SenseAdapterState | Command::SenseId | Command::ReadConfigurationData => Self::Sas,
            Command::Invalid => Self::Inv,
        }
    }
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// New state of this side; `None` leaves it.
    pub state: Option<State>,
    /// What the channel is told at once. In the reset row: how a command that is outstanding ends.
    pub status: UnitStatus,
    /// S: tell the other side.
    pub send: bool,
    /// M: the partner's outstanding command is complete.
    pub matches: bool,
    /// w: this command is outstanding from now on.
    pub wait: bool,
    /// a: Attention at the partner.
    pub attention: bool,
}

/// Rows by [`Row`], columns by [`Column`].
#[rustfmt::skip]
const TABLE: [[Cell; 8]; 11] = [
//          y=P               y=C             y=R             y=W             y=A          y=N       X               I
rows(["A/CE+DE/SM",     "-/CE+DE/",     "-/CE+DE/",     "-/CE+DE/",     "P/CE/Sw",   "A/UC/S", "-/B/",         "-/B/"        ]), // PRE
rows(["C/CE/SMw",       "-/BA/",        "-/BA/",        "-/BA/",        "C/0/Swa",   "A/UC/S", "-/B/",         "-/B/"        ]), // CTL
rows(["R/0/SMw",        "-/BA/",        "-/BA/",        "A/CE+DE/SM",   "R/0/Swa",   "A/UC/S", "-/B/",         "-/B/"        ]), // RED
rows(["W/0/SMw",        "-/BA/",        "A/CE+DE/SM",   "-/BA/",        "W/0/Swa",   "A/UC/S", "-/B/",         "-/B/"        ]), // WRT
rows(["-/CE+DE/",       "A/CE+DE/SM",   "-/CE+DE/",     "-/CE+DE/",     "-/CE+DE/",  "A/UC/S", "-/B/",         "-/B/"        ]), // SCB
rows(["R/0/SMw",        "-/BA/",        "-/BA/",        "A/CE+DE/SM",   "R/0/Swa",   "A/UC/S", "-/B/",         "-/B/"        ]), // RBK
rows(["-/CE+DE/S",      "-/BA/",        "A/CE+DE/SM",   "-/BA/",        "-/CE+DE/S", "A/UC/S", "-/B/",         "-/B/"        ]), // WEF
rows(["-/CE+DE/S",      "-/BA/",        "-/BA/",        "-/BA/",        "A/CE+DE/S", "A/UC/S", "-/B/",         "-/B/"        ]), // NOP SEM SBM
rows(["-/CE+DE/",       "-/CE+DE/",     "-/CE+DE/",     "-/CE+DE/",     "-/CE+DE/",  "-/CE+DE/","-/B/",        "-/B/"        ]), // SAS SID RCD
rows(["-/UC/",          "-/UC/",        "-/UC/",        "-/UC/",        "-/UC/",     "-/UC/",  "-/B/",         "-/B/"        ]), // invalid
rows(["N/CE+DE+UC/SM",  "N/CE+DE+UC/SM","N/CE+DE+UC/SM","N/CE+DE+UC/SM","N/0/S",     "N/0/S",  "N/CE+DE+UC/S", "N/CE+DE+UC/S"]), // RST
];

/// The cell of `row` in `column`.
pub const fn cell(row: Row, column: Column) -> Cell {
    TABLE[row as usize][column as usize]
}

const fn rows(texts: [&str; 8]) -> [Cell; 8] {
    let mut cells = [parse(texts[0]); 8];
    let mut at = 1;
    while at < 8 {
        cells[at] = parse(texts[at]);
        at += 1;
    }
    cells
}

const fn parse(text: &str) -> Cell {
    let bytes = text.as_bytes();
    assert!(bytes[1] == b'/');
    let state = match bytes[0] {
        b'P' => Some(State::Prepare),
        b'C' => Some(State::Control),
        b'R' => Some(State::Read),
        b'W' => Some(State::Write),
        b'A' => Some(State::Available),
        b'N' => Some(State::NotReady),
        b'-' => None,
        _ => panic!("unknown state"),
    };
    let (mut status, mut at) = (0u8, 2);
    while bytes[at] != b'/' {
        let (bits, len) = match (bytes[at], bytes[at + 1]) {
            (b'C', b'E') => (UnitStatus::CHANNEL_END.bits(), 2),
            (b'D', b'E') => (UnitStatus::DEVICE_END.bits(), 2),
            (b'U', b'C') => (UnitStatus::UNIT_CHECK.bits(), 2),
            (b'B', b'A') => (UnitStatus::COLLISION.bits(), 2),
            (b'B', b'/') => (UnitStatus::BUSY.bits(), 1),
            (b'+' | b'0', _) => (0, 1),
            _ => panic!("unknown status"),
        };
        status |= bits;
        at += len;
    }
    let status = UnitStatus::from_bits(status);
    let mut cell = Cell { state, status, send: false, matches: false, wait: false, attention: false };
    at += 1;
    while at < bytes.len() {
        match bytes[at] {
            b'S' => cell.send = true,
            b'M' => cell.matches = true,
            b'w' => cell.wait = true,
            b'a' => cell.attention = true,
            _ => panic!("unknown action"),
        }
        at += 1;
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference's table again, as text, to be read by another reader than the compiler's.
    const REFERENCE: &str = "
        | PRE | A / CE+DE / SM | - / CE+DE | - / CE+DE | - / CE+DE | P / CE / Sw | A / UC / S | - / B | - / B |
        | CTL | C / CE / SMw | - / BA | - / BA | - / BA | C / 0 / Swa | A / UC / S | - / B | - / B |
        | RED | R / 0 / SMw | - / BA | - / BA | A / CE+DE / SM | R / 0 / Swa | A / UC / S | - / B | - / B |
        | WRT | W / 0 / SMw | - / BA | A / CE+DE / SM | - / BA | W / 0 / Swa | A / UC / S | - / B | - / B |
        | SCB | - / CE+DE | A / CE+DE / SM | - / CE+DE | - / CE+DE | - / CE+DE | A / UC / S | - / B | - / B |
        | RBK | R / 0 / SMw | - / BA | - / BA | A / CE+DE / SM | R / 0 / Swa | A / UC / S | - / B | - / B |
        | WEF | - / CE+DE / S | - / BA | A / CE+DE / SM | - / BA | - / CE+DE / S | A / UC / S | - / B | - / B |
        | NOP | - / CE+DE / S | - / BA | - / BA | - / BA | A / CE+DE / S | A / UC / S | - / B | - / B |
        | SAS | - / CE+DE | - / CE+DE | - / CE+DE | - / CE+DE | - / CE+DE | - / CE+DE | - / B | - / B |
        | INV | - / UC | - / UC | - / UC | - / UC | - / UC | - / UC | - / B | - / B |
        | RST | N / CE+DE+UC / SM | N / CE+DE+UC / SM | N / CE+DE+UC / SM | N / CE+DE+UC / SM | N / 0 / S | N / 0 / S | N / CE+DE+UC / S | N / CE+DE+UC / S |
    ";
    const ROWS: [(&str, Row); 11] = [
        ("PRE", Row::Pre),
        ("CTL", Row::Ctl),
        ("RED", Row::Red),
        ("WRT", Row::Wrt),
        ("SCB", Row::Scb),
        ("RBK", Row::Rbk),
        ("WEF", Row::Wef),
        ("NOP", Row::Nop),
        ("SAS", Row::Sas),
        ("INV", Row::Inv),
        ("RST", Row::Rst),
    ];
    const COLUMNS: [Column; 8] =
        [Column::P, Column::C, Column::R, Column::W, Column::A, Column::N, Column::X, Column::I];

    fn read(text: &str) -> Cell {
        let parts: Vec<&str> = text.split('/').map(str::trim).collect();
        let state = match parts[0] {
            "-" => None,
            letter => Some(
                [
                    ("P", State::Prepare),
                    ("C", State::Control),
                    ("R", State::Read),
                    ("W", State::Write),
                    ("A", State::Available),
                    ("N", State::NotReady),
                ]
                .into_iter()
                .find(|(name, _)| *name == letter)
                .unwrap()
                .1,
            ),
        };
        let bits = parts[1].split('+').map(|name| match name {
            "0" => 0,
            "CE" => 0x08,
            "DE" => 0x04,
            "UC" => 0x02,
            "B" => 0x10,
            "BA" => 0x90,
            other => panic!("{other}"),
        });
        let status = UnitStatus::from_bits(bits.fold(0, |all, bit: u8| all | bit));
        let actions = parts.get(2).copied().unwrap_or("");
        let has = |action| actions.contains(action);
        Cell { state, status, send: has('S'), matches: has('M'), wait: has('w'), attention: has('a') }
    }

    #[test]
    fn every_cell_is_the_references() {
        let lines: Vec<&str> = REFERENCE.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), ROWS.len());
        for line in lines {
            let texts: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(texts.len(), 9, "{line}");
            let row = ROWS.iter().find(|(name, _)| *name == texts[0]).unwrap().1;
            for (text, column) in texts[1..].iter().zip(COLUMNS) {
                assert_eq!(cell(row, column), read(text), "{row:?} in column {column:?}");
            }
        }
    }

    #[test]
    fn only_a_working_state_waits_and_only_a_sent_command_matches() {
        for (_, row) in ROWS {
            for column in COLUMNS {
                let cell = cell(row, column);
                assert_eq!(cell.wait, cell.state.is_some_and(State::is_working), "{row:?} {column:?}");
                assert!(cell.send || !(cell.matches || cell.wait || cell.attention), "{row:?} {column:?}");
                assert!(!cell.attention || column == Column::A, "{row:?} {column:?}");
            }
        }
    }
}
