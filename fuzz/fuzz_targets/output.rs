//! What a child process writes, cut into lines: the same in whatever pieces it comes, in bounds, and whole.
#![no_main]

use backstay_fuzz::Pieces;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

use command::lines::OUTPUT_LINE_BYTES_MAX;

/// It is not public: taken as it is.
#[path = "."]
mod command {
    #[path = "../../src/services/command/lines.rs"]
    pub mod lines;

    pub fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut lines, mut cut) = (lines::Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| cut.push(line.to_owned()));
        }
        lines.finish(|line| cut.push(line.to_owned()));
        cut
    }
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sizes: [u8; 3],
    parts: Vec<Part<'a>>,
}

/// Bytes that are repeated, often to about the length at which a line is cut.
#[derive(Arbitrary, Debug)]
struct Part<'a> {
    times: u8,
    to_the_bound: bool,
    bytes: &'a [u8],
}

impl Part<'_> {
    fn times(&self) -> usize {
        let times = usize::from(self.times % 16);
        match self.to_the_bound {
            true => (OUTPUT_LINE_BYTES_MAX / self.bytes.len().max(1) + times).saturating_sub(8),
            false => times,
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut bytes = Vec::new();
    for part in &input.parts {
        bytes.extend(part.bytes.repeat(part.times()));
    }
    let lines = command::cut(Pieces::new(&bytes, &[]));
    assert_eq!(lines, command::cut(Pieces::new(&bytes, &input.sizes)));
    let ends_in_line = bytes.is_empty() || bytes.ends_with(b"\n");
    let mut expected = bytes.split(|b| *b == b'\n').collect::<Vec<_>>();
    if ends_in_line {
        expected.pop();
    }
    let mut lines = lines.iter();
    for line in expected {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(text) = std::str::from_utf8(line) else {
            // Where it is cut is no matter of ours then.
            return;
        };
        let mut parts = String::new();
        loop {
            let part = lines.next().expect("a line is lost");
            assert!(part.len() <= OUTPUT_LINE_BYTES_MAX);
            parts.push_str(part);
            if parts.len() >= text.len() {
                break;
            }
            assert!(part.len() > OUTPUT_LINE_BYTES_MAX - 4, "cut too early");
        }
        assert_eq!(parts, text);
    }
    assert_eq!(lines.next(), None, "a line too many");
});
