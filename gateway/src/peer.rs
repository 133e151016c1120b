//! The other side of the uploader, for demonstrations and tests: takes batches, and knows a line that it
//! has had already.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use backstay::services::Listener;

use crate::config::lock;
use crate::http::{read_request, respond};
use crate::line::parse;
use crate::upload::PEER;

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
