//! Reads a `multipart/form-data` body that is here as a whole: the fields as texts, the files as bytes.
//! Written apart from the gateway's reader on purpose, so that a test sees it if they disagree.

use bytes::Bytes;

use super::refusal::Refusal;

/// A file of a form.
#[derive(Debug)]
pub(super) struct File {
    pub name: String,
    pub bytes: Bytes,
}

/// What a form holds.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// Names and texts, in the form's order.
    pub fields: Vec<(String, String)>,
    pub files: Vec<File>,
}

impl Form {
    /// Reads a body whose `Content-Type` is `content_type`; `None` if that is not a form's.
    ///
    /// # Errors
    /// `invalid_request`, with the reason.
    pub(super) fn read(content_type: &str, body: &Bytes) -> Result<Option<Self>, Refusal> {
        if !content_type.to_ascii_lowercase().starts_with("multipart/form-data") {
            return Ok(None);
        }
        let boundary = content_type.split_once("boundary=").map(|(_, rest)| rest);
        let boundary = boundary.and_then(|rest| rest.split(';').next()).unwrap_or_default();
        let boundary = boundary.trim().trim_matches('"');
        if boundary.is_empty() {
            return Err(Refusal::invalid("the form has no boundary"));
        }
        let delimiter = format!("\r\n--{boundary}");
        let mut form = Self::default();
        let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..]);
        while let Some(after) = rest.filter(|after| !after.starts_with(b"--")) {
            let wrong = || Refusal::invalid("a part of the form is malformed");
            let part = after.strip_prefix(b"\r\n").ok_or_else(wrong)?;
            let end = memchr::memmem::find(part, delimiter.as_bytes()).ok_or_else(wrong)?;
            let split = memchr::memmem::find(part, b"\r\n\r\n").ok_or_else(wrong)?;
            let head = std::str::from_utf8(&part[..split]).map_err(|_| wrong())?;
            form.take(head, body.slice_ref(part.get(split + 4..end).ok_or_else(wrong)?))?;
            rest = Some(&part[end + delimiter.len()..]);
        }
        rest.map(|_| Some(form)).ok_or_else(|| Refusal::invalid("the form does not begin"))
    }

    fn take(&mut self, head: &str, bytes: Bytes) -> Result<(), Refusal> {
        let parameter = |name: &str| {
            let (_, rest) = head.split_once(&format!("; {name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let name = parameter("name").ok_or_else(|| Refusal::invalid("a part has no name"))?;
        if parameter("filename").is_some() {
            self.files.push(File { name, bytes });
            return Ok(());
        }
        let text = String::from_utf8(bytes.to_vec());
        let text = text.map_err(|_| Refusal::invalid("a field is no text"))?;
        self.fields.push((name, text));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_files_are_told_apart() {
        let body = Bytes::from_static(
            b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n\
              --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\r\n--\xff\r\n--b--\r\n",
        );
        let form = Form::read("multipart/form-data; boundary=b", &body).expect("valid");
        let form = form.expect("a form");
        assert_eq!(form.fields, [("model".to_owned(), "m".to_owned())]);
        assert_eq!((&*form.files[0].name, &*form.files[0].bytes), ("file", &b"\r\n--\xff"[..]));
        assert!(Form::read("application/json", &body).expect("no form").is_none());
        for (content_type, body) in [
            ("multipart/form-data", body.clone()),
            ("multipart/form-data; boundary=c", body.clone()),
            ("multipart/form-data; boundary=b", body.slice(..body.len() - 10)),
        ] {
            assert!(Form::read(content_type, &body).is_err());
        }
    }
}
