//! The other side of the uploader, for demonstrations and tests: takes batches, and knows a line that it
//! has had already.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use backstay::services::Listener;

use crate::config::lock;
use crate::http::{FIELDS_MAX, bad, patient, read_head};
use crate::line::parse;
use crate::upload::PEER;

/// How long a body may be, in bytes.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// All lines so far.
#[derive(Default, Debug)]
pub struct Received {
    lines: HashMap<String, HashSet<i64>>,
    again: usize,
}

impl Received {
    fn take(&mut self, body: &[u8]) -> bool {
        for line in body.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let Ok(record) = parse(&Some(line.to_vec())) else {
                return false;
            };
            let known = self.lines.entry(record.device).or_default();
            self.again += usize::from(!known.insert(record.seq));
        }
        true
    }

    fn summary(&self) -> String {
        let lines: usize = self.lines.values().map(HashSet::len).sum();
        format!(
            "{lines} lines of {} devices, {} came again\n",
            self.lines.len(),
            self.again
        )
    }
}

/// `POST /lines` takes a batch, `GET /` says how many there are. Provides its address.
pub fn service(address: &str) -> Listener {
    let received = Arc::new(Mutex::new(Received::default()));
    Listener::tcp(address, move |mut stream, _ctx| {
        patient(&stream)?;
        let request = read_request(&mut BufReader::new(&stream))?;
        let (status, body) = match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/lines") if lock(&received).take(&request.body) => ("200 OK", String::new()),
            ("POST", "/lines") => ("400 Bad Request", "a line is malformed\n".to_owned()),
            ("GET", "/") => ("200 OK", lock(&received).summary()),
            _ => ("404 Not Found", String::new()),
        };
        Ok(respond(&mut stream, status, &body)?)
    })
    .on_bind(|ctx, address| match address {
        Some(address) => Ok(ctx.provide(&PEER, address)?),
        None => Ok(()),
    })
}

/// What somebody wants.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

/// Reads a request.
///
/// # Errors
/// It is none, or too long, or does not come.
pub fn read_request(stream: &mut impl BufRead) -> io::Result<Request> {
    let head = read_head(stream)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    // It may take a line feed for the end of a line, and so see the end of the head before we did.
    if request.parse(&head).map_err(bad)? != httparse::Status::Complete(head.len()) {
        return Err(bad("no request, or more than one"));
    }
    let method = request.method.unwrap_or_default().to_owned();
    let path = request.path.unwrap_or_default().to_owned();
    let mut body = vec![0; body_length(request.headers)?];
    stream.read_exact(&mut body)?;
    Ok(Request { method, path, body })
}

/// How long the body is. What could be read in two ways is refused.
fn body_length(fields: &[httparse::Header<'_>]) -> io::Result<usize> {
    let mut lengths = Vec::new();
    for field in fields {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("transfer-encoding is not understood"));
        }
        if field.name.eq_ignore_ascii_case("content-length") {
            lengths.push(field.value);
        }
    }
    let length = match lengths[..] {
        [] => Some(0),
        // A number may have a sign, a length may not.
        [length] if length.iter().all(u8::is_ascii_digit) => std::str::from_utf8(length)
            .ok()
            .and_then(|length| length.parse().ok()),
        _ => None,
    };
    length
        .filter(|length| *length <= BODY_MAX)
        .ok_or_else(|| bad("bad content-length"))
}

/// Answers it, and that was all.
///
/// # Errors
/// Nobody listens.
pub fn respond(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
}
