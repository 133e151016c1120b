//! The part of Mermaid that is needed, read line by line.

/// The texts of a drawing, unescaped.
#[derive(Default, Debug)]
pub struct Drawing {
    /// Of nodes, in their order; line breaks as they are.
    pub nodes: Vec<String>,
    /// Of frames, in their order.
    pub frames: Vec<String>,
    /// Of arrows, in their order.
    pub arrows: Vec<String>,
}

/// Reads a whole drawing.
pub fn parse(text: &str) -> Result<Drawing, String> {
    let mut drawing = Drawing::default();
    let mut open = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start_matches(' ');
        let wrong = || format!("line {number}: {line:?}");
        if number == 0 {
            (line == "flowchart LR").then_some(()).ok_or_else(wrong)?;
        } else if line == "end" {
            open -= 1;
        } else if let Some(style) = line.strip_prefix("linkStyle ") {
            let (numbers, _) = style.split_once(' ').ok_or_else(wrong)?;
            for number in numbers.split(',') {
                let number: usize = number.parse().map_err(|_| wrong())?;
                (number < drawing.arrows.len())
                    .then_some(())
                    .ok_or_else(wrong)?;
            }
        } else if line.starts_with("classDef ") {
        } else if let Some(frame) = line.strip_prefix("subgraph ") {
            drawing
                .frames
                .push(between(frame, "[\"", "\"]").ok_or_else(wrong)?);
            open += 1;
        } else if line.contains(" --> ") || line.contains(" -->|") || line.contains(" -.->|") {
            let (left, _) = line.split_once("| n").ok_or_else(wrong)?;
            let (_, label) = left.split_once("|\"").ok_or_else(wrong)?;
            let label = label.strip_suffix('"').ok_or_else(wrong)?;
            drawing.arrows.push(unescaped(label).ok_or_else(wrong)?);
        } else {
            let node = between(line, "(\"", "\")")
                .or_else(|| between(line, "[\"", "\"]"))
                .or_else(|| between(line, "{{\"", "\"}}"));
            drawing.nodes.push(node.ok_or_else(wrong)?);
        }
        if open < 0 {
            return Err(wrong());
        }
    }
    match open {
        0 => Ok(drawing),
        n => Err(format!("{n} frames without an end")),
    }
}

/// The text between the marks of `n12(".."):::class`.
fn between(line: &str, left: &str, right: &str) -> Option<String> {
    let number = line
        .strip_prefix('n')?
        .trim_start_matches(|c: char| c.is_ascii_digit());
    let (text, class) = number.strip_prefix(left)?.rsplit_once(right)?;
    (class.is_empty() || class.starts_with(":::")).then_some(())?;
    unescaped(text)
}

/// `None`: something in it means something to Mermaid, HTML or Markdown.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::new();
    for (i, part) in text.split("<br/>").enumerate() {
        if i > 0 {
            plain.push('\n');
        }
        let mut rest = part;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '#' => {
                    let (number, behind) = rest.split_once(';')?;
                    plain.push(char::from_u32(number.parse().ok()?)?);
                    rest = behind;
                }
                ' ' | ',' | '(' | ')' | '-' | '_' => plain.push(c),
                c if c.is_ascii_alphanumeric() => plain.push(c),
                c if c.is_ascii() || c.is_control() => return None,
                c => plain.push(c),
            }
        }
    }
    Some(plain)
}
