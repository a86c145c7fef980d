//! Small messages in one piece. hyper hands a head and a body to the operating system as a list of
//! pieces; for a few hundred bytes, going through that list costs more than copying them together.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are copied together at most; what is longer is written as the pieces it is.
pub(crate) const SMALL_BYTES: usize = 2048;

/// All of `pieces` in `space`, if there are several and they fit.
pub(crate) fn coalesced<'s>(
    pieces: &[IoSlice<'_>],
    space: &'s mut ReadBuf<'_>,
) -> Option<&'s [u8]> {
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    if pieces.len() < 2 || total > space.capacity() {
        return None;
    }
    pieces.iter().for_each(|piece| space.put_slice(piece));
    Some(space.filled())
}

/// A stream whose small messages are written in one piece.
#[derive(Debug)]
pub(crate) struct Coalesce<T>(pub(crate) T);

impl<T: AsyncRead + Unpin> AsyncRead for Coalesce<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesce<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // To fill it with zeros first would cost as much as the copy.
        let mut space = [const { MaybeUninit::uninit() }; SMALL_BYTES];
        match coalesced(pieces, &mut ReadBuf::uninit(&mut space)) {
            Some(bytes) => Pin::new(&mut self.0).poll_write(cx, bytes),
            None => Pin::new(&mut self.0).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_small_pieces_become_one_and_others_stay() {
        let large = vec![7; SMALL_BYTES];
        let [head, body, large] = [&b"head, "[..], b"body", &large].map(IoSlice::new);
        let coalesce = |pieces: &[IoSlice<'_>]| {
            let mut space = [0; SMALL_BYTES];
            coalesced(pieces, &mut ReadBuf::new(&mut space)).map(<[u8]>::to_vec)
        };
        assert_eq!(coalesce(&[head, body]).as_deref(), Some(&b"head, body"[..]));
        assert_eq!(coalesce(&[head]), None);
        assert_eq!(coalesce(&[]), None);
        assert_eq!(coalesce(&[head, large]), None);
        assert_eq!(
            coalesce(&[large, IoSlice::new(b"")]).map(|bytes| bytes.len()),
            Some(SMALL_BYTES)
        );
    }
}
