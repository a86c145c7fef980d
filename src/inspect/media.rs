//! What a file in a request is taken for: whether it is one, by where it stands and how it begins, and
//! what a model reads in it, by its size. All of it is an estimate, for the reservation and for rows to
//! which the upstream states nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::mp3::{AUDIO_BYTES_PER_SECOND, Mp3};

/// What is kept of a string's beginning: a data URL's head and a WAV file's in base64.
pub(super) const HEAD: usize = 128;
/// Of a file in base64, so many bytes are a token; PDFs and others, whose text and pages are read.
const FILE_BASE64_PER_TOKEN: u64 = 6;
/// OpenAI counts a token for every 100 ms that it hears, and others up to three times as many.
const AUDIO_MS_PER_TOKEN: u64 = 100;
/// Bytes of a WAV file that tell its format and its rate; of most, ten fewer.
pub(super) const WAV_HEAD: usize = 46;
/// Bytes a second of a WAV file that are believed: from telephones to four times what a CD or a film has.
const WAV_RATES: std::ops::RangeInclusive<u64> = 1_000..=768_000;
/// Where the head of most WAV files ends that tells their rate.
const WAV_SHORT: usize = 36;

/// Tokens of a file of so many bytes of base64.
pub(super) fn file_tokens(base64_bytes: u64) -> u64 {
    base64_bytes.div_ceil(FILE_BASE64_PER_TOKEN)
}

/// Tokens of so much audio.
pub(super) fn audio_tokens(ms: u64) -> u64 {
    ms.div_ceil(AUDIO_MS_PER_TOKEN)
}

/// How long audio of so many bytes is that begins with `head`, in milliseconds. `compressed`: what else says so.
pub(super) fn audio_ms(head: &[u8], bytes: u64, compressed: &Mp3) -> u64 {
    wav_rate(head).map_or_else(|| compressed.ms(), |rate| ms_at(rate, bytes))
}

/// The same of base64, of which the beginning alone is read.
pub(super) fn base64_audio_ms(head: &[u8], base64_bytes: u64) -> u64 {
    let rate = wav_rate(&decoded(head)).unwrap_or(AUDIO_BYTES_PER_SECOND);
    ms_at(rate, base64_bytes / 4 * 3)
}

fn ms_at(rate: u64, bytes: u64) -> u64 {
    bytes.saturating_mul(1_000).div_ceil(rate)
}

/// Whether a byte may stand in base64, in either alphabet (RFC 4648 §4 and §5) and broken into lines.
pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(&byte)
}

/// Whether base64 is that of a PDF.
pub(super) fn is_pdf(head: &[u8]) -> bool {
    head.starts_with(b"JVBERi")
}

/// Where the base64 of a data URL begins that names its type (RFC 2397); `None`: it is text.
pub(super) fn data_url(head: &[u8]) -> Option<usize> {
    const MARK: &[u8] = b";base64,";
    let head = &head[..head.len().min(HEAD)];
    let kind = head.strip_prefix(b"data:")?;
    let end = kind.windows(MARK.len()).position(|word| word == MARK)?;
    // In JSON a slash may have a backslash before it.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/\\+.-;=".contains(byte);
    let kind = &kind[..end];
    let is_kind = kind.contains(&b'/') && kind.iter().all(is_plain);
    is_kind.then_some(b"data:".len() + end + MARK.len())
}

