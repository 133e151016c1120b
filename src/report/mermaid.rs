//! A report in the language of Mermaid.

use std::collections::BTreeSet;

use super::Report;
use super::drawing::{Arrow, Drawing, Look, Shape, state_line};

impl Report {
    /// The graph in the language of Mermaid, which code hosts and many viewers of Markdown draw. It shows
    /// the same as [`to_dot`](Report::to_dot): dashed is only wanted, grey is not there now. As it comes,
    /// Mermaid draws no more than 50,000 characters and 500 arrows; `to_dot` is for more.
    ///
    /// ```
    /// use backstay::{Context, Key, Spec, Supervisor};
    /// use std::time::Duration;
    ///
    /// const DB: Key<String> = Key::new("db");
    /// const LOG: Key<String> = Key::new("log");
    ///
    /// let app = Supervisor::new("app");
    /// app.add_spec(
    ///     Spec::new("database", |ctx: &Context| {
    ///         ctx.provide(&DB, "a pool".to_owned())?;
    ///         ctx.wait_stop();
    ///         Ok(())
    ///     })
    ///     .provides(&DB),
    /// )?;
    /// app.add_spec(
    ///     Spec::new("api", |ctx: &Context| {
    ///         ctx.wait_stop();
    ///         Ok(())
    ///     })
    ///     .needs(&DB)
    ///     .wants(&LOG),
    /// )?;
    /// app.start()?;
    /// app.wait_ready(Duration::from_secs(5))?;
    ///
    /// let mermaid = r##"flowchart LR
    ///   subgraph n0["app (running)"]
    ///     n1("database<br/>ready"):::up
    ///     n2("api<br/>running"):::up
    ///     n3{{"no provider"}}
    ///   end
    ///   n1 -->|"db"| n2
    ///   n3 -.->|"log"| n2
    ///   linkStyle 1 stroke:gray,color:gray
    ///   classDef up fill:#c8e6c9,stroke:#333,color:#000
    /// "##;
    /// assert_eq!(app.report().to_mermaid(), mermaid);
    /// # assert!(app.stop().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// As a block in Markdown:
    ///
    /// ```mermaid
    /// flowchart LR
    ///   subgraph n0["app (running)"]
    ///     n1("database<br/>ready"):::up
    ///     n2("api<br/>running"):::up
    ///     n3{{"no provider"}}
    ///   end
    ///   n1 -->|"db"| n2
    ///   n3 -.->|"log"| n2
    ///   linkStyle 1 stroke:gray,color:gray
    ///   classDef up fill:#c8e6c9,stroke:#333,color:#000
    /// ```
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let drawing = Drawing::of(self);
        let mut mermaid = Mermaid::default();
        mermaid.line("", "flowchart LR");
        mermaid.shape(&drawing.root, "  ");
        mermaid.arrows(&drawing.arrows);
        mermaid.classes();
        mermaid.text
    }
}

#[derive(Default)]
struct Mermaid {
    text: String,
    looks: BTreeSet<Look>,
}

impl Mermaid {
    fn line(&mut self, indent: &str, line: &str) {
        self.text.extend([indent, line, "\n"]);
    }

    fn shape(&mut self, shape: &Shape<'_>, indent: &str) {
        match shape {
            Shape::Service {
                number,
                name,
                state,
                incarnation,
            } => {
                let look = Look::of(*state);
                self.looks.insert(look);
                let (left, right) = if state.is_alive() {
                    ('(', ')')
                } else {
                    ('[', ']')
                };
                let (name, about) = (escaped(name), state_line(*state, *incarnation));
                let class = look.word();
                let line = format!("n{number}{left}\"{name}<br/>{about}\"{right}:::{class}");
                self.line(indent, &line);
            }
            Shape::Nobody { number } => {
                self.line(indent, &format!("n{number}{{{{\"no provider\"}}}}"));
            }
            Shape::Supervisor {
                number,
                name,
                state,
                inside,
            } => {
                let name = escaped(name);
                let line = format!("subgraph n{number}[\"{name} ({state})\"]");
                self.line(indent, &line);
                let deeper = format!("{indent}  ");
                for shape in inside {
                    self.shape(shape, &deeper);
                }
                self.line(indent, "end");
            }
        }
    }

    fn arrows(&mut self, arrows: &[Arrow<'_>]) {
        for arrow in arrows {
            let Arrow { from, to, key, .. } = arrow;
            let line = if arrow.is_wanted { "-.->" } else { "-->" };
            let line = format!("n{from} {line}|\"{}\"| n{to}", escaped(key));
            self.line("  ", &line);
        }
        // By number, in their order.
        let arrows = arrows.iter().enumerate();
        let missing: Vec<String> = arrows
            .filter(|(_, arrow)| !arrow.is_there)
            .map(|(number, _)| number.to_string())
            .collect();
        if !missing.is_empty() {
            let line = format!("linkStyle {} stroke:gray,color:gray", missing.join(","));
            self.line("  ", &line);
        }
    }

    fn classes(&mut self) {
        for look in std::mem::take(&mut self.looks) {
            let (class, color) = (look.word(), look.color());
            let line = format!("classDef {class} fill:{color},stroke:#333,color:#000");
            self.line("  ", &line);
        }
    }
}

/// For a text in quotes, in which Mermaid knows the entities of HTML with a `#` in the place of the `&`,
/// and Markdown. Only what means nothing in any of them stays as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => escaped.push(c),
            '-' | '_' if !escaped.is_empty() => escaped.push(c),
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c if c.is_ascii() => escaped.push_str(&format!("#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
