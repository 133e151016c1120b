//! Lines, whole and in pieces, good and bad.
#![allow(clippy::unwrap_used)]

use gateway::line::{LINE_BYTES_MAX, Lines, parse, whole};

fn refusal(line: &[u8]) -> &'static str {
    parse(&whole(line).unwrap()).unwrap_err().1
}

#[test]
fn lines_come_in_pieces() {
    let mut lines = Lines::default();
    assert_eq!(lines.feed(b"a 1 t 2"), []);
    assert_eq!(lines.feed(b"1.5\r\n\nb 2"), [Some(b"a 1 t 21.5".to_vec())]);
    assert_eq!(lines.feed(b" t 0\n"), [Some(b"b 2 t 0".to_vec())]);
}

#[test]
fn a_line_of_the_greatest_length_is_taken_and_a_longer_one_is_not() {
    for (length, fits) in [
        (LINE_BYTES_MAX, true),
        (LINE_BYTES_MAX + 1, false),
        (10_000, false),
    ] {
        for end in ["\n", "\r\n"] {
            let mut lines = Lines::default();
            let line = format!("{}{end}", "x".repeat(length));
            // In odd pieces, and with a good line behind.
            let mut found = Vec::new();
            line.as_bytes()
                .chunks(7)
                .for_each(|piece| found.extend(lines.feed(piece)));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].is_some(), fits, "{length} {end:?}");
            assert_eq!(lines.feed(b"a 1 t 2\n"), [Some(b"a 1 t 2".to_vec())]);
        }
    }
}

#[test]
fn refusals_say_why() {
    assert_eq!(refusal(b"pump 1 temperature \xff"), "not UTF-8");
    assert_eq!(refusal(b"pump"), "malformed: no sequence number");
    assert_eq!(
        refusal(b"pump one temperature 2"),
        "malformed: bad sequence number"
    );
    assert_eq!(
        refusal(b"pump -1 temperature 2"),
        "malformed: bad sequence number"
    );
    assert_eq!(refusal(b"pump 1 temperature inf"), "malformed: bad value");
    assert_eq!(
        refusal(b"pump 1 temperature 2 3"),
        "malformed: more than four words"
    );
    assert_eq!(refusal(b"pu/mp 1 temperature 2"), "malformed: bad device");
    assert_eq!(refusal(&[b'x'; LINE_BYTES_MAX + 1]), "too long");
}
