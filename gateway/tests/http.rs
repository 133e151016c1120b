//! Requests to the stub peer and answers to the uploader: what is taken and what is not.
#![allow(clippy::unwrap_used)]

use std::io::{self, BufReader, ErrorKind, Read};

use gateway::demo::peer::{Request, read_request};
use gateway::http::{read_head, status};

/// As the longest head may be.
const HEAD_MAX: usize = 8 * 1024;

/// Bytes that come in pieces of this size, or smaller ones if asked for less.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.size.min(into.len()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(n);
        into[..n].copy_from_slice(piece);
        self.bytes = rest;
        Ok(n)
    }
}

fn request(text: &str) -> io::Result<Request> {
    read_request(&mut text.as_bytes())
}

#[track_caller]
fn refused(text: &str) {
    let error = request(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
}

#[test]
fn a_request_comes_in_whatever_pieces() {
    let text =
        "POST /lines HTTP/1.1\r\nhost: a:1\r\nContent-Length: 11\r\n\r\na 1 t 21.5\n and more";
    let bytes = text.as_bytes();
    for size in [1, 2, 3, 7, text.len()] {
        let request = read_request(&mut BufReader::new(Pieces { bytes, size })).unwrap();
        assert_eq!((&*request.method, &*request.path), ("POST", "/lines"));
        assert_eq!(request.body, b"a 1 t 21.5\n");
    }
    assert_eq!(request("GET / HTTP/1.1\r\n\r\n").unwrap().body, b"");
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_refused() {
    let with = |fields: &str| format!("POST /lines HTTP/1.1\r\n{fields}\r\n\r\na 1 t 2\n");
    refused(&with("transfer-encoding: chunked"));
    refused(&with("content-length: 8\r\ntransfer-encoding: chunked"));
    refused(&with("content-length: 8\r\ncontent-length: 0"));
    refused(&with("content-length: +8"));
    refused(&with("content-length: -8"));
    refused(&with("content-length:"));
    refused(&with("content-length: 99999999999999999999"));
    // Two heads, for those to whom a line feed ends a line.
    refused("GET / HTTP/1.1\n\ncontent-length: 8\r\n\r\na 1 t 2\n");
    refused("\r\n\r\n");
    refused("no request\r\n\r\n");
}

#[test]
fn a_head_of_the_greatest_length_is_taken_and_a_longer_one_is_not() {
    let begin = "GET / HTTP/1.1\r\nx: ";
    for (length, fits) in [
        (HEAD_MAX, true),
        (HEAD_MAX + 1, false),
        (3 * HEAD_MAX, false),
    ] {
        let filling = "x".repeat(length - begin.len() - 4);
        let text = format!("{begin}{filling}\r\n\r\n");
        let bytes = text.as_bytes();
        for size in [1, 100, HEAD_MAX] {
            let head = read_head(&mut BufReader::new(Pieces { bytes, size }));
            assert_eq!(head.is_ok(), fits, "{length} in pieces of {size}");
        }
    }
    let cut = read_head(&mut "GET / HTTP/1.1\r\n".as_bytes()).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn an_answer_has_a_status() {
    assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), 204);
    assert!(status(b"\r\n\r\n").is_err());
    assert!(status(b"no answer\r\n\r\n").is_err());
}
