//! Sizes as people write them: `4G`, `300M`, `64k`, plain bytes; multiples are binary.

/// Parses a size in bytes.
///
/// # Errors
/// In words, what is wrong and how to write it.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("'{text}' is no size: write bytes, or a number with K, M, G or T, such as 300M");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(bad()),
    };
    let unit = (1u64 << shift) as f64;
    let value: f64 = digits.parse().map_err(|_| bad())?;
    let bytes = value * unit;
    if !(bytes.is_finite() && (0.0..=9.0e18).contains(&bytes)) {
        return Err(bad());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64k", 65536),
            ("300M", 300 << 20),
            ("1.5G", 3 << 29),
            ("1T", 1 << 40),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "G", "-1M", "1X", "1e400", "nan", "99999999T"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
