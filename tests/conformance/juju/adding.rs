//! What starts when services are added, and in which order.

use backstay::{Key, ServiceReport, Spec, State};

use super::parts::{Diary, K};
use crate::common::watch::{entry, failures, incarnations, is_listed};
use crate::common::{Recorder, ms, obedient, pass, unlimited};

#[test]
fn add_all_starts_every_service() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let part = |name: &str| diary.part(name, obedient()).spec();
    app.start().unwrap();
    app.add_spec(part("d")).unwrap();
    diary.wait("d 1");

    let ids = app.add_all(["x", "y", "z"].map(part)).unwrap();
    assert_eq!(ids, ["x", "y", "z"].map(|name| app.id(name).unwrap()));
    for line in ["x 1", "y 1", "z 1"] {
        diary.wait(line);
    }
    assert_eq!(diary.lines().len(), 4);
    assert_eq!(incarnations(&app, ["d", "x", "y", "z"]), [1; 4]);
    assert!(app.stop().is_empty());
}

#[test]
fn service_waits_for_an_input_nobody_provides_yet() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.start().unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    pass(ms(200));
    let c = entry(&app, "app.c");
    assert_eq!((c.state(), c.starts()), (State::Waiting, 0));
    let reason = c.waiting_for().unwrap();
    assert!(reason.contains("\"k\""), "{reason}");
    assert!(reason.contains("no provider"), "{reason}");

    app.add_spec(diary.p(obedient())).unwrap();
    diary.wait("c 1 k=1");
    assert_eq!(diary.lines(), ["p 1", "c 1 k=1"]);
    assert_eq!(entry(&app, "app.c").waiting_for(), None);
    assert!(app.stop().is_empty());
    assert_eq!(incarnations(&app, ["p", "c"]), [1; 2]);
}

const R1: Key<u64> = Key::new("r1");
const R2: Key<u64> = Key::new("r2");
const M1: Key<u64> = Key::new("m1");
const M2: Key<u64> = Key::new("m2");
const L1: Key<u64> = Key::new("l1");
const L2: Key<u64> = Key::new("l2");

/// The seven, each with what it needs, the last ones first.
const SEVEN: [(&str, &[Key<u64>]); 7] = [
    ("l3", &[L1, L2, M1, M2]),
    ("l2", &[R1, M2]),
    ("l1", &[R2, M1]),
    ("m2", &[R1, R2]),
    ("m1", &[R1]),
    ("r2", &[]),
    ("r1", &[]),
];

/// Of the seven; `r1_needs` makes a circle of it.
fn seven(diary: &Diary, r1_needs: &[Key<u64>]) -> Vec<Spec> {
    let spec = |(name, needs): (&str, &[Key<u64>])| {
        let more = if name == "r1" { r1_needs } else { &[] };
        let inputs = needs.iter().chain(more);
        let part = inputs.fold(diary.part(name, obedient()), |part, key| part.needs(key));
        let keys = [R1, R2, M1, M2, L1, L2];
        let own = keys.iter().find(|key| key.name() == name);
        own.into_iter()
            .fold(part, |part, key| part.provides(key))
            .spec()
    };
    SEVEN.map(spec).into()
}

#[test]
fn seven_service_graph_starts_inputs_first() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.start().unwrap();
    let refused = app.add_all(seven(&diary, &[L1])).unwrap_err();
    assert_eq!(refused.kind(), backstay::ErrorKind::Cycle, "{refused}");
    assert!(app.report().services().is_empty());

    let mut events = Recorder::of(&app);
    app.add_all(seven(&diary, &[])).unwrap();
    diary.wait("l3 1 l1=1 l2=1 m1=1 m2=1");
    events.settle();
    // Who begins has the values of all its inputs, and those began before it.
    let begins: Vec<String> = diary.lines();
    assert_eq!(begins.len(), 7, "{begins:?}");
    let place = |name: &str| begins.iter().position(|line| line.starts_with(name));
    for (name, needs) in SEVEN {
        let line = &begins[place(name).unwrap()];
        for key in needs {
            assert!(line.contains(&format!("{key}=1")), "{line}");
            assert!(place(key.name()) < place(name), "{begins:?}");
        }
    }
    assert_eq!(failures(&app), 0);
    assert_eq!(
        app.report().iter().map(ServiceReport::starts).sum::<u32>(),
        7
    );
    assert!(app.stop().is_empty());
}

#[test]
fn add_all_is_all_or_nothing() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let part = |name: &str| diary.part(name, obedient()).spec();
    app.start().unwrap();
    app.add_spec(part("a")).unwrap();

    let refused = app.add_all(["b", "c", "a"].map(part)).unwrap_err();
    assert_eq!(refused.kind(), backstay::ErrorKind::DuplicateName);
    assert!(refused.to_string().contains("\"a\""), "{refused}");
    assert!(!is_listed(&app, "app.b") && !is_listed(&app, "app.c"));

    app.add_all(["b", "c"].map(part)).unwrap();
    for line in ["a 1", "b 1", "c 1"] {
        diary.wait(line);
    }
    assert_eq!(diary.lines().len(), 3);
    assert!(app.stop().is_empty());
}

#[test]
fn add_all_without_a_provider_is_refused() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.start().unwrap();
    let refused = app.add_all([diary.c("c", obedient())]).unwrap_err();
    assert_eq!(refused.kind(), backstay::ErrorKind::MissingProvider);
    let text = refused.to_string();
    assert!(text.contains("\"c\"") && text.contains("\"k\""), "{text}");

    let wants = diary.part("w", obedient()).wants(&K).spec();
    app.add_all([wants]).unwrap();
    diary.wait("w 1 k=-");
    app.add_spec(diary.p(obedient())).unwrap();
    app.add_all([diary.c("c", obedient())]).unwrap();
    diary.wait("c 1 k=1");
    assert_eq!(diary.of("c"), ["c 1 k=1"]);
    assert!(app.stop().is_empty());
}
