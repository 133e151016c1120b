//! Bytes of a child's output, made into lines of bounded length.

/// How long a line of output may be, in bytes. A longer one is logged in parts, none longer than
/// this; nothing of it is lost.
pub const OUTPUT_LINE_BYTES_MAX: usize = 8 * 1024;

/// Takes bytes as they come, gives lines. Holds at most [`OUTPUT_LINE_BYTES_MAX`] bytes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// Parts of this line were handed on already.
    is_in_parts: bool,
}

impl Lines {
    /// Hands on every line that is complete with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                Some(_) | None => (piece, false),
            };
            self.extend(text, &mut emit);
            if complete {
                self.hand_on(&mut emit);
            }
        }
    }

    /// Hands on what has no end of line.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(&str)) {
        if !self.begun.is_empty() {
            self.hand_on(&mut emit);
        }
    }

    fn extend(&mut self, mut text: &[u8], emit: &mut impl FnMut(&str)) {
        while self.begun.len() + text.len() > OUTPUT_LINE_BYTES_MAX {
            let (fits, rest) = text.split_at(OUTPUT_LINE_BYTES_MAX - self.begun.len());
            self.begun.extend_from_slice(fits);
            text = rest;
            let cut = char_boundary(&self.begun);
            let left = self.begun.split_off(cut);
            emit(&String::from_utf8_lossy(&self.begun));
            self.begun = left;
            self.is_in_parts = true;
        }
        self.begun.extend_from_slice(text);
    }

    fn hand_on(&mut self, emit: &mut impl FnMut(&str)) {
        let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        // Nothing but the carriage return did not fit into the last part: that is no line of its own.
        if !(self.is_in_parts && line.is_empty()) {
            emit(&String::from_utf8_lossy(line));
        }
        self.begun.clear();
        self.is_in_parts = false;
    }
}

/// Where to cut so that no character of UTF-8 is cut in two: at the end, or up to three bytes before.
fn char_boundary(bytes: &[u8]) -> usize {
    let back = bytes.len().saturating_sub(3);
    let lead = (back..bytes.len())
        .rev()
        .find(|&at| bytes[at] & 0b1100_0000 != 0b1000_0000);
    match lead {
        Some(at) if at > 0 && at + utf8_len(bytes[at]) > bytes.len() => at,
        Some(_) | None => bytes.len(),
    }
}

/// How many bytes the character has that begins with this one.
fn utf8_len(lead: u8) -> usize {
    match lead {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| out.push(line.to_owned()));
            assert!(lines.begun.len() <= OUTPUT_LINE_BYTES_MAX);
        }
        lines.finish(|line| out.push(line.to_owned()));
        out
    }

    #[test]
    fn lines_come_whole_whatever_the_chunks() {
        let text = "one\r\n\ntwo ü\nthree".as_bytes();
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(
                lines(&[a, b]),
                ["one", "", "two ü", "three"],
                "cut at {cut}"
            );
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines(&single), ["one", "", "two ü", "three"]);
        assert_eq!(lines(&[b"", b"\n"]), [""]);
        assert_eq!(lines(&[b""]), [""; 0]);
    }

    #[test]
    fn what_is_no_utf8_is_replaced() {
        assert_eq!(lines(&[b"a\xff\xfeb\n"]), ["a\u{fffd}\u{fffd}b"]);
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_one_line() {
        let line = vec![b'x'; OUTPUT_LINE_BYTES_MAX];
        assert_eq!(lines(&[&line, b"\n", b"y"]), [str(&line), "y"]);
        assert_eq!(lines(&[&line, b"\r\n", b"y"]), [str(&line), "y"]);
        assert_eq!(lines(&[&line, b"\r\n\r\n"]), [str(&line), ""]);
        assert_eq!(lines(&[&line, &line, b"\r"]), [str(&line), str(&line)]);
        assert_eq!(lines(&[&line]), [str(&line)]);
    }

    #[test]
    fn a_longer_line_comes_in_parts_and_nothing_is_lost() {
        for text in ["abcdefg", "äöü€𝄞"] {
            let long = text.repeat(10_000);
            for size in [1, 3, 1000, long.len()] {
                let chunks: Vec<&[u8]> = long.as_bytes().chunks(size).collect();
                let parts = lines(&chunks);
                assert_eq!(parts.concat(), long);
                let full = parts.len() - 1;
                assert!(
                    parts[..full]
                        .iter()
                        .all(|p| p.len() > OUTPUT_LINE_BYTES_MAX - 4)
                );
                assert!(parts.iter().all(|p| p.len() <= OUTPUT_LINE_BYTES_MAX));
            }
        }
        // Bytes that only look like the middle of a character.
        let odd = vec![0x80; 3 * OUTPUT_LINE_BYTES_MAX];
        assert_eq!(lines(&[&odd]).len(), 3);
    }

    fn str(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }
}
