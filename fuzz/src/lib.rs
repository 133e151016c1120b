//! What several targets need: bytes in pieces, and readers of the languages that reports are drawn in,
//! strict ones, so that what they accept others accept as well.

pub mod dot;
pub mod mermaid;

use std::io::{self, Read};

/// Bytes that come in pieces of these sizes, over and over.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    pub fn new(bytes: &'a [u8], sizes: &'a [u8]) -> Pieces<'a> {
        Pieces {
            bytes,
            sizes,
            at: 0,
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.bytes.is_empty() {
            return None;
        }
        let size = match self.sizes.is_empty() {
            true => self.bytes.len(),
            false => usize::from(self.sizes[self.at % self.sizes.len()]) + 1,
        };
        self.at += 1;
        let (piece, rest) = self.bytes.split_at(size.min(self.bytes.len()));
        self.bytes = rest;
        Some(piece)
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let before = self.bytes;
        let Some(piece) = self.next() else {
            return Ok(0);
        };
        let n = piece.len().min(into.len());
        into[..n].copy_from_slice(&piece[..n]);
        self.bytes = &before[n..];
        Ok(n)
    }
}

/// What the documentation says of names, said again.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .chars()
            .all(|c| c != '.' && !c.is_whitespace() && !c.is_control())
}

/// Whether a text is one line of a terminal, with nothing in it that moves the cursor.
pub fn is_one_line(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}
