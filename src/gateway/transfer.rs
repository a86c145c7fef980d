//! Which transfer codings a request may have: `chunked`, once. hyper reads others, such as `chunked, chunked`,
//! as if they were that, and what stands in front may not: whoever disagrees about where a request ends can
//! be made to see another one behind it.

use http::HeaderMap;
use http::header::TRANSFER_ENCODING;

use crate::refusal::Refusal;

/// RFC 9112 §6.1. A Content-Length beside it was taken out by hyper, which then closes after the answer.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(()) };
    if values.next().is_none() && value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    // An empty element of a list is none (RFC 9110 §5.6.1), and stands in nobody's honest request.
    let are_known = values.all(|value| {
        let mut codings = value.as_bytes().split(|byte| *byte == b',');
        codings.all(|coding| coding.trim_ascii().is_empty() || is_chunked(coding))
    });
    Err(match are_known {
        true => Refusal::chunked_not_once(),
        false => Refusal::unknown_transfer_coding(),
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;

    #[test]
    fn exactly_one_chunked_is_taken() {
        for (values, status) in [
            (&[][..], None),
            (&["chunked"], None),
            (&["Chunked"], None),
            (&["chunked, chunked"], Some(400)),
            (&["chunked", "chunked"], Some(400)),
            (&[",chunked"], Some(400)),
            (&[""], Some(400)),
            (&["identity, chunked"], Some(501)),
            (&["identity", "chunked"], Some(501)),
            (&["gzip, chunked"], Some(501)),
            (&["chunked;q=1"], Some(501)),
            (&["xchunked"], Some(501)),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            let refused = check(&headers).err().map(|refusal| refusal.status);
            let status = status.map(|code| StatusCode::from_u16(code).expect("a status"));
            assert_eq!(refused, status, "{values:?}");
        }
    }
}
