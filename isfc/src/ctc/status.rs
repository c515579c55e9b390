//! What a device tells its channel: the unit status byte, and the sense bytes behind a unit check.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A unit status byte.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct UnitStatus(u8);

impl UnitStatus {
    /// No bit: the command was accepted and goes on.
    pub const NONE: Self = Self(0);
    /// The other side wants something.
    pub const ATTENTION: Self = Self(0x80);
    /// Changes the meaning of other bits; a CTC never sets it.
    pub const STATUS_MODIFIER: Self = Self(0x40);
    /// The control unit is free again; a CTC never sets it.
    pub const CONTROL_UNIT_END: Self = Self(0x20);
    /// The command was not accepted.
    pub const BUSY: Self = Self(0x10);
    /// The channel has done its part.
    pub const CHANNEL_END: Self = Self(0x08);
    /// The device has done its part.
    pub const DEVICE_END: Self = Self(0x04);
    /// Something is wrong: see the sense bytes.
    pub const UNIT_CHECK: Self = Self(0x02);
    /// An unusual but regular end; here, the partner's end of file.
    pub const UNIT_EXCEPTION: Self = Self(0x01);

    /// Channel end and device end: the usual end of a command.
    pub const ENDED: Self = Self(0x0C);
    /// Busy and attention: the partner was first, a collision.
    pub const COLLISION: Self = Self(0x90);
    /// The end of a command whose partner went away.
    pub const ENDED_CHECK: Self = Self(0x0E);
    /// The end of a read that met an end of file.
    pub const ENDED_EXCEPTION: Self = Self(0x0D);

    /// The byte as a channel sees it.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The status with these bits.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// All bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Nothing but channel end and device end: a command chain may go on.
    pub const fn is_usual(self) -> bool {
        self.0 & !Self::ENDED.0 == 0
    }
}

impl BitOr for UnitStatus {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for UnitStatus {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for UnitStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["attention", "SM", "CUE", "busy", "CE", "DE", "UC", "UE"];
        let set = (0..8).filter(|bit| self.0 & (0x80 >> bit) != 0).map(|bit| NAMES[bit]);
        write!(out, "UnitStatus({})", set.collect::<Vec<_>>().join("+"))
    }
}

/// The two sense bytes of an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// Byte 0; byte 1 is always zero.
    byte0: u8,
}

impl Sense {
    /// Nothing to report.
    pub const CLEAR: Self = Self { byte0: 0 };
    /// The partner is not ready or not there: intervention required and operation check.
    pub const NOT_READY: Self = Self { byte0: 0x41 };
    /// The command is not one of a CTC's. A real adapter says command reject (80).
    pub const INVALID_COMMAND: Self = Self { byte0: 0x10 };

    /// Bits 2 to 6, which do not outlive the command they belong to.
    const OF_ONE_COMMAND: u8 = 0x3E;

    /// Both bytes, as a basic sense command stores them.
    pub const fn bytes(self) -> [u8; 2] {
        [self.byte0, 0]
    }

    /// A command ended well: what only described the one before is gone.
    pub(super) fn after_command(&mut self) {
        self.byte0 &= !Self::OF_ONE_COMMAND;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_statuses_are_their_parts() {
        assert_eq!(UnitStatus::CHANNEL_END | UnitStatus::DEVICE_END, UnitStatus::ENDED);
        assert_eq!(UnitStatus::BUSY | UnitStatus::ATTENTION, UnitStatus::COLLISION);
        assert_eq!(UnitStatus::ENDED | UnitStatus::UNIT_CHECK, UnitStatus::ENDED_CHECK);
        assert_eq!(UnitStatus::ENDED | UnitStatus::UNIT_EXCEPTION, UnitStatus::ENDED_EXCEPTION);
        assert!(UnitStatus::DEVICE_END.is_usual() && !UnitStatus::ENDED_EXCEPTION.is_usual());
        assert_eq!(format!("{:?}", UnitStatus::COLLISION), "UnitStatus(attention+busy)");
    }

    #[test]
    fn a_good_command_clears_bits_2_to_6_and_leaves_intervention_required() {
        let mut sense = Sense::INVALID_COMMAND;
        sense.after_command();
        assert_eq!(sense, Sense::CLEAR);
        let mut sense = Sense::NOT_READY;
        sense.after_command();
        assert_eq!(sense.bytes(), [0x41, 0]);
    }
}
