//! The other side of the uploader, for demonstrations and tests: takes batches, and knows a line that it
//! has had already.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
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
        let request = read_request(&mut stream)?;
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
pub fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    patient(stream)?;
    let (head, mut body) = read_head(stream)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(&head).map_err(bad)?;
    let method = request.method.unwrap_or_default().to_owned();
    let path = request.path.unwrap_or_default().to_owned();
    let length = fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Some(0), |field| {
        std::str::from_utf8(field.value).ok()?.parse().ok()
    });
    let length = length
        .filter(|length| *length <= BODY_MAX)
        .ok_or_else(|| bad("bad content-length"))?;
    let begun = body.len().min(length);
    body.resize(length, 0);
    stream.read_exact(&mut body[begun..])?;
    Ok(Request { method, path, body })
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
