//! EBCDIC (code page 037), as far as labels need it.

/// Letters, digits, blank, `@`, `#`, `$`; anything else becomes a blank.
pub(super) fn from_ascii(text: &str) -> Vec<u8> {
    text.bytes().map(byte_from_ascii).collect()
}

fn byte_from_ascii(byte: u8) -> u8 {
    match byte {
        b'A'..=b'I' => 0xC1 + (byte - b'A'),
        b'J'..=b'R' => 0xD1 + (byte - b'J'),
        b'S'..=b'Z' => 0xE2 + (byte - b'S'),
        b'0'..=b'9' => 0xF0 + (byte - b'0'),
        b'@' => 0x7C,
        b'#' => 0x7B,
        b'$' => 0x5B,
        _ => 0x40,
    }
}

/// The reverse; what is none of these becomes `?`.
pub(super) fn to_ascii(bytes: &[u8]) -> String {
    let one =
        |byte: &u8| (b' '..=b'Z').find(|ascii| byte_from_ascii(*ascii) == *byte).map_or('?', char::from);
    bytes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_as_the_hardware_has_them() {
        assert_eq!(from_ascii("VOL1"), [0xE5, 0xD6, 0xD3, 0xF1]);
        for text in ["VMCOM1", "A@B#C$", "IJRSZ9 "] {
            assert_eq!(to_ascii(&from_ascii(text)), text);
        }
        assert_eq!(to_ascii(&[0x00]), "?");
    }
}