/// Bytes a second of uncompressed audio in a WAV file, of which this is the beginning.
fn wav_rate(head: &[u8]) -> Option<u64> {
    let is_wav =
        head.len() >= WAV_SHORT && head.starts_with(b"RIFF") && &head[8..16] == b"WAVEfmt ";
    let number = |at: usize, length: usize| {
        let bytes = head[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    // Only of samples as they are (WAVE_FORMAT_PCM, _IEEE_FLOAT) the rate is theirs; a WAV file may also hold MP3
    // and others, to whose decoders these numbers mean nothing. WAVE_FORMAT_EXTENSIBLE has the tag elsewhere.
    let is_samples = is_wav
        && match number(20, 2) {
            0xfffe => head.len() >= WAV_HEAD && matches!(number(44, 2), 1 | 3),
            tag => matches!(tag, 1 | 3),
        };
    // Channels, samples a second, bits of a sample: what a decoder goes by.
    let rate = is_samples.then(|| number(22, 2) * number(24, 4) * number(34, 2) / 8)?;
    Some(rate).filter(|rate| WAV_RATES.contains(rate))
}

/// The beginning of what base64 stands for.
fn decoded(head: &[u8]) -> Vec<u8> {
    let base64: Vec<u8> = head.iter().copied().filter(|byte| *byte != b'\\').take(64).collect();
    STANDARD_NO_PAD.decode(&base64[..base64.len() / 4 * 4]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a WAV file.
    fn wav(channels: u8, samples: u32, bits: u8) -> Vec<u8> {
        tagged(1, channels, samples, bits)
    }

    fn tagged(tag: u16, channels: u8, samples: u32, bits: u8) -> Vec<u8> {
        let mut head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        head.extend(tag.to_le_bytes());
        head.extend([channels, 0]);
        head.extend(samples.to_le_bytes());
        head.extend([0, 0, 0, 0, 0, 0, bits, 0]);
        head
    }

    /// One whose tag stands where its extension has it.
    fn extensible(tag: u8) -> Vec<u8> {
        [tagged(0xfffe, 1, 16_000, 16), vec![22, 0, 16, 0, 4, 0, 0, 0, tag, 0]].concat()
    }

    #[test]
    fn audio_is_as_long_as_its_head_says_or_as_its_bytes_are_many() {
        for (head, bytes, ms) in [
            (wav(1, 16_000, 16), 320_000, 10_000),
            (wav(2, 44_100, 16), 176_400, 1_000),
            // A rate that nobody believes.
            (wav(255, u32::MAX, 255), 8_000, 8_000),
            (wav(2, 192_000, 32), 8_000, 8_000),
            (wav(1, 1, 8), 8_000, 8_000),
            (wav(1, 16_000, 16)[..30].to_vec(), 8_000, 8_000),
            // Samples as numbers with a fraction; and MP3, which the head calls what it likes.
            (tagged(3, 1, 16_000, 32), 64_000, 1_000),
            (tagged(0x55, 2, 96_000, 32), 8_000, 8_000),
            (extensible(1), 32_000, 1_000),
            (extensible(3), 32_000, 1_000),
            (extensible(0x55), 8_000, 8_000),
            (extensible(1)[..44].to_vec(), 8_000, 8_000),
            (b"ID3".to_vec(), 8_000, 8_000),
            (Vec::new(), 1, 1),
        ] {
            let mut mp3 = Mp3::default();
            mp3.push(&head);
            mp3.push(&vec![b'~'; bytes as usize - head.len()]);
            assert_eq!(audio_ms(&head, bytes, &mp3), ms, "{head:?}");
            let mut base64 = STANDARD_NO_PAD.encode(&head);
            base64.push_str(&"A".repeat(HEAD));
            let in_base64 = base64_audio_ms(base64.as_bytes(), bytes.div_ceil(3) * 4);
            assert!(in_base64.abs_diff(ms) <= 2, "{head:?}: {in_base64}");
        }
        assert_eq!((audio_tokens(10_000), audio_tokens(1)), (100, 1));
    }

    #[test]
    fn a_data_url_says_what_it_is_and_that_it_is_base64() {
        for (text, at) in [
            ("data:image/png;base64,AAAA", Some(22)),
            (r"data:image\/png;base64,AAAA", Some(23)),
            ("data:audio/ogg;codecs=opus;base64,AAAA", Some(34)),
            ("data:;base64,AAAA", None),
            ("data:image/png,AAAA", None),
            ("data: is a word/and so is;base64,", None),
            ("data:", None),
            ("https://a/b;base64,", None),
        ] {
            assert_eq!(data_url(text.as_bytes()), at, "{text}");
        }
        assert!(data_url(format!("data:a/{};base64,", "b".repeat(HEAD)).as_bytes()).is_none());
    }
}
