//! Texts of others, made fit for one line of ours.

use std::fmt::{self, Write as _};

/// A text in one line: each line break is `; `, with the white space around it, and what else a terminal might
/// obey is replaced. So a service can't draw what is no part of the tree.
pub(crate) struct OneLine<'a>(pub(crate) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.contains(is_odd) {
            return f.write_str(self.0);
        }
        let lines = self.0.split(is_line_break).map(str::trim);
        let lines = lines.filter(|line| !line.is_empty());
        for (i, line) in lines.enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            for c in line.chars() {
                f.write_char(match c {
                    '\t' => ' ',
                    c if c.is_control() => char::REPLACEMENT_CHARACTER,
                    c => c,
                })?;
            }
        }
        Ok(())
    }
}

fn is_odd(c: char) -> bool {
    c.is_control() || is_line_break(c)
}

/// Those of Unicode.
fn is_line_break(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_in_one_line() {
        let line = |text| OneLine(text).to_string();
        assert_eq!(line(""), "");
        assert_eq!(line(" as it is "), " as it is ");
        assert_eq!(
            line("assertion `left == right` failed\n  left: 1\n right: 2"),
            "assertion `left == right` failed; left: 1; right: 2"
        );
        assert_eq!(line("\r\none\r\n\r\ntwo\n"), "one; two");
        assert_eq!(
            line("a\u{b}b\u{c}c\u{85}d\u{2028}e\u{2029}f"),
            "a; b; c; d; e; f"
        );
        assert_eq!(line("a\tb\u{1b}[2Jc\0"), "a b\u{fffd}[2Jc\u{fffd}");
        assert_eq!(line("\n\n"), "");
    }
}
