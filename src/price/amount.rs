//! Amounts of money as people write them, and back: decimal digits and integers, exactly. No amount is
//! ever a floating-point number.

/// Decimals of a nano-USD.
const NANO_DECIMALS: usize = 9;
/// Decimals that are always shown.
const SHOWN_DECIMALS: usize = 2;

/// Dollars of a sum that is kept in nano-USD, at most: the store's integers have a sign.
const MAX_SUM_USD: u64 = 9_000_000_000;

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AmountError {
    #[error("must be an amount in dollars, such as \"2.50\"")]
    NotDecimal,
    #[error("has more than {0} decimals, which could not be kept exactly")]
    TooFine(usize),
    #[error("is too much: at most {0} dollars")]
    TooLarge(u64),
}

/// Reads an amount of dollars, `12`, `2.50` or `.5`, as a whole number of units of which
/// 10^`decimals` make a dollar. No sign, no exponent, no separators; at most `max_usd` dollars.
pub(crate) fn amount(text: &str, decimals: usize, max_usd: u64) -> Result<u64, AmountError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_empty = whole.is_empty() && fraction.is_empty();
    let ends_in_point = text.ends_with('.');
    if is_empty || ends_in_point || !are_digits(whole) || !are_digits(fraction) {
        return Err(AmountError::NotDecimal);
    }
    // Zeros at the end say nothing.
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > decimals {
        return Err(AmountError::TooFine(decimals));
    }
    let zeros = decimals - fraction.len();
    let digits = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', zeros));
    let units = digits
        .map(|digit| u64::from(digit - b'0'))
        .try_fold(0_u64, |units, digit| units.checked_mul(10)?.checked_add(digit));
    let unit = u32::try_from(decimals).ok().and_then(|decimals| 10_u64.checked_pow(decimals));
    let max = unit.and_then(|unit| unit.checked_mul(max_usd)).unwrap_or(u64::MAX);
    units.filter(|units| *units <= max).ok_or(AmountError::TooLarge(max_usd))
}

/// Reads a sum of dollars as nano-USD, as [`amount`] does.
pub(crate) fn nano_usd(text: &str) -> Result<u64, AmountError> {
    amount(text, NANO_DECIMALS, MAX_SUM_USD)
}

/// Nano-USD as a decimal number of dollars: exact, without zeros at the end, but with two decimals at
/// least. What is more than a cost can be is shown as the most.
pub(crate) fn usd(nano_usd: impl TryInto<i64>) -> String {
    let nano_usd = nano_usd.try_into().unwrap_or(i64::MAX);
    let unit = 10_u64.pow(NANO_DECIMALS as u32);
    let sign = if nano_usd < 0 { "-" } else { "" };
    let (whole, rest) = (nano_usd.unsigned_abs() / unit, nano_usd.unsigned_abs() % unit);
    let fraction = format!("{rest:0NANO_DECIMALS$}");
    let length = fraction.trim_end_matches('0').len().max(SHOWN_DECIMALS);
    format!("{sign}{whole}.{}", &fraction[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        use AmountError::{NotDecimal, TooFine, TooLarge};
        for (text, read) in [
            ("0", Ok(0)),
            ("2.50", Ok(2_500_000)),
            ("2.500000000", Ok(2_500_000)),
            ("0.1", Ok(100_000)),
            (".000001", Ok(1)),
            ("0.0000010", Ok(1)),
            ("0.0000011", Err(TooFine(6))),
            ("007", Ok(7_000_000)),
            ("1000000", Ok(1_000_000_000_000)),
            ("1000000.000001", Err(TooLarge(1_000_000))),
            ("99999999999999999999999999", Err(TooLarge(1_000_000))),
            ("", Err(NotDecimal)),
            (".", Err(NotDecimal)),
            ("1.", Err(NotDecimal)),
            ("-1", Err(NotDecimal)),
            ("+1", Err(NotDecimal)),
            ("1e3", Err(NotDecimal)),
            ("1,000", Err(NotDecimal)),
            ("1.2.3", Err(NotDecimal)),
            (" 1", Err(NotDecimal)),
            ("$1", Err(NotDecimal)),
            ("NaN", Err(NotDecimal)),
            ("١", Err(NotDecimal)),
        ] {
            assert_eq!(amount(text, 6, 1_000_000), read, "{text}");
        }
        assert_eq!(nano_usd("9000000000.000000000"), Ok(9_000_000_000_000_000_000));
        assert_eq!(nano_usd("9000000000.000000001"), Err(TooLarge(MAX_SUM_USD)));
        assert_eq!(nano_usd("0.0000000001"), Err(TooFine(9)));
        // What no floating-point number can hold.
        assert_eq!(amount("9223372036.854775807", 9, u64::MAX), Ok(i64::MAX.cast_unsigned()));
    }

    #[test]
    fn money_is_an_exact_decimal_number() {
        for (nano, text) in [
            (0, "0.00"),
            (1, "0.000000001"),
            (1_500_000_000, "1.50"),
            (1_234_000_000, "1.234"),
            (20_000_000_000, "20.00"),
            (-250_000_000, "-0.25"),
            (i64::MAX, "9223372036.854775807"),
            (i64::MIN, "-9223372036.854775808"),
        ] {
            assert_eq!(usd(nano), text);
            if nano >= 0 {
                assert_eq!(amount(text, NANO_DECIMALS, u64::MAX), Ok(nano.cast_unsigned()));
            }
        }
    }
}
