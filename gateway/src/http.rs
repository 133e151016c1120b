//! As much of HTTP/1.1 as it takes to post a batch. httparse does the parsing.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use backstay::crossbeam_channel::select;
use backstay::{BoxError, Context};

/// How long a head may be with the empty line, in bytes.
const HEAD_MAX: u64 = 8 * 1024;

/// How many header fields there may be.
pub(crate) const FIELDS_MAX: usize = 32;

/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Posts a body. Ends at a stop.
///
/// # Errors
/// The peer can't be reached, is silent, or answers anything but success.
pub fn post(ctx: &Context, to: &str, path: &str, body: &[u8]) -> Result<(), BoxError> {
    let at = |e: io::Error| format!("{to}: {e}");
    let mut stream = connect(ctx, to).map_err(|e| format!("{to}: {e}"))?;
    let other = stream.try_clone()?;
    let _unblock = ctx.on_stop(move || other.shutdown(Shutdown::Both));
    patient(&stream)?;
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .map_err(at)?;
    let head = read_head(&mut BufReader::new(stream)).map_err(at)?;
    match status(&head).map_err(at)? {
        200..=299 => Ok(()),
        status => Err(format!("{to}: status {status}").into()),
    }
}

/// The status in the head of a response.
///
/// # Errors
/// It is none.
pub fn status(head: &[u8]) -> io::Result<u16> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(head).map_err(bad)?;
    response.code.ok_or_else(|| bad("no status"))
}

/// Looking up a name and connecting can't be interrupted, and take what time they like. So a thread does
/// it that nobody waits for too long, or beyond a stop; it ends by itself when the system gives up.
fn connect(ctx: &Context, to: &str) -> Result<TcpStream, BoxError> {
    let to = to.to_owned();
    let connected = ctx.detach(move || TcpStream::connect(to))?;
    select! {
        recv(connected) -> stream => Ok(stream???),
        recv(ctx.stop_signal()) -> _ => Err("asked to stop".into()),
        default(PATIENCE) => Err("nobody answers".into()),
    }
}

pub(crate) fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// A head with the empty line that ends it.
///
/// # Errors
/// It is too long, or does not come.
pub fn read_head(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut stream, mut head) = (stream.take(HEAD_MAX), Vec::new());
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(match stream.limit() {
                0 => bad("the head is too long"),
                _ => ErrorKind::UnexpectedEof.into(),
            });
        }
    }
    Ok(head)
}

pub(crate) fn bad(why: impl Into<BoxError>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
