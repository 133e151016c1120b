//! What is refused when it is added, and that nothing of it stays.

use std::sync::Arc;

use backstay::{Context, ErrorKind, Key, Spec, State};

use super::parts::{Diary, K};
use crate::common::watch::{SOON, entry, incarnations, is_listed};
use crate::common::{
    Tally, add_running, counted, ms, obedient, slow_to_stop, timed, unlimited, wait_state,
};

const K1: Key<u64> = Key::new("k1");
const K2: Key<u64> = Key::new("k2");

#[test]
fn duplicate_name_is_refused_and_the_first_runs_on() {
    let app = unlimited("app");
    app.start().unwrap();
    add_running(&app, "a", obedient());
    let kept = Arc::new(());
    let inside = kept.clone();
    let refused = app.add("a", move |_: &Context| {
        let _inside = &inside;
        Ok(())
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DuplicateName);
    let text = refused.to_string();
    assert!(text.contains("name") && text.contains("\"a\""), "{text}");
    assert_eq!(Arc::strong_count(&kept), 1, "the rejected closure is kept");
    assert_eq!(incarnations(&app, ["a"]), [1]);
    assert!(app.stop().is_empty());
}

#[test]
fn cycle_is_refused_with_its_path() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.start().unwrap();
    let part = |name| diary.part(name, obedient());
    app.add_spec(part("a").needs(&K2).provides(&K1).spec())
        .unwrap();
    wait_state(&app, "app.a", State::Waiting);

    let b = part("b").needs(&K1).provides(&K2).spec();
    let refused = app.add_spec(b).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Cycle);
    let text = refused.to_string();
    let circle = text.contains("a -> b -> a") || text.contains("b -> a -> b");
    assert!(circle, "{text}");
    assert!(!is_listed(&app, "app.b"));
    assert_eq!(entry(&app, "app.a").state(), State::Waiting);

    app.add_spec(part("b").provides(&K2).spec()).unwrap();
    diary.wait("a 1 k2=1");
    assert_eq!(diary.lines(), ["b 1", "a 1 k2=1"]);
    assert!(app.stop().is_empty());
}

#[test]
fn service_that_needs_its_own_key_is_refused() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.start().unwrap();
    let spec = diary.part("a", obedient()).needs(&K).provides(&K).spec();
    let refused = app.add_spec(spec).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Cycle);
    assert!(refused.to_string().contains("a -> a"), "{refused}");
    // What it merely wants closes a circle as well.
    let spec = diary.part("a", obedient()).wants(&K).provides(&K).spec();
    let refused = app.add_all([spec]).unwrap_err();
    assert!(refused.to_string().contains("a -> a"), "{refused}");
    assert!(app.report().services().is_empty());
    assert!(app.stop().is_empty());
    assert!(diary.lines().is_empty());
}

#[test]
fn two_providers_of_one_key_are_refused() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.start().unwrap();
    app.add_spec(diary.p(obedient())).unwrap();
    let q = || diary.part("q", obedient()).provides(&K).spec();
    let refused = app.add_spec(q()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let text = refused.to_string();
    for word in ["provides", "\"k\"", "\"p\""] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(!is_listed(&app, "app.q"));
    diary.wait("p 1");

    // The key is free when its provider is gone.
    let id = app.id("p").unwrap();
    app.remove_and_wait(id, SOON).unwrap();
    app.add_spec(q()).unwrap();
    diary.wait("q 1");
    assert!(app.stop().is_empty());
}

#[test]
fn key_needed_with_another_type_is_refused() {
    let app = unlimited("app");
    app.start().unwrap();
    let runs = Tally::new();
    let number: Key<u32> = Key::new("k");
    let text: Key<String> = Key::new("k");
    app.add_spec(Spec::new("p", obedient()).provides(&number))
        .unwrap();
    let spec = Spec::new("c", counted(&runs, obedient())).needs(&text);
    let refused = app.add_spec(spec).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let said = refused.to_string();
    for word in ["\"k\"", "u32", "alloc::string::String"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(!is_listed(&app, "app.c"));
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), 0);
}

#[test]
fn add_after_stop_is_an_error() {
    let (app, runs) = (unlimited("app"), Tally::new());
    app.start().unwrap();
    add_running(&app, "slow", slow_to_stop(ms(300)));
    app.request_stop();
    let add = || app.add("late", counted(&runs, obedient()));
    let (refused, took) = timed(add);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Stopping);
    assert!(took < SOON, "{took:?}");
    app.wait().unwrap();
    let (refused, took) = timed(add);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Stopped);
    assert!(took < SOON, "{took:?}");
    assert_eq!(runs.get(), 0);
}
