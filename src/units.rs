//! Sizes and rates as people write them: `4G`, `300M`, `64k`, `1.5G`, `4096`; binary multiples.

use std::num::NonZeroU64;

pub(crate) use lgr_engine::report::table::size;

/// Letters and the power of two each stands for.
const MULTIPLES: [(char, u32); 5] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50)];

/// Reads a size in bytes: a number, and perhaps one of `k`, `M`, `G`, `T`, `P` in either case, with or without `iB`,
/// `B` or `/s` after it. Multiples are binary. A fraction is rounded down to whole bytes.
///
/// # Errors
/// One line that says what is wrong and what to write.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let nonsense = || format!("'{text}' is no size: write a number with k, M, G or T, as in 4G or 300M");
    let too_large = || format!("'{text}' is too large: sizes end at 16 EiB");
    let lower = text.trim().to_ascii_lowercase();
    let body = lower.strip_suffix("/s").unwrap_or(&lower);
    let body = body.strip_suffix("ib").or_else(|| body.strip_suffix('b')).unwrap_or(body);
    let multiple = MULTIPLES.iter().find_map(|&(letter, bits)| Some((body.strip_suffix(letter)?, bits)));
    let (number, bits) = multiple.unwrap_or((body, 0));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    // Nine digits after the point are plenty, and keep the sum below inside 128 bits.
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(nonsense());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let part: u64 = fraction.parse().map_err(|_| nonsense())?;
    let bytes = (u128::from(whole) << bits) + (u128::from(part) << bits) / 10_u128.pow(fraction.len() as u32);
    u64::try_from(bytes).map_err(|_| too_large())
}

/// Reads a size per second, which must not be zero.
pub(crate) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse_bytes(text)?).ok_or_else(|| "a link that carries nothing never ends".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_multiples() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64k", 64 << 10),
            ("300M", 300 << 20),
            ("4g", 4 << 30),
            ("1T", 1 << 40),
            ("1.5G", 3 << 29),
            ("0.1k", 102),
            ("2GiB", 2 << 30),
            ("2MB", 2 << 20),
            ("500M/s", 500 << 20),
            (" 7 ", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_gets_one_line_that_says_what_to_write() {
        for text in ["", "G", "-1", "+1", "4X", "1e9", "1.", ".5G", "4GG", "1.2.3", "0x10", "1.0000000001k"] {
            let error = parse_bytes(text).unwrap_err();
            assert!(error.contains("as in 4G") && !error.contains('\n'), "{text}: {error}");
        }
        for text in ["18446744073709551616", "16777216T", "99999999999999999999999G"] {
            assert!(parse_bytes(text).unwrap_err().contains("too large"), "{text}");
        }
        assert_eq!(parse_bytes("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn sizes_are_printed_so_that_they_can_be_read_back() {
        assert_eq!(size(4 << 30), "4.00 GiB");
        assert_eq!(parse_bytes(&size(4 << 30).replace(' ', "")), Ok(4 << 30));
    }
}
