//! How servers divide a form, and read a query.

use super::Sent;
use super::json::{Fields, Value};

/// What a server takes for a delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Division {
    /// CRLF, as it is written (RFC 2046).
    Strict,
    /// The same; names are decoded by the content type's charset (Starlette).
    Charset,
    /// The line end of the first delimiter, which may stand anywhere (Go).
    FirstLineEnd,
    /// Every line, whatever ends it, also behind the last delimiter.
    Lines,
}

/// The plain fields of a form; `None`: it is none.
pub(super) fn fields(sent: &Sent, division: Division) -> Option<Fields> {
    let boundary = parameter(&sent.content_type, "boundary")?;
    let body = String::from_utf8_lossy(&sent.body).into_owned();
    let parts = match division {
        Division::Strict | Division::Charset => split(&body, &boundary, "\r\n")?,
        Division::FirstLineEnd => {
            let first = body.split_inclusive('\n').find(|line| {
                let line = line.trim_end_matches(['\r', '\n', ' ', '\t']);
                line == format!("--{boundary}")
            })?;
            let end = if first.ends_with("\r\n") { "\r\n" } else { "\n" };
            split(&body, &boundary, end)?
        }
        Division::Lines => {
            let lines = body.replace("\r\n", "\n").replace('\r', "\n");
            let closed =
                lines.replace(&format!("\n--{boundary}--\n"), &format!("\n--{boundary}\n"));
            split(&closed, &boundary, "\n")?
        }
    };
    let charset =
        parameter(&sent.content_type, "charset").filter(|_| division == Division::Charset);
    let is_utf_7 = charset.is_some_and(|charset| charset.eq_ignore_ascii_case("utf-7"));
    let mut fields = Fields::new();
    for part in parts {
        let Some((head, value)) = part.split_once("\r\n\r\n").or(part.split_once("\n\n")) else {
            continue;
        };
        let Some(name) = parameter(head, "name").filter(|_| !head.contains("filename")) else {
            continue;
        };
        let name = if is_utf_7 { of_utf_7(&name) } else { name };
        let name = if division == Division::Lines { bare(&name) } else { name };
        fields.push((name, Value::Field(value.to_owned())));
    }
    Some(fields)
}

/// The parts between delimiters whose lines end with `end`.
fn split(body: &str, boundary: &str, end: &str) -> Option<Vec<String>> {
    let delimiter = format!("{end}--{boundary}");
    let whole = format!("{end}{body}");
    let mut pieces = whole.split(&*delimiter);
    pieces.next()?;
    let mut parts = Vec::new();
    for piece in pieces {
        if piece.starts_with("--") {
            break;
        }
        if let Some(part) = piece.strip_prefix(end) {
            parts.push(part.to_owned());
        }
    }
    Some(parts)
}

/// A parameter of a header's value, quoted or not.
fn parameter(text: &str, name: &str) -> Option<String> {
    text.split([';', '\n']).find_map(|piece| {
        let (key, value) = piece.split_once('=')?;
        let is_it = key.trim().eq_ignore_ascii_case(name);
        is_it.then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// What a query or a form of pairs says.
pub(super) fn pairs(query: &str) -> Fields {
    let pairs = query.split(['&', ';']).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (bare(&decoded(name)), Value::Field(decoded(value)))
        })
        .collect()
}

/// A name without what stands behind it in brackets or around it.
fn bare(name: &str) -> String {
    name.split('[').next().unwrap_or_default().trim().to_owned()
}

fn decoded(text: &str) -> String {
    let plus = text.replace('+', " ");
    let mut pieces = plus.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        match piece.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => bytes.extend([b"%", piece.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// RFC 2152, as far as one letter in base64 goes: `mode+AGw-` is `model`.
fn of_utf_7(text: &str) -> String {
    let Some((before, rest)) = text.split_once('+') else { return text.to_owned() };
    let Some((encoded, after)) = rest.split_once('-') else { return text.to_owned() };
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |byte: u8| digits.iter().position(|digit| *digit == byte).unwrap_or(0);
    let bits = encoded.bytes().take(3).fold(0, |bits, byte| bits << 6 | value(byte));
    let letter = char::from_u32((bits >> 2) as u32).unwrap_or('?');
    format!("{before}{letter}{after}")
}
