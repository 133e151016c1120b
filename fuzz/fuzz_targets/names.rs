//! Trees of any names: what is taken, what is refused and how, and how they are drawn.
#![no_main]

use std::collections::BTreeSet;

use backstay::{Context, ErrorKind, Key, Report, Spec, Supervisor};
use backstay_fuzz::{dot, is_name, is_one_line, mermaid};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// Names of keys are constants.
const KEYS: [Key<u32>; 12] = [
    Key::new("db"),
    Key::new("a.b"),
    Key::new("\""),
    Key::new("\\"),
    Key::new("\\\""),
    Key::new("<b>&amp;#35;"),
    Key::new("|x|"),
    Key::new("]}end"),
    Key::new("é𝄞\u{202e}"),
    Key::new("1."),
    Key::new("-->"),
    Key::new("`*_~"),
];
const BAD_KEYS: [Key<u32>; 3] = [Key::new(""), Key::new("a b"), Key::new("a\n")];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    root: &'a str,
    services: Vec<Service<'a>>,
    below: Vec<Service<'a>>,
}

#[derive(Arbitrary, Debug)]
struct Service<'a> {
    name: &'a str,
    provides: Option<u8>,
    needs: Option<u8>,
    wants: Option<u8>,
}

fuzz_target!(|input: Input<'_>| {
    let app = Supervisor::new(input.root);
    if !is_name(input.root) {
        let error = app.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadName);
        assert!(is_one_line(&error.to_string()));
        return;
    }
    let below = Supervisor::new("below");
    fill(&below, &input.below);
    if !below.report().services().is_empty() {
        app.add("below", below).unwrap();
    }
    fill(&app, &input.services);
    is_drawn(&app.report());
});

fn fill(app: &Supervisor, services: &[Service<'_>]) {
    // Besides, nothing was added yet.
    let mut taken: BTreeSet<&str> = app.report().services().iter().map(|_| "below").collect();
    for service in services {
        let mut spec = Spec::new(service.name, |ctx: &Context| {
            ctx.wait_stop();
            Ok(())
        });
        let mut keys_are_good = true;
        let mut key = |n: u8| {
            let n = usize::from(n) % (KEYS.len() + BAD_KEYS.len());
            keys_are_good &= n < KEYS.len();
            *KEYS.iter().chain(&BAD_KEYS).nth(n).unwrap()
        };
        if let Some(n) = service.provides {
            spec = spec.provides(&key(n));
        }
        if let Some(n) = service.needs {
            spec = spec.needs(&key(n));
        }
        if let Some(n) = service.wants {
            spec = spec.wants(&key(n));
        }
        match app.add_spec(spec) {
            Ok(id) => {
                assert!(is_name(service.name) && keys_are_good, "{service:?}");
                assert!(taken.insert(service.name), "{service:?}");
                assert_eq!(app.id(service.name), Some(id));
            }
            Err(error) => {
                assert!(is_one_line(&error.to_string()), "{error}");
                match error.kind() {
                    ErrorKind::BadName => assert!(!is_name(service.name), "{error}"),
                    ErrorKind::DuplicateName => assert!(taken.contains(service.name), "{error}"),
                    _ => assert!(is_name(service.name), "{error}"),
                }
            }
        }
    }
}

fn is_drawn(report: &Report) {
    let services: Vec<_> = report.iter().collect();
    let text = report.to_string();
    assert_eq!(text.lines().count(), services.len() + 1, "{text}");
    assert!(text.lines().all(is_one_line), "{text:?}");
    for service in &services {
        let (path, thread) = (service.path(), service.thread_name());
        let left_out = path.strip_suffix(thread).unwrap();
        assert!(thread.len() <= 15);
        let next = left_out.chars().next_back().map_or(16, char::len_utf8);
        assert!(thread.len() + next > 15, "{thread:?} of {path:?}");
        assert!(path.ends_with(&format!(".{}", service.name())));
        assert!(report.find(path).is_some());
    }

    let dot = dot::parse(&report.to_dot()).unwrap();
    let mermaid = mermaid::parse(&report.to_mermaid()).unwrap();
    let names = |texts: Vec<&String>, end: &str| -> BTreeSet<String> {
        let names = texts.into_iter().filter(|text| *text != "no provider");
        names
            .map(|text| text.rsplit_once(end).unwrap().0.to_owned())
            .collect()
    };
    let mut dot_names = names(dot.nodes.values().collect(), "\n");
    dot_names.extend(names(dot.frames.iter().collect(), " ("));
    let mut mermaid_names = names(mermaid.nodes.iter().collect(), "\n");
    mermaid_names.extend(names(mermaid.frames.iter().collect(), " ("));
    let mut expected: BTreeSet<String> = services.iter().map(|s| s.name().to_owned()).collect();
    expected.insert(report.path().to_owned());
    assert_eq!(dot_names, expected);
    assert_eq!(mermaid_names, expected);
    let labels: Vec<_> = dot.arrows.iter().map(|(_, _, label)| label).collect();
    assert_eq!(labels, mermaid.arrows.iter().collect::<Vec<_>>());
    assert!(
        labels
            .iter()
            .all(|label| KEYS.iter().any(|key| key.name() == **label))
    );

    let json = serde_json::to_string(report).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for (i, service) in report.services().iter().enumerate() {
        assert_eq!(json["services"][i]["name"], service.name());
    }
}
