//! Skipping what is ordinary in a string: nearly all bytes of a body are passed over here.

const BLOCK: usize = 64;
const SHORT: usize = 16;
const WORD: usize = 8;

/// How many bytes at the beginning of `bytes` are neither `"`, `\` nor control characters.
///
/// Whole blocks are tested without a branch, which the compiler turns into vector instructions; the
/// place within a block is found a word at a time. One pass does what memchr2 and a check for control
/// characters would do in two.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> usize {
    // Keys and most strings end early: a few short blocks are looked at before starting on long ones.
    let mut rest = bytes;
    let mut at = 0;
    while let Some((block, more)) = rest.split_first_chunk::<SHORT>() {
        let special = u128::from_le_bytes(marks(block));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        (at, rest) = (at + SHORT, more);
        if at == BLOCK {
            break;
        }
    }
    at + long_plain(rest)
}

/// Marks each special byte, so that the first one is found without a branch. `map`, in a function of
/// its own, becomes vector instructions; a loop here would not.
fn marks(block: &[u8; SHORT]) -> [u8; SHORT] {
    block.map(|byte| u8::from(is_special(byte)))
}

/// [`plain`] for what is known to be long, or shorter than a word.
#[inline(never)]
fn long_plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        while let Some(block) = bytes[at..].first_chunk::<BLOCK>() {
            if block.iter().fold(false, |found, b| found | is_special(*b)) {
                break;
            }
            at += BLOCK;
        }
        for _ in 0..BLOCK / WORD {
            let Some(word) = bytes[at..].first_chunk::<WORD>() else {
                let rest = &bytes[at..];
                return at + rest.iter().position(|b| is_special(*b)).unwrap_or(rest.len());
            };
            let special = specials(u64::from_le_bytes(*word));
            if special != 0 {
                return at + special.trailing_zeros() as usize / 8;
            }
            at += WORD;
        }
    }
}

#[inline]
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Sets the high bit of the bytes that are special. Bytes above the lowest special one may be marked
/// wrongly (a borrow runs upwards), so only the lowest mark counts.
#[inline]
fn specials(word: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // A byte less than `n` borrows from its high bit when `n` is taken from it. A byte whose high bit
    // was set before is none of ours, which the end sees to.
    let quote = (word ^ (LOW * u64::from(b'"'))).wrapping_sub(LOW);
    let backslash = (word ^ (LOW * u64::from(b'\\'))).wrapping_sub(LOW);
    let control = word.wrapping_sub(LOW * 0x20);
    (control | quote | backslash) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for length in 0..200 {
            for special in [0x00, 0x1f, b'"', b'\\'] {
                for fill in [0x20, b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                    let mut bytes = vec![fill; length];
                    bytes.extend([special, special, 0, fill]);
                    assert_eq!(plain(&bytes), length, "{special} in {fill}");
                    assert_eq!(plain(&bytes[..length]), length, "only {fill}");
                }
            }
        }
    }
}
