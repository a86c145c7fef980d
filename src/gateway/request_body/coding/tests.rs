//! Every coding over one body, cut everywhere, corrupted, and as a bomb.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderValue;

use super::*;

const BODY: &[u8] = include_bytes!("../../../../tests/fixtures/codings/body.json");
const BODY_BR: &[u8] = include_bytes!("../../../../tests/fixtures/codings/body.json.br");
const LARGE_WINDOW_BR: &[u8] =
    include_bytes!("../../../../tests/fixtures/codings/body.json.large-window.br");
const BOMB_BR: &[u8] = include_bytes!("../../../../tests/fixtures/codings/bomb.br");

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("a Vec takes it")
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("a Vec takes it")
}

fn raw(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("a Vec takes it")
}

fn zstd(body: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(body, 3).expect("a Vec takes it")
}

fn all() -> Vec<(Coding, Vec<u8>)> {
    vec![
        (Coding::Gzip, gzip(BODY)),
        (Coding::Deflate, zlib(BODY)),
        (Coding::Deflate, raw(BODY)),
        (Coding::Brotli, BODY_BR.to_vec()),
        (Coding::Zstd, zstd(BODY)),
    ]
}

/// What the pieces decode to, in steps of at most `room` bytes.
fn decode<'a>(
    coding: Coding,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
) -> Result<Vec<u8>, Corrupt> {
    let mut decoder = Decoder::new(coding)?;
    let (mut decoded, mut output) = (Vec::new(), vec![0; room]);
    for mut rest in pieces {
        loop {
            let step = decoder.step(rest, &mut output)?;
            rest = &rest[step.taken..];
            decoded.extend_from_slice(&output[..step.given]);
            if (step.taken, step.given) == (0, 0) {
                break;
            }
        }
        assert!(rest.is_empty(), "{coding:?} leaves something");
    }
    if decoder.is_whole() { Ok(decoded) } else { Err(Corrupt) }
}

#[test]
fn every_coding_decodes_however_it_is_cut() {
    for (coding, coded) in all() {
        for room in [1, 7, 1 << 16] {
            assert_eq!(decode(coding, [&*coded], room).as_deref(), Ok(BODY), "{coding:?}");
            assert_eq!(decode(coding, coded.chunks(1), room).as_deref(), Ok(BODY), "{coding:?}");
        }
        for cut in 0..=coded.len() {
            let pieces = [&coded[..cut], &coded[cut..]];
            assert_eq!(decode(coding, pieces, 4096).as_deref(), Ok(BODY), "{coding:?} at {cut}");
            let whole = cut == coded.len();
            assert_eq!(decode(coding, [&coded[..cut]], 4096).is_ok(), whole, "{coding:?} to {cut}");
        }
    }
}

#[test]
fn what_is_corrupt_is_found() {
    for (coding, coded) in all() {
        for garbage in [&b"not coded at all"[..], &[0xff; 40], b"\0"] {
            assert_eq!(decode(coding, [garbage], 64), Err(Corrupt), "{coding:?}");
        }
        let trailing = [&*coded, b"and more"].concat();
        assert_eq!(decode(coding, [&*trailing], 64), Err(Corrupt), "{coding:?}");
    }
    // Those with a checksum show a changed byte of it.
    for (coding, mut coded) in [(Coding::Gzip, gzip(BODY)), (Coding::Deflate, zlib(BODY))] {
        let at = coded.len() - if coding == Coding::Gzip { 8 } else { 1 };
        coded[at] ^= 1;
        assert_eq!(decode(coding, [&*coded], 4096), Err(Corrupt), "{coding:?}");
    }
}

#[test]
fn members_and_frames_follow_one_another() {
    let twice = [BODY, BODY].concat();
    for (coding, coded) in [(Coding::Gzip, gzip(BODY)), (Coding::Zstd, zstd(BODY))] {
        let coded = [&*coded, &*coded].concat();
        for cut in 0..coded.len() {
            let pieces = [&coded[..cut], &coded[cut..]];
            assert_eq!(decode(coding, pieces, 4096).as_deref(), Ok(&*twice), "{coding:?} at {cut}");
        }
    }
}

#[test]
fn a_bomb_goes_off_in_steps() {
    let spaces = vec![b' '; 16 << 20];
    let bombs = [
        (Coding::Gzip, gzip(&spaces)),
        (Coding::Deflate, raw(&spaces)),
        (Coding::Brotli, BOMB_BR.to_vec()),
        (Coding::Zstd, zstd(&spaces)),
    ];
    for (coding, bomb) in bombs {
        assert!(bomb.len() < 20_000, "{coding:?}");
        let mut decoder = Decoder::new(coding).expect("a decoder");
        let (mut rest, mut output, mut steps) = (&*bomb, [0; 4096], 0);
        // Whoever stops here has taken no more than was asked for.
        while steps < 100 {
            let step = decoder.step(rest, &mut output).expect("valid");
            rest = &rest[step.taken..];
            assert!(step.given > 0 || step.taken > 0, "{coding:?}");
            steps += 1;
        }
    }
}

#[test]
fn a_window_that_is_too_large_is_refused() {
    let frame = |log: u32| {
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.window_log(log).expect("a window");
        encoder.write_all(BODY).expect("a Vec takes it");
        encoder.finish().expect("a Vec takes it")
    };
    assert_eq!(decode(Coding::Zstd, [&*frame(23)], 4096).as_deref(), Ok(BODY));
    assert_eq!(decode(Coding::Zstd, [&*frame(24)], 4096), Err(Corrupt));
    // The same body, in brotli's extension for windows above 16 MiB.
    assert_eq!(decode(Coding::Brotli, [LARGE_WINDOW_BR], 4096), Err(Corrupt));
}

#[test]
fn codings_are_named_alone() {
    for (values, found) in [
        (&[][..], Ok(None)),
        (&["identity"], Ok(None)),
        (&[""], Ok(None)),
        (&["gzip"], Ok(Some(Coding::Gzip))),
        (&["X-GZip"], Ok(Some(Coding::Gzip))),
        (&[" deflate "], Ok(Some(Coding::Deflate))),
        (&["br"], Ok(Some(Coding::Brotli))),
        (&["zstd"], Ok(Some(Coding::Zstd))),
        (&["gzip, br"], Err(Unknown)),
        (&["gzip", "gzip"], Err(Unknown)),
        (&["compress"], Err(Unknown)),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        assert_eq!(Coding::of(&headers), found, "{values:?}");
    }
}
