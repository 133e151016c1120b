//! How reports are drawn.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::drawing::Look;
use super::{Place, Report, ServiceReport, State};
use crate::failure::Failure;
use crate::key::{KeyReport, KeyRole};

const ALL_STATES: [State; 11] = [
    State::Waiting,
    State::Starting,
    State::Running,
    State::Ready,
    State::Backoff,
    State::Paused,
    State::Stopping,
    State::Stopped,
    State::Done,
    State::GivenUp,
    State::Abandoned,
];

/// Every character that a name may have and that may mean something to somebody.
const ODD: &str = "a\"b\\c&amp;<d>#35;`{e}[f](g)|h|%%\\n~é";

fn app(services: Vec<ServiceReport>) -> Report {
    Report {
        path: Arc::from("app"),
        state: State::Running,
        in_state: Duration::from_secs(3),
        services,
    }
}

fn service(path: &str) -> ServiceReport {
    let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
    ServiceReport {
        place: Arc::new(Place {
            name: Arc::from(name),
            path: Arc::from(path),
            thread_name: Arc::from(path),
        }),
        state: State::Running,
        incarnation: 1,
        in_state: Duration::from_secs(3),
        next_start: None,
        starts: 1,
        failures: 0,
        panics: 0,
        stop_timeouts: 0,
        last_failure: None,
        status: None,
        waiting_for: None,
        keys: Box::default(),
        services: Box::default(),
    }
}

impl ServiceReport {
    fn key(mut self, role: KeyRole, name: &str, provider: Option<&str>, is_there: bool) -> Self {
        let mut keys = self.keys.into_vec();
        keys.push(KeyReport {
            name: Arc::from(name),
            role,
            provider: provider.map(Arc::from),
            is_there,
        });
        self.keys = keys.into();
        self
    }

    fn provides(self, name: &str) -> Self {
        let path = self.place.path.clone();
        self.key(KeyRole::Provides, name, Some(&path), true)
    }

    fn needs(self, name: &str, provider: &str) -> Self {
        self.key(KeyRole::Needs, name, Some(provider), true)
    }

    fn with(mut self, services: Vec<ServiceReport>) -> Self {
        self.services = services.into();
        self
    }

    fn being(mut self, state: State) -> Self {
        self.state = state;
        self
    }
}

/// The lines that have that text, without their indents.
fn lines<'a>(text: &'a str, with: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| line.contains(with)).collect()
}

