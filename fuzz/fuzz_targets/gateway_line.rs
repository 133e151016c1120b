//! Lines of devices: cut from a stream, and parsed.
#![no_main]

use backstay_fuzz::{Pieces, is_one_line};
use gateway::line::{LINE_BYTES_MAX, Lines, Raw, Record, parse};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sizes: [u8; 3],
    /// A line that is long, for free.
    long: u16,
    seq: i64,
    value: f64,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let mut bytes = input.bytes.to_vec();
    bytes.extend(vec![b'x'; usize::from(input.long % 600)]);
    bytes.extend(b"\r\n");
    bytes.extend(input.bytes);

    let mut lines = Lines::default();
    let got: Vec<Raw> = Pieces::new(&bytes, &input.sizes)
        .flat_map(|piece| lines.feed(piece))
        .collect();
    assert_eq!(got, expected(&bytes));
    for raw in &got {
        match parse(raw) {
            Ok(record) => comes_again(&record),
            Err((_, why)) => assert!(is_one_line(why) && !why.is_empty()),
        }
    }

    let good = Record {
        device: "pump-3".to_owned(),
        seq: input.seq,
        metric: "temperature".to_owned(),
        value: input.value,
    };
    let is_good = good.seq >= 0 && good.value.is_finite();
    match parse(&Some(written(&good).into_bytes())) {
        Ok(record) => assert!(is_good && record == good),
        Err(_) => assert!(!is_good),
    }
});

/// The lines that have an end, said another way.
fn expected(bytes: &[u8]) -> Vec<Raw> {
    let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    lines.pop();
    let cut = lines
        .iter()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    cut.filter(|line| !line.is_empty())
        .map(|line| (line.len() <= LINE_BYTES_MAX).then(|| line.to_vec()))
        .collect()
}

/// As the uploader writes it to the peer, which parses it.
fn written(record: &Record) -> String {
    let Record {
        device,
        seq,
        metric,
        value,
    } = record;
    format!("{device} {seq} {metric} {value}")
}

fn comes_again(record: &Record) {
    let again = parse(&Some(written(record).into_bytes()));
    assert_eq!(again.as_ref(), Ok(record));
    assert!(record.seq >= 0 && record.value.is_finite());
    assert!(!record.device.is_empty() && !record.metric.is_empty());
}
