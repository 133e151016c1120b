//! Requests as the stub peer reads them, and answers as the uploader does. The same bytes mean the same,
//! in whatever pieces they come.
#![no_main]

use std::io::{self, BufReader};

use backstay_fuzz::Pieces;
use gateway::demo::peer::{Request, read_request};
use gateway::http::{read_head, status};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sizes: [u8; 3],
    /// Behind the bytes, for free.
    more: u16,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let mut bytes = input.bytes.to_vec();
    bytes.extend(vec![b'x'; usize::from(input.more % 20_000)]);
    bytes.extend(b"\r\n\r\n");
    for bytes in [input.bytes, &bytes] {
        let whole = read_request(&mut BufReader::new(Pieces::new(bytes, &[])));
        let pieces = read_request(&mut BufReader::new(Pieces::new(bytes, &input.sizes)));
        assert_eq!(said(&whole), said(&pieces));
        if let Ok(request) = &whole {
            is_right(request, bytes);
        }
        if let Ok(head) = read_head(&mut BufReader::new(Pieces::new(bytes, &input.sizes))) {
            if let Ok(status) = status(&head) {
                assert!((0..1000).contains(&status));
                assert!(
                    head.windows(3)
                        .any(|three| three == format!("{status:03}").as_bytes())
                );
            }
        }
    }
});

fn said(answer: &io::Result<Request>) -> Result<(&str, &str, &[u8]), io::ErrorKind> {
    match answer {
        Ok(Request { method, path, body }) => Ok((method, path, body)),
        Err(e) => Err(e.kind()),
    }
}

/// Seen with other eyes.
fn is_right(request: &Request, bytes: &[u8]) {
    assert!(!request.method.is_empty() && !request.path.is_empty());
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    assert!(bytes[end + 4..].starts_with(&request.body));
    let mut lengths = Vec::new();
    for line in bytes[..end].split(|b| *b == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            continue;
        };
        let (name, value) = (line[..colon].to_ascii_lowercase(), &line[colon + 1..]);
        assert_ne!(name, b"transfer-encoding");
        if name == b"content-length" {
            lengths.push(String::from_utf8_lossy(value).trim().to_owned());
        }
    }
    lengths.dedup();
    match &lengths[..] {
        [] => assert!(request.body.is_empty()),
        [length] => {
            assert!(length.bytes().all(|b| b.is_ascii_digit()), "{length:?}");
            assert_eq!(length.parse(), Ok(request.body.len()));
        }
        several => panic!("{several:?} and a body of {} bytes", request.body.len()),
    }
}
