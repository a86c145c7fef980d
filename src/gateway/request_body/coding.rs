//! Compressed request bodies (RFC 9110 §8.4), decoded as they arrive and in small steps: a few bytes can
//! stand for gigabytes, so that whoever asks for a step decides whether there is to be another.
//!
//! What a decoder holds is its window: 32 KiB for gzip and deflate, at most 16 MiB for brotli, at most 8
//! MiB for zstd as RFC 9659 has it. It is filled with nothing but decoded bytes, which the caller counts.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use zstd::stream::raw::{Decoder as Zstd, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::DParameter;

/// RFC 9659 §3: no decoder has to take more.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A coding that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// RFC 1950; as many servers do, RFC 1951 without it is taken, too.
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The largest window of its decoder.
    pub(super) fn window_bytes(self) -> u64 {
        match self {
            Self::Gzip | Self::Deflate => 32 << 10,
            // RFC 7932 §9.1, without the extension for large windows.
            Self::Brotli => 16 << 20,
            Self::Zstd => 1 << ZSTD_WINDOW_LOG,
        }
    }
}

/// The coding is not one of ours, or is one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown;

/// What was decoded does not follow from its coding's rules, or ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Corrupt;

/// A body being decoded.
pub(super) enum Decoder {
    /// gzip, deflate with or without its head.
    Inflate {
        inflate: Decompress,
        /// Another gzip member may follow.
        is_gzip: bool,
        state: Member,
    },
    /// Before the two bytes that tell the forms of deflate apart.
    Deflate(Option<u8>),
    Brotli {
        state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
        is_done: bool,
    },
    Zstd {
        zstd: Zstd<'static>,
        state: Member,
    },
}

/// Where in a member, or a frame, the input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// Nothing has come at all.
    None,
    Inside,
    /// Whole; another one may follow.
    Over,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Bytes of the input that are done with.
    pub(super) taken: usize,
    /// Bytes written to the output.
    pub(super) given: usize,
}

impl Coding {
    /// The coding of a request with these headers; `None`: it is as it is.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Unknown> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Unknown);
        }
        let value = value.to_str().map_err(|_| Unknown)?.trim().to_ascii_lowercase();
        match &*value {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            "br" => Ok(Some(Self::Brotli)),
            "zstd" => Ok(Some(Self::Zstd)),
            _ => Err(Unknown),
        }
    }
}

impl Decoder {
    pub(super) fn new(coding: Coding) -> Result<Self, Corrupt> {
        Ok(match coding {
            Coding::Gzip => {
                let inflate = Decompress::new_gzip(15);
                Self::Inflate { inflate, is_gzip: true, state: Member::None }
            }
            Coding::Deflate => Self::Deflate(None),
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                // Strict: without the extension that allows windows of a gigabyte.
                let state = BrotliState::new_strict(alloc(), alloc(), alloc());
                Self::Brotli { state: Box::new(state), is_done: false }
            }
            Coding::Zstd => {
                let mut zstd = Zstd::new().map_err(|_| Corrupt)?;
                let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG);
                zstd.set_parameter(window).map_err(|_| Corrupt)?;
                Self::Zstd { zstd, state: Member::None }
            }
        })
    }

    /// Decodes some of `input` into `output`, as far as either goes. When it does neither, it needs more
    /// input.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, Corrupt> {
        match self {
            Self::Inflate { inflate, is_gzip, state } => {
                inflated(inflate, *is_gzip, state, input, output)
            }
            Self::Deflate(first) => {
                let Some(&byte) = input.first() else { return Ok(Step { taken: 0, given: 0 }) };
                let Some(head) = first.replace(byte) else {
                    return Ok(Step { taken: 1, given: 0 });
                };
                // RFC 1950 §2.2: the method is 8, and both bytes together are a multiple of 31.
                let has_head = head & 0x0f == 8 && u16::from_be_bytes([head, byte]) % 31 == 0;
                let mut inflate = Decompress::new(has_head);
                let mut state = Member::None;
                inflated(&mut inflate, false, &mut state, &[head], &mut [0])?;
                *self = Self::Inflate { inflate, is_gzip: false, state };
                self.step(input, output)
            }
            Self::Brotli { state, is_done } => {
                if *is_done {
                    let is_more = !input.is_empty();
                    return if is_more { Err(Corrupt) } else { Ok(Step { taken: 0, given: 0 }) };
                }
                let (mut left, mut taken) = (input.len(), 0);
                let (mut room, mut given, mut total) = (output.len(), 0, 0);
                let result = BrotliDecompressStream(
                    &mut left, &mut taken, input, &mut room, &mut given, output, &mut total, state,
                );
                match result {
                    BrotliResult::ResultFailure => return Err(Corrupt),
                    BrotliResult::ResultSuccess => *is_done = true,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                Ok(Step { taken, given })
            }
            Self::Zstd { zstd, state } => {
                if input.is_empty() && *state != Member::Inside {
                    return Ok(Step { taken: 0, given: 0 });
                }
                let (mut input, mut output) = (InBuffer::around(input), OutBuffer::around(output));
                let left = zstd.run(&mut input, &mut output).map_err(|_| Corrupt)?;
                *state = if left == 0 { Member::Over } else { Member::Inside };
                Ok(Step { taken: input.pos(), given: output.pos() })
            }
        }
    }

    /// Whether the input may end here.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Inflate { state, .. } | Self::Zstd { state, .. } => *state == Member::Over,
            Self::Deflate(_) => false,
            Self::Brotli { is_done, .. } => *is_done,
        }
    }
}

fn inflated(
    inflate: &mut Decompress,
    is_gzip: bool,
    state: &mut Member,
    input: &[u8],
    output: &mut [u8],
) -> Result<Step, Corrupt> {
    if *state == Member::Over {
        if input.is_empty() {
            return Ok(Step { taken: 0, given: 0 });
        }
        if !is_gzip {
            return Err(Corrupt);
        }
        // RFC 1952 §2.2: members simply follow one another.
        *inflate = Decompress::new_gzip(15);
    }
    let before = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None).map_err(|_| Corrupt)?;
    *state = if status == Status::StreamEnd { Member::Over } else { Member::Inside };
    // Both differences are lengths of the slices given.
    let taken = (inflate.total_in() - before.0) as usize;
    let given = (inflate.total_out() - before.1) as usize;
    Ok(Step { taken, given })
}

#[cfg(test)]
mod tests;
