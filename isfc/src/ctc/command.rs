//! Which command a command byte is: a CTC decodes bit patterns, not values.

/// How an adapter side reads its commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The mode of the original adapter: no end of file, no Prepare, no "not ready".
    Basic,
    /// The mode of today's drivers.
    #[default]
    Extended,
}

/// A decoded command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// PRE: waits for whatever the partner does next.
    Prepare,
    /// CTL: calls the partner; ends when it senses the command byte.
    Control,
    /// RED: takes the data of the partner's Write.
    Read,
    /// WRT: gives data to the partner's Read.
    Write,
    /// SCB: which command has the partner outstanding?
    SenseCommandByte,
    /// RBK: as Read.
    ReadBackward,
    /// WEF: the partner's next Read ends with unit exception.
    WriteEndOfFile,
    /// NOP.
    NoOperation,
    /// SEM.
    SetExtendedMode,
    /// SBM.
    SetBasicMode,
    /// SAS, the basic sense: the sense bytes, which it clears.
    SenseAdapterState,
    /// SID: which device is this?
    SenseId,
    /// RCD: the node descriptors.
    ReadConfigurationData,
    /// Anything else.
    Invalid,
}

impl Command {
    /// Reads a command byte in `mode`.
    ///
    /// Transfer-in-channel is a channel's business and invalid here. X'34' is invalid too: the
    /// pattern of Sense Command Byte, `xx01 0100`, decides.
    pub const fn decode(code: u8, mode: Mode) -> Self {
        match code {
            0x04 => return Self::SenseAdapterState,
            0xE4 => return Self::SenseId,
            0xC4 => return Self::ReadConfigurationData,
            0xC3 => return Self::SetExtendedMode,
            0xE3 if matches!(mode, Mode::Extended) => return Self::Prepare,
            _ => {}
        }
        if code & 0b0000_0011 == 0b01 {
            let end_of_file = code & 0x80 != 0 && matches!(mode, Mode::Extended);
            return if end_of_file { Self::WriteEndOfFile } else { Self::Write };
        }
        if code & 0b0000_0011 == 0b10 {
            return Self::Read;
        }
        if code & 0b0000_0111 == 0b111 {
            return Self::Control;
        }
        if code & 0b0000_1111 == 0b1100 {
            return Self::ReadBackward;
        }
        if code & 0b0011_1111 == 0b01_0100 {
            return Self::SenseCommandByte;
        }
        if code & 0b0100_0111 == 0b0000_0011 {
            return Self::NoOperation;
        }
        if code & 0b1100_0111 == 0b0100_0011 {
            return Self::SetBasicMode;
        }
        Self::Invalid
    }

    /// Its end depends on what the partner does, or it ends something of the partner's.
    pub const fn is_dependent(self) -> bool {
        matches!(
            self,
            Self::Prepare
                | Self::Control
                | Self::Read
                | Self::Write
                | Self::SenseCommandByte
                | Self::ReadBackward
        )
    }

    /// Channel end comes at once, and no data moves.
    pub const fn is_immediate(self) -> bool {
        matches!(
            self,
            Self::NoOperation | Self::Control | Self::SetExtendedMode | Self::SetBasicMode | Self::Prepare
        )
    }

    /// Read or Read Backward.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Read | Self::ReadBackward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference's patterns as text, first match wins: exact ones first.
    const PATTERNS: [(&str, Command); 14] = [
        ("11100100", Command::SenseId),
        ("11000100", Command::ReadConfigurationData),
        ("00000100", Command::SenseAdapterState),
        ("11100011", Command::Prepare),
        ("11000011", Command::SetExtendedMode),
        ("xx010100", Command::SenseCommandByte),
        ("xxxx1100", Command::ReadBackward),
        ("xxxxx111", Command::Control),
        ("xxxxxx10", Command::Read),
        ("0xxxxx01", Command::Write),
        ("1xxxxx01", Command::WriteEndOfFile),
        ("01xxx011", Command::SetBasicMode),
        ("x0xxx011", Command::NoOperation),
        ("xxxxxxxx", Command::Invalid),
    ];

    fn matches(pattern: &str, code: u8) -> bool {
        format!("{code:08b}").chars().zip(pattern.chars()).all(|(bit, want)| want == 'x' || want == bit)
    }

    fn expected(code: u8) -> Command {
        PATTERNS.iter().find(|(pattern, _)| matches(pattern, code)).unwrap().1
    }

    #[test]
    fn all_256_codes_decode_as_their_patterns_say() {
        for code in 0..=255u8 {
            let extended = expected(code);
            assert_eq!(Command::decode(code, Mode::Extended), extended, "{code:02X} extended");
            let basic = match extended {
                Command::WriteEndOfFile => Command::Write,
                Command::Prepare => Command::Invalid,
                other => other,
            };
            assert_eq!(Command::decode(code, Mode::Basic), basic, "{code:02X} basic");
        }
    }

    #[test]
    fn no_code_matches_two_patterns_except_the_exact_ones() {
        for code in 0..=255u8 {
            let hits = PATTERNS[5..13].iter().filter(|(pattern, _)| matches(pattern, code)).count();
            assert!(hits <= 1, "{code:02X}");
        }
    }

    #[test]
    fn the_codes_of_other_drivers_decode_as_they_expect() {
        let codes = [0x01, 0x02, 0x03, 0x14, 0x17, 0xC3, 0xE3];
        use Command::*;
        let commands = [Write, Read, NoOperation, SenseCommandByte, Control, SetExtendedMode, Prepare];
        assert_eq!(codes.map(|code| Command::decode(code, Mode::Extended)), commands);
    }

    #[test]
    fn end_of_file_is_neither_dependent_nor_immediate() {
        assert!(!Command::WriteEndOfFile.is_dependent() && !Command::WriteEndOfFile.is_immediate());
        assert!(Command::Prepare.is_dependent() && Command::Prepare.is_immediate());
        assert!(Command::SenseCommandByte.is_dependent() && !Command::SenseCommandByte.is_immediate());
    }
}
