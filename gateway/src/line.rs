//! What devices send: `DEVICE SEQUENCE METRIC VALUE`, a line each, as in `pump-3 1042 temperature 21.5`.

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

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Stored,
    /// It was there already: the device has not seen our answer.
    Again,
    /// Nobody knows whether it is stored: it shall come again.
    Busy,
    /// So old that nobody knows whether it was there.
    TooOld,
    Malformed,
    Oversize,
    NotUtf8,
}

/// What they are called, in their order.
pub const FATES: [&str; 7] = [
    "stored",
    "sent again",
    "busy",
    "too old",
    "malformed",
    "oversize",
    "not UTF-8",
];

/// Why a line is no good.
pub type Refusal = (Fate, &'static str);

/// A line as it came; `None` was too long.
pub type Raw = Option<Vec<u8>>;

/// Makes a record of a line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(raw: &Raw) -> Result<Record, Refusal> {
    let bytes = raw.as_deref().ok_or((Fate::Oversize, "too long"))?;
    let text = std::str::from_utf8(bytes).map_err(|_| (Fate::NotUtf8, "not UTF-8"))?;
    let mut words = text.split_ascii_whitespace();
    let mut word = |what| words.next().ok_or((Fate::Malformed, what));
    let device = word("malformed: no device")?;
    let seq = word("malformed: no sequence number")?.parse().ok();
    let metric = word("malformed: no metric")?;
    let value = word("malformed: no value")?.parse().ok();
    let bad = |what| Err((Fate::Malformed, what));
    match (seq, value) {
        _ if !is_name(device) => bad("malformed: bad device"),
        _ if !is_name(metric) => bad("malformed: bad metric"),
        _ if words.next().is_some() => bad("malformed: more than four words"),
        (Some(seq @ 0..), Some(value)) if f64::is_finite(value) => Ok(Record {
            device: device.to_owned(),
            seq,
            metric: metric.to_owned(),
            value,
        }),
        (Some(0..), _) => bad("malformed: bad value"),
        _ => bad("malformed: bad sequence number"),
    }
}

fn is_name(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    word.len() <= NAME_BYTES_MAX && word.chars().all(fits)
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
