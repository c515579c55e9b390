//! Which device an adapter says it is: Sense ID, and the node descriptors behind it.

use super::command::Mode;

/// Bytes that Sense ID gives.
pub const SENSE_ID_LEN_BYTES: usize = 12;
/// Bytes that Read Configuration Data gives. The CIW of [`Identity::sense_id`] says 128: programs that
/// believe it get the record without its last descriptor's end, as from other FICON CTCs.
pub const CONFIGURATION_LEN_BYTES: usize = 132;

/// Read Configuration Data, as Sense ID's command information word names it.
const CIW: [u8; 4] = [0x40, 0xC4, 0x00, 0x80];

const NED_LOCAL: usize = 0;
const NED_SPECIFIC: usize = 32;
const NED_TOKEN: usize = 64;
const NED_GENERAL: usize = 96;

/// The devices of the 3088 family that this adapter can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// FICON CTC, 3088-1E, extended mode.
    #[default]
    Fctc,
    /// ESCON CTC, 3088-1F, extended mode.
    Sctc,
    /// ESCON CTC, 3088-1F, basic mode.
    Bctc,
    /// The original adapter, 3088-08, extended mode.
    Ctca,
    /// The original adapter, 3088-08, basic mode.
    CtcaBasic,
}

impl Model {
    /// The mode after a reset: device model 00 is extended, anything else basic.
    pub const fn mode(self) -> Mode {
        match self {
            Self::Fctc | Self::Sctc | Self::Ctca => Mode::Extended,
            Self::Bctc | Self::CtcaBasic => Mode::Basic,
        }
    }

    const fn control_unit_model(self) -> u8 {
        match self {
            Self::Fctc => 0x1E,
            Self::Sctc | Self::Bctc => 0x1F,
            Self::Ctca | Self::CtcaBasic => 0x08,
        }
    }
}

/// Who an adapter side is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Which device.
    pub model: Model,
    /// Device number; its low byte is the unit address.
    pub device: u16,
    /// Device number on the other side.
    pub partner_device: u16,
}

impl Identity {
    /// What Sense ID gives, and how many bytes of it: only the FICON CTC has a CIW.
    pub fn sense_id(&self) -> ([u8; SENSE_ID_LEN_BYTES], u32) {
        let device_model = u8::from(self.model.mode() == Mode::Basic);
        let control_unit = self.model.control_unit_model();
        let mut bytes = [0xFF, 0x30, 0x88, control_unit, 0, 0, device_model, 0, 0, 0, 0, 0];
        if self.model != Model::Fctc {
            return (bytes, 7);
        }
        bytes[8..].copy_from_slice(&CIW);
        (bytes, SENSE_ID_LEN_BYTES as u32)
    }

    /// What Read Configuration Data gives: four descriptors of 32 bytes, and four bytes of zeros.
    ///
    /// Manufacturer, plant and serial number are this implementation's own.
    pub fn configuration(&self) -> [u8; CONFIGURATION_LEN_BYTES] {
        let mut bytes = [0; CONFIGURATION_LEN_BYTES];
        descriptor(&mut bytes, NED_LOCAL, 0xC8, "003088", "CTC", self.device);
        descriptor(&mut bytes, NED_SPECIFIC, 0x40, "003088", "CTC", self.partner_device);
        descriptor(&mut bytes, NED_TOKEN, 0xE8, "002817", "   ", 0);
        bytes[NED_GENERAL] = 0x80;
        // Record selector, then the interfaces: 0001 the local one, 0002 the remote one.
        bytes[NED_GENERAL + 2..NED_GENERAL + 4].copy_from_slice(&self.device.to_be_bytes());
        bytes[NED_GENERAL + 8..NED_GENERAL + 12].copy_from_slice(&[0, 1, 0, 2]);
        bytes
    }
}

/// flags 1, type 1, class 1, reserved 1, type 6, model 3, manufacturer 3, plant 2, sequence 12, tag 2.
fn descriptor(bytes: &mut [u8], at: usize, flags: u8, machine: &str, model: &str, device: u16) {
    const TYPE_IO_DEVICE: u8 = 0x01;
    const CLASS_CTCA: u8 = 0x09;
    bytes[at..at + 4].copy_from_slice(&[flags, TYPE_IO_DEVICE, CLASS_CTCA, 0]);
    let text = machine.bytes().chain(model.bytes()).chain("SSI00000000000000".bytes());
    for (to, character) in bytes[at + 4..at + 30].iter_mut().zip(text) {
        *to = ebcdic(character);
    }
    bytes[at + 30..at + 32].copy_from_slice(&device.to_be_bytes());
}

/// Digits, the capital letters and the blank, which is all a descriptor holds.
const fn ebcdic(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => 0xF0 + (character - b'0'),
        b'A'..=b'I' => 0xC1 + (character - b'A'),
        b'J'..=b'R' => 0xD1 + (character - b'J'),
        b'S'..=b'Z' => 0xE2 + (character - b'S'),
        _ => 0x40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ficon_ctc_is_a_3088_1e_with_a_ciw_for_its_configuration_data() {
        let (bytes, len_bytes) = Identity::default().sense_id();
        assert_eq!(bytes, [0xFF, 0x30, 0x88, 0x1E, 0, 0, 0, 0, 0x40, 0xC4, 0x00, 0x80]);
        assert_eq!(len_bytes, 12);
    }

    #[test]
    fn other_models_differ_in_control_unit_and_mode_and_have_no_ciw() {
        let of = |model| Identity { model, ..Identity::default() }.sense_id();
        assert_eq!(of(Model::Bctc), ([0xFF, 0x30, 0x88, 0x1F, 0, 0, 1, 0, 0, 0, 0, 0], 7));
        assert_eq!(of(Model::Ctca).0[3], 0x08);
        assert_eq!(Model::CtcaBasic.mode(), Mode::Basic);
    }

    #[test]
    fn the_configuration_record_has_its_four_descriptors() {
        let identity = Identity { device: 0x4290, partner_device: 0x5291, ..Identity::default() };
        let bytes = identity.configuration();
        assert_eq!([bytes[0], bytes[32], bytes[64], bytes[96]], [0xC8, 0x40, 0xE8, 0x80]);
        assert_eq!(bytes[1..4], [0x01, 0x09, 0]);
        assert_eq!(bytes[4..13], [0xF0, 0xF0, 0xF3, 0xF0, 0xF8, 0xF8, 0xC3, 0xE3, 0xC3]);
        assert_eq!(bytes[30..32], [0x42, 0x90], "the tag's low byte is the unit address");
        assert_eq!(bytes[62..64], [0x52, 0x91]);
        assert_eq!(bytes[64 + 4..64 + 10], [0xF0, 0xF0, 0xF2, 0xF8, 0xF1, 0xF7]);
    }
}
