//! A report in the language of Graphviz.

use super::Report;
use super::drawing::{Arrow, Drawing, Look, Shape, state_line};

impl Report {
    /// The graph in Graphviz's language DOT: services with their states inside of their supervisors, and
    /// for each key an arrow from its provider to who takes it. Dashed: only wanted. Grey: there is no
    /// value now. `dot -Tsvg` makes a picture of it.
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
    /// let dot = r##"digraph {
    ///   rankdir=LR
    ///   node [shape=box fontname="sans-serif"]
    ///   edge [fontname="sans-serif"]
    ///   graph [fontname="sans-serif" style=rounded]
    ///   subgraph cluster_0 {
    ///     label="app (running)"
    ///     n1 [label="database\nready" style="filled,rounded" fillcolor="#c8e6c9"]
    ///     n2 [label="api\nrunning" style="filled,rounded" fillcolor="#c8e6c9"]
    ///     n3 [label="no provider" style=dashed]
    ///   }
    ///   n1 -> n2 [label="db"]
    ///   n3 -> n2 [label="log" style=dashed color=gray50 fontcolor=gray50]
    /// }
    /// "##;
    /// assert_eq!(app.report().to_dot(), dot);
    /// # assert!(app.stop().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_dot(&self) -> String {
        let drawing = Drawing::of(self);
        let mut dot = Dot(HEADER.to_owned());
        dot.shape(&drawing.root, "  ");
        drawing.arrows.iter().for_each(|arrow| dot.arrow(arrow));
        dot.0.push_str("}\n");
        dot.0
    }
}

const HEADER: &str = "\
digraph {
  rankdir=LR
  node [shape=box fontname=\"sans-serif\"]
  edge [fontname=\"sans-serif\"]
  graph [fontname=\"sans-serif\" style=rounded]
";

struct Dot(String);

impl Dot {
    fn line(&mut self, indent: &str, line: &str) {
        self.0.extend([indent, line, "\n"]);
    }

    fn shape(&mut self, shape: &Shape<'_>, indent: &str) {
        match shape {
            Shape::Service {
                number,
                name,
                state,
                incarnation,
            } => {
                let (name, about) = (escaped(name), state_line(*state, *incarnation));
                let style = if state.is_alive() {
                    "\"filled,rounded\""
                } else {
                    "filled"
                };
                let color = Look::of(*state).color();
                let line = format!(
                    "n{number} [label=\"{name}\\n{about}\" style={style} fillcolor=\"{color}\"]"
                );
                self.line(indent, &line);
            }
            Shape::Nobody { number } => {
                let line = format!("n{number} [label=\"no provider\" style=dashed]");
                self.line(indent, &line);
            }
            Shape::Supervisor {
                number,
                name,
                state,
                inside,
            } => {
                // Graphviz draws a frame around what has such a name.
                self.line(indent, &format!("subgraph cluster_{number} {{"));
                let deeper = format!("{indent}  ");
                self.line(&deeper, &format!("label=\"{} ({state})\"", escaped(name)));
                for shape in inside {
                    self.shape(shape, &deeper);
                }
                self.line(indent, "}");
            }
        }
    }

    fn arrow(&mut self, arrow: &Arrow<'_>) {
        let Arrow { from, to, key, .. } = arrow;
        let key = escaped(key);
        let style = if arrow.is_wanted { " style=dashed" } else { "" };
        let color = if arrow.is_there {
            ""
        } else {
            " color=gray50 fontcolor=gray50"
        };
        let line = format!("n{from} -> n{to} [label=\"{key}\"{style}{color}]");
        self.line("  ", &line);
    }
}

/// For a label in quotes, in which Graphviz knows backslashes and the entities of HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '&' => escaped.push_str("&amp;"),
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}