#[test]
fn names_are_only_names() {
    let odd = format!("app.{ODD}");
    let report = app(vec![
        service(&odd).provides(ODD),
        service("app.end").needs(ODD, &odd),
    ]);
    let name = r#"a\"b\\c&amp;amp;<d>#35;`{e}[f](g)|h|%%\\n~é"#;
    let dot = report.to_dot();
    let label = format!(r#"n1 [label="{name}\nrunning" "#);
    assert!(lines(&dot, "n1 [")[0].starts_with(&label), "{dot}");
    let arrow = format!(r#"n1 -> n2 [label="{name}"]"#);
    assert_eq!(lines(&dot, "->"), [arrow]);

    let name = "a#34;b#92;c#38;amp#59;#60;d#62;#35;35#59;#96;#123;e#125;#91;f#93;#40;g#41;\
                #124;h#124;#37;#37;#92;n#126;é";
    let mermaid = report.to_mermaid();
    let node = format!(r#"n1("{name}<br/>running"):::up"#);
    assert_eq!(lines(&mermaid, "n1("), [node]);
    let arrow = format!(r#"n1 -->|"{name}"| n2"#);
    assert_eq!(lines(&mermaid, "-->"), [arrow]);
}

/// A list in Markdown, and no name of a supervisor that could be added.
#[test]
fn texts_that_begin_oddly_are_escaped() {
    let mut report = app(vec![
        service("app.-").needs("1.", "app.x"),
        service("app._x_"),
    ]);
    report.path = Arc::from("a\nb\0");
    let (dot, mermaid) = (report.to_dot(), report.to_mermaid());
    assert!(
        dot.contains("label=\"a\u{fffd}b\u{fffd} (running)\""),
        "{dot}"
    );
    assert!(
        mermaid.contains("[\"a\u{fffd}b\u{fffd} (running)\"]"),
        "{mermaid}"
    );
    assert!(mermaid.contains("\"#45;<br/>running\""), "{mermaid}");
    assert!(mermaid.contains("\"#95;x_<br/>running\""), "{mermaid}");
    assert!(mermaid.contains("|\"1#46;\"|"), "{mermaid}");
}

#[test]
fn every_state_has_its_look() {
    let services = ALL_STATES.map(|state| service("app.a").being(state));
    let report = app(services.into());
    let (dot, mermaid) = (report.to_dot(), report.to_mermaid());
    for (i, state) in ALL_STATES.into_iter().enumerate() {
        let (number, look) = (i + 1, Look::of(state));
        let node = lines(&dot, &format!("n{number} ["))[0];
        assert!(node.contains(&format!("\\n{state}\"")), "{node}");
        assert!(node.contains(look.color()), "{node}");
        assert_eq!(node.contains("rounded"), state.is_alive(), "{node}");
        let node = lines(&mermaid, &format!("<br/>{state}\""))[0];
        assert!(node.ends_with(&format!(":::{}", look.word())), "{node}");
        let begin = format!("n{number}{}", if state.is_alive() { '(' } else { '[' });
        assert!(node.starts_with(&begin), "{node}");
    }
    let colors: BTreeSet<&str> = ALL_STATES.map(|s| Look::of(s).color()).into();
    assert_eq!(colors.len(), lines(&mermaid, "classDef").len());

    // A look that nothing has isn't declared.
    let mermaid = app(vec![service("app.a")]).to_mermaid();
    assert_eq!(lines(&mermaid, "classDef").len(), 1);
}

#[test]
fn later_incarnations_are_told() {
    let mut again = service("app.a");
    again.incarnation = 3;
    let report = app(vec![again]);
    assert!(report.to_dot().contains("a\\nrunning, incarnation 3"));
    assert!(report.to_mermaid().contains("a<br/>running, incarnation 3"));
}

/// Below a service that takes values itself is another supervisor with a key of the same name.
#[test]
fn keys_stay_in_their_supervisor() {
    let below = vec![
        service("app.web.pool").provides("k"),
        service("app.web.api").needs("k", "app.web.pool"),
    ];
    let report = app(vec![
        service("app.web").needs("k", "app.db").with(below),
        service("app.db").provides("k"),
        service("app.jobs").with(vec![service("app.jobs.a")]),
    ]);
    let dot = report.to_dot();
    let expected = r##"digraph {
  rankdir=LR
  node [shape=box fontname="sans-serif"]
  edge [fontname="sans-serif"]
  graph [fontname="sans-serif" style=rounded]
  subgraph cluster_0 {
    label="app (running)"
    subgraph cluster_2 {
      label="web (running)"
      n1 [label="web\nrunning" style="filled,rounded" fillcolor="#c8e6c9"]
      n3 [label="pool\nrunning" style="filled,rounded" fillcolor="#c8e6c9"]
      n4 [label="api\nrunning" style="filled,rounded" fillcolor="#c8e6c9"]
    }
    n5 [label="db\nrunning" style="filled,rounded" fillcolor="#c8e6c9"]
    subgraph cluster_6 {
      label="jobs (running)"
      n7 [label="a\nrunning" style="filled,rounded" fillcolor="#c8e6c9"]
    }
  }
  n3 -> n4 [label="k"]
  n5 -> n1 [label="k"]
}
"##;
    assert_eq!(dot, expected);
    let mermaid = report.to_mermaid();
    assert_eq!(
        lines(&mermaid, "-->"),
        [r#"n3 -->|"k"| n4"#, r#"n5 -->|"k"| n1"#]
    );
    assert_eq!(lines(&mermaid, "subgraph").len(), 3);
    assert_eq!(lines(&mermaid, "end").len(), 3);
}

#[test]
fn nobody_stands_for_who_is_missing() {
    let gone = |path: &str| service(path).key(KeyRole::Wants, "k", Some("app.gone"), false);
    let report = app(vec![
        service("app.a").key(KeyRole::Needs, "k", None, false),
        // Its provider was removed while the report was made.
        gone("app.b"),
        service("app.c").key(KeyRole::Needs, "other", None, false),
    ]);
    let dot = report.to_dot();
    assert_eq!(lines(&dot, "no provider").len(), 2, "{dot}");
    assert_eq!(
        lines(&dot, "->"),
        [
            r#"n4 -> n1 [label="k" color=gray50 fontcolor=gray50]"#,
            r#"n4 -> n2 [label="k" style=dashed color=gray50 fontcolor=gray50]"#,
            r#"n5 -> n3 [label="other" color=gray50 fontcolor=gray50]"#,
        ]
    );
    let mermaid = report.to_mermaid();
    assert_eq!(lines(&mermaid, "no provider").len(), 2, "{mermaid}");
    assert_eq!(lines(&mermaid, "-.->"), [r#"n4 -.->|"k"| n2"#]);
    assert_eq!(
        lines(&mermaid, "linkStyle"),
        ["linkStyle 0,1,2 stroke:gray,color:gray"]
    );
}

/// Nor can they move the cursor of a terminal.
#[test]
fn texts_of_services_draw_no_lines_of_their_own() {
    let message = "assertion `left == right` failed\n  left: 1\n right: 2";
    let failure = Failure::catch(|| std::panic::panic_any(message)).unwrap_err();
    let mut a = service("app.a");
    a.failures = 1;
    a.last_failure = Some(failure.clone());
    a.status = Some(Arc::from("busy\r\n└─ app.b (ready)\u{1b}[2J"));
    let text = app(vec![a]).to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    let in_line = "assertion `left == right` failed; left: 1; right: 2";
    assert!(text.contains(&format!(", last: {in_line} at ")), "{text}");
    assert!(
        text.ends_with(" - busy; └─ app.b (ready)\u{fffd}[2J"),
        "{text}"
    );

    // A failure alone as well, unless its trace is wanted, which has lines anyway.
    let text = failure.to_string();
    assert!(
        text.starts_with(&format!("panicked: {in_line} at ")),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(format!("{failure:#}").starts_with(&format!("panicked: {message} at ")));
    assert_eq!(failure.message(), message);
}

#[test]
fn supervisor_without_services_is_drawn_alone() {
    let report = app(Vec::new());
    assert_eq!(
        lines(&report.to_dot(), "n0 [label=\"app\\nrunning\"").len(),
        1
    );
    assert_eq!(
        lines(&report.to_mermaid(), "n0(\"app<br/>running\"):::up").len(),
        1
    );
}

#[test]
fn line_names_a_few_keys() {
    let a = service("app.a")
        .provides("p1")
        .provides("p2")
        .needs("n1", "app.x")
        .needs("n2", "app.x")
        .needs("n3", "app.x")
        .needs("n4", "app.x")
        .needs("n5", "app.x")
        .key(KeyRole::Wants, "w1", Some("app.x"), true)
        .key(KeyRole::Wants, "w2", None, false);
    assert_eq!(
        a.to_string(),
        "app.a (running) for 3s, needs n1, n2, n3 and 2 more, wants w1, without w2, provides p1, p2"
    );
    // It says what it waits for, and not all the rest.
    let mut waiting = a.being(State::Waiting);
    waiting.waiting_for = Some(Arc::from("key \"n1\": no provider"));
    assert_eq!(
        waiting.to_string(),
        "app.a (waiting) for 3s, waiting for key \"n1\": no provider, provides p1, p2"
    );
}
