//! Minimal blocking HTTP/1.1: messages with a `content-length` on persistent connections, which is all
//! that the Lambda Runtime API, DynamoDB and the gateway of the local stack need.
//!
//! A server library would add its thread pool or scheduler to every time that the benchmark measures.

use std::io::{self, BufRead, Write};

/// An HTTP request or response.
pub struct Message {
    /// The first line, the headers and the empty line after them, unchanged.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// Builds a response.
    pub fn response(status: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::new(&format!("HTTP/1.1 {status}"), headers, body.into())
    }

    /// Builds a POST request.
    pub fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::new(&format!("POST {path} HTTP/1.1"), headers, body.into())
    }

    fn new(first_line: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Self {
        let mut head = format!("{first_line}\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        Self { head, body }
    }

    /// Reads the next message. Returns `None` when the other side has closed the connection.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut message = Self {
            head,
            body: Vec::new(),
        };
        if message.header("transfer-encoding").is_some() {
            let error = "transfer-encoding is not supported; send a content-length";
            return Err(io::Error::new(io::ErrorKind::Unsupported, error));
        }
        let length = message.header("content-length").unwrap_or("0");
        let length: usize = length.parse().map_err(io::Error::other)?;
        message.body.resize(length, 0);
        reader.read_exact(&mut message.body)?;
        Ok(Some(message))
    }

    /// Writes the message with one write, so that a small message is sent as one packet.
    pub fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let mut bytes = self.head.clone().into_bytes();
        bytes.extend(&self.body);
        writer.write_all(&bytes)?;
        writer.flush()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = headers.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }

    /// The method and the path of a request.
    pub fn method_and_path(&self) -> (&str, &str) {
        let mut words = self.head.split(' ');
        let mut word = || words.next().unwrap_or_default();
        (word(), word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_messages_on_one_connection_are_read_separately() {
        let mut connection = Vec::new();
        let response = Message::response("200 OK", &[("Request-Id", "7")], "body");
        response.write(&mut connection).unwrap();
        let post = Message::post("/first", &[("host", "here")], "text");
        post.write(&mut connection).unwrap();
        connection.extend(b"GET /next HTTP/1.1\r\nhost: here\r\n\r\n");
        let mut reader = connection.as_slice();
        let first = Message::read(&mut reader).unwrap().unwrap();
        assert_eq!(
            (first.header("request-id"), &first.body[..]),
            (Some("7"), &b"body"[..])
        );
        assert_eq!(first.status(), Some(200));
        let second = Message::read(&mut reader).unwrap().unwrap();
        assert_eq!(second.method_and_path(), ("POST", "/first"));
        assert_eq!(second.body, b"text");
        let third = Message::read(&mut reader).unwrap().unwrap();
        assert_eq!(third.method_and_path(), ("GET", "/next"));
        assert!(third.body.is_empty());
        assert!(Message::read(&mut reader).unwrap().is_none());
    }

    #[test]
    fn a_body_without_a_content_length_is_an_error() {
        let mut chunked = &b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..];
        assert!(Message::read(&mut chunked).is_err());
    }
}
