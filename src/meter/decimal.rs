//! Seconds and dollars, which upstreams write as decimal numbers: read digit by digit and made whole
//! numbers of a smaller unit, because a binary fraction would be another number.

/// So many digits are reckoned with; with more a number of them is too large, or they round off.
const DIGITS: u32 = 18;
/// Exponents beyond this, either way, make no difference any more.
const EXPONENT_LIMIT: i64 = 100_000;

/// The JSON number `text` times 10 to the `places`, rounded to the nearest, a half upwards; `None` if it
/// is negative or far too large.
pub(super) fn scaled(text: &[u8], places: i64) -> Option<u64> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let is_negative = unsigned.len() < text.len();
    let e = unsigned.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = unsigned.split_at(e.unwrap_or(unsigned.len()));
    // What the first digits are worth is `value` times 10 to the `power`.
    let (mut value, mut kept, mut power, mut in_fraction) = (0_u64, 0, 0_i64, false);
    for byte in mantissa {
        match byte {
            b'.' => in_fraction = true,
            _ if kept < DIGITS => {
                value = value * 10 + u64::from(byte - b'0');
                kept += u32::from(value > 0);
                power -= i64::from(in_fraction);
            }
            _ => power += i64::from(!in_fraction),
        }
    }
    if value == 0 {
        return Some(0);
    }
    let found = shifted(value, power + exponent_of(exponent) + places);
    found.filter(|_| !is_negative)
}

/// `e`, a sign that may be absent, and digits; or nothing at all.
fn exponent_of(text: &[u8]) -> i64 {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    let add = |number: i64, digit: &u8| (number * 10 + i64::from(digit - b'0')).min(EXPONENT_LIMIT);
    let number = digits.fold(0, add);
    if text.contains(&b'-') { -number } else { number }
}

/// `value`, which has at most [`DIGITS`] digits, times 10 to the `power`.
fn shifted(value: u64, power: i64) -> Option<u64> {
    let by = |power: i64| u32::try_from(power).ok().and_then(|power| 10_u64.checked_pow(power));
    if power >= 0 {
        return by(power)?.checked_mul(value);
    }
    match by(-power) {
        Some(divisor) if -power <= i64::from(DIGITS) => Some((value + divisor / 2) / divisor),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_become_whole_numbers_of_a_smaller_unit() {
        let cases = [
            ("0.000145", 9, Some(145_000)),
            ("1.45e-4", 9, Some(145_000)),
            ("1.45E-04", 9, Some(145_000)),
            ("145e-6", 9, Some(145_000)),
            ("0.00000000049", 9, Some(0)),
            ("0.0000000005", 9, Some(1)),
            ("0.00000000149999999999999999999999999", 9, Some(1)),
            ("0.1", 9, Some(100_000_000)),
            ("0", 9, Some(0)),
            ("-0.0", 9, Some(0)),
            ("0e99999999999999999999", 9, Some(0)),
            ("5e-99999999999999999999", 9, Some(0)),
            ("12", 9, Some(12_000_000_000)),
            ("1.2e1", 9, Some(12_000_000_000)),
            ("1e+2", 9, Some(100_000_000_000)),
            ("3.5", 3, Some(3_500)),
            ("8.470000267028809", 3, Some(8_470)),
            ("0.9999", 3, Some(1_000)),
            ("9007199254740.992", 3, Some(1 << 53)),
            ("9007199254740.993", 3, Some((1 << 53) + 1)),
            ("1e999", 3, None),
            ("123456789012345678901234567890", 3, None),
            ("-1", 3, None),
            ("-1e-30", 3, None),
        ];
        for (text, places, expected) in cases {
            assert_eq!(scaled(text.as_bytes(), places), expected, "{text}");
        }
    }

    proptest! {
        /// However the same number is written.
        #[test]
        fn the_point_and_the_exponent_say_the_same(count in 0..=1_u64 << 53, point in 0_usize..25) {
            let digits = format!("{count:0>26}");
            let (whole, fraction) = digits.split_at(digits.len() - point);
            let whole = whole.trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let dot = if point == 0 { "" } else { "." };
            let written = format!("{whole}{dot}{fraction}e{}", point as i64 - 9);
            prop_assert_eq!(scaled(written.as_bytes(), 9), Some(count), "{}", written);
        }
    }
}
