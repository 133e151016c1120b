//! What devices send: `DEVICE SEQUENCE METRIC VALUE`, a line each, as in `pump-3 1042 temperature 21.5`.

use std::fmt;

/// How long a line may be, in bytes, without its end.
pub const LINE_BYTES_MAX: usize = 256;

/// How long the name of a device or of a metric may be, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// One measured value. Device and sequence number are its identity, however often it comes.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    pub device: String,
    pub seq: i64,
    pub metric: String,
    pub value: f64,
}

/// Why a line is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Oversize,
    NotUtf8,
    Malformed(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Oversize => write!(f, "longer than {LINE_BYTES_MAX} bytes"),
            Refusal::NotUtf8 => f.write_str("not UTF-8"),
            Refusal::Malformed(why) => write!(f, "malformed: {why}"),
        }
    }
}

/// A line as it came; `None` was too long.
pub type Raw = Option<Vec<u8>>;

/// Makes a record of a line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(raw: &Raw) -> Result<Record, Refusal> {
    let bytes = raw.as_deref().ok_or(Refusal::Oversize)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::NotUtf8)?;
    let mut words = text.split_ascii_whitespace();
    let mut next = |what| words.next().ok_or(Refusal::Malformed(what));
    let device = name(next("no device")?, "a bad device name")?;
    let seq = next("no sequence number")?;
    let seq = seq.parse().ok().filter(|seq| *seq >= 0);
    let metric = name(next("no metric")?, "a bad metric name")?;
    let value = next("no value")?
        .parse()
        .ok()
        .filter(|value: &f64| value.is_finite());
    if words.next().is_some() {
        return Err(Refusal::Malformed("more than four words"));
    }
    Ok(Record {
        device,
        seq: seq.ok_or(Refusal::Malformed("a bad sequence number"))?,
        metric,
        value: value.ok_or(Refusal::Malformed("a bad value"))?,
    })
}

fn name(word: &str, refused: &'static str) -> Result<String, Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if word.len() <= NAME_BYTES_MAX && word.chars().all(fits) {
        Ok(word.to_owned())
    } else {
        Err(Refusal::Malformed(refused))
    }
}

/// Cuts a stream of bytes into lines. Holds no more than one line, whatever comes.
#[derive(Default, Debug)]
pub struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that end in `bytes`. Empty ones are left out.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Raw> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            // One byte more than a line may have, and its end, tells that it is too long.
            let room = (LINE_BYTES_MAX + 2).saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                lines.extend(whole(&self.begun));
                self.begun.clear();
            }
        }
        lines
    }
}

/// A line without its end; `None`: there is nothing in it.
pub fn whole(line: &[u8]) -> Option<Raw> {
    let line = match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    };
    match line.len() {
        0 => None,
        1..=LINE_BYTES_MAX => Some(Some(line.to_vec())),
        _ => Some(None),
    }
}
