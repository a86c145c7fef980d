//! What a tenant's key looks like: `sk-weir-` and 40 characters of base 62, of which the last six
//! are a CRC-32 of everything before them. The checksum tells a typo from an unknown key without a
//! look-up, and lets secret scanners find a leaked key without asking anybody.

use std::fmt;

use sha2::{Digest, Sha256};

/// What every key begins with.
pub(crate) const PREFIX: &str = "sk-weir-";
/// What every key's id begins with.
const ID_PREFIX: &str = "key_";
/// 34 of 62 characters are 202 bits: enough that a digest needs no pepper.
const SECRET_LEN: usize = 34;
/// 62⁶ is more than 2³².
const CHECKSUM_LEN: usize = 6;
const ID_LEN: usize = 16;
/// A key's length in bytes, all of them ASCII.
pub(crate) const KEY_LEN: usize = PREFIX.len() + SECRET_LEN + CHECKSUM_LEN;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed key. It prints as `***`; only [`KeyText::reveal`] shows it.
#[derive(Clone)]
pub(crate) struct KeyText([u8; KEY_LEN]);

/// This can't be a key that Weir made: there is a typo in it, or it belongs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed key")]
pub(crate) struct Malformed;

/// The machine has no random numbers to give.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers: {0}")]
pub(crate) struct NoRandomness(#[from] getrandom::Error);

impl KeyText {
    /// Makes a new key.
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        let mut secret = [0; SECRET_LEN];
        fill_random(&mut secret)?;
        Ok(Self::with_secret(secret))
    }

    /// The key of a number, always the same one: what tests take for a key.
    #[cfg(test)]
    pub(crate) fn of_number(number: u64) -> Self {
        let digest = Sha256::digest(number.to_be_bytes());
        let digit = |at: usize| BASE62[usize::from(digest[at % digest.len()] % 62)];
        Self::with_secret(std::array::from_fn(digit))
    }

    fn with_secret(secret: [u8; SECRET_LEN]) -> Self {
        let mut key = [0; KEY_LEN];
        let (before, checksum) = key.split_at_mut(KEY_LEN - CHECKSUM_LEN);
        before[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        before[PREFIX.len()..].copy_from_slice(&secret);
        checksum.copy_from_slice(&checksum_of(before));
        Self(key)
    }

    /// Takes a key from a request. No look-up: a well-formed key may still be unknown.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let key: [u8; KEY_LEN] = text.try_into().map_err(|_| Malformed)?;
        let (before, checksum) = key.split_at(KEY_LEN - CHECKSUM_LEN);
        let secret = before.strip_prefix(PREFIX.as_bytes()).ok_or(Malformed)?;
        // The checksum compares equal to base 62 only, so the secret alone is left to look at.
        if !secret.iter().all(u8::is_ascii_alphanumeric) || checksum != checksum_of(before) {
            return Err(Malformed);
        }
        Ok(Self(key))
    }

    /// SHA-256 of the whole text: what is stored and looked up.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The last four characters, for people to tell keys apart.
    pub(crate) fn last4(&self) -> &str {
        &self.reveal()[KEY_LEN - 4..]
    }

    /// The key itself, to be shown once.
    pub(crate) fn reveal(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the prefix and base 62 are ASCII")
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Makes a new key id, such as `key_7Hq2…`: 95 random bits, so that none comes twice.
pub(crate) fn generate_id() -> Result<String, NoRandomness> {
    let mut random = [0; ID_LEN];
    fill_random(&mut random)?;
    let text = std::str::from_utf8(&random).expect("base 62 is ASCII");
    Ok(format!("{ID_PREFIX}{text}"))
}

/// Fills `text` with random characters of base 62, all equally likely: of a byte's 256 values the
/// last eight, which would favour some characters, are thrown away.
fn fill_random(text: &mut [u8]) -> Result<(), NoRandomness> {
    const FAIR: u8 = 248;
    let mut filled = 0;
    while filled < text.len() {
        let mut random = [0; 64];
        getrandom::fill(&mut random)?;
        let fair = random.into_iter().filter(|byte| *byte < FAIR);
        for (place, byte) in text[filled..].iter_mut().zip(fair) {
            *place = BASE62[usize::from(byte % 62)];
            filled += 1;
        }
    }
    Ok(())
}

/// CRC-32 of `before` in base 62, most significant digit first, padded with zeros.
fn checksum_of(before: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(before);
    let mut digits = [0; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_has_the_documented_form_and_parses() {
        // As random as they come: what is said of them holds for every key.
        let made = (0..200).map(|_| KeyText::generate().unwrap());
        for key in made.chain((0..200).map(KeyText::of_number)) {
            let text = key.reveal();
            assert_eq!(text.len(), 48);
            assert!(text.starts_with("sk-weir-"));
            assert!(text[8..].bytes().all(|byte| BASE62.contains(&byte)), "{text}");
            assert_eq!(KeyText::parse(text.as_bytes()).unwrap().digest(), key.digest());
            assert_eq!(key.last4(), &text[44..]);
        }
    }

    #[test]
    fn a_known_key_has_a_known_checksum_and_digest() {
        // Computed by Python's zlib and hashlib.
        let text = b"sk-weir-0123456789abcdefghijABCDEFGHIJ01233ix3B4";
        let key = KeyText::parse(text).unwrap();
        let digest: String = key.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "26ad33911c41fdcf77b3fe41b0afc860697c39608592e31f631a0d434e69e5a2");
        assert_eq!(key.last4(), "x3B4");
    }

    #[test]
    fn every_substitution_of_one_character_is_found() {
        let key = KeyText::of_number(1);
        let text = key.reveal().as_bytes();
        for place in 0..KEY_LEN {
            for byte in 0..=u8::MAX {
                let mut typo = text.to_vec();
                typo[place] = byte;
                assert_eq!(KeyText::parse(&typo).is_ok(), byte == text[place], "{place} {byte}");
            }
        }
    }

    #[test]
    fn neighbours_swapped_and_wrong_lengths_are_found() {
        let key = KeyText::of_number(1);
        let text = key.reveal().as_bytes();
        for place in 0..KEY_LEN - 1 {
            let mut typo = text.to_vec();
            typo.swap(place, place + 1);
            assert_eq!(KeyText::parse(&typo).is_ok(), typo == text, "{place}");
        }
        for cut in 0..KEY_LEN {
            assert!(KeyText::parse(&text[..cut]).is_err(), "{cut}");
        }
        assert!(KeyText::parse(&[text, b"0"].concat()).is_err());
    }

    #[test]
    fn nothing_but_reveal_shows_a_key() {
        let key = KeyText::of_number(1);
        assert_eq!(format!("{key:?} {key:#?}"), "*** ***");
    }

    #[test]
    fn ids_and_keys_differ_and_use_every_character() {
        let ids: std::collections::BTreeSet<_> = (0..500).map(|_| generate_id().unwrap()).collect();
        assert_eq!(ids.len(), 500);
        assert!(ids.iter().all(|id| id.len() == 20 && id.starts_with("key_")));
        let seen: std::collections::BTreeSet<_> =
            ids.iter().flat_map(|id| id[4..].bytes()).collect();
        // 8,000 characters: one that is missing by chance is as likely as 62 · (61/62)^8000.
        assert_eq!(seen.len(), 62);
    }
}
