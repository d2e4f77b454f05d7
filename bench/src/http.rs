//! As much of HTTP/1.1 as the Runtime API and DynamoDB speak: messages with a `content-length` on
//! connections that stay open. Blocking, on plain streams: a server with a pool and a scheduler of its
//! own would be part of every time that is measured here.

use std::io::{self, BufRead, Write};

/// A request or an answer.
pub struct Message {
    /// First line and headers as they came, with the empty line that ends them.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// An answer.
    pub fn answer(status: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        Self { head, body }
    }

    /// The next message; `None` when the other end has closed the connection.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut message = Self {
            head,
            body: Vec::new(),
        };
        if message.header("transfer-encoding").is_some() {
            let kind = io::ErrorKind::Unsupported;
            return Err(io::Error::new(kind, "a body without a content-length"));
        }
        let length = message.header("content-length").unwrap_or("0");
        let length: usize = length.parse().map_err(io::Error::other)?;
        message.body.resize(length, 0);
        from.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    /// In one piece, so that it goes out in one packet where it fits.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = self.head.clone().into_bytes();
        bytes.extend(&self.body);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = headers.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    /// Method and path of a request.
    pub fn target(&self) -> (&str, &str) {
        let mut words = self.head.split(' ');
        let mut word = || words.next().unwrap_or_default();
        (word(), word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_on_one_connection_are_told_apart() {
        let mut sent = Vec::new();
        let first = Message::answer("200 OK", &[("Request-Id", "7")], "body");
        first.write(&mut sent).unwrap();
        sent.extend(b"GET /next HTTP/1.1\r\nhost: here\r\n\r\n");
        let mut stream = sent.as_slice();
        let first = Message::read(&mut stream).unwrap().unwrap();
        assert_eq!(
            (first.header("request-id"), &first.body[..]),
            (Some("7"), &b"body"[..])
        );
        let second = Message::read(&mut stream).unwrap().unwrap();
        assert_eq!(second.target(), ("GET", "/next"));
        assert!(second.body.is_empty());
        assert!(Message::read(&mut stream).unwrap().is_none());
    }

    #[test]
    fn a_body_of_unknown_length_is_refused() {
        let mut chunked = &b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..];
        assert!(Message::read(&mut chunked).is_err());
    }
}
