//! Which services with keys may be added: one type and one provider for a key, nobody without what
//! they need, and no circle.

use std::sync::Arc;

use super::graph::{linked, needy, provider, wanting};
use super::harness::{World, config, policy};
use crate::error::{Error, ErrorKind};
use crate::key::{Key, Links};
use crate::machine::message::{Input, Policy};

fn named(name: &str, policy: Policy) -> Policy {
    Policy {
        name: name.into(),
        ..policy
    }
}

fn admit(w: &World, policies: &[Policy], complete: bool) -> Result<(), Error> {
    w.machine.admit(policies.iter(), complete)
}

#[track_caller]
fn assert_refused(answer: Result<(), Error>, kind: ErrorKind, words: &[&str]) {
    let error = answer.expect_err("it is refused");
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
}

/// Needs a `k` of another type than everybody else.
fn other_type() -> Policy {
    let links = Links {
        provides: Vec::new(),
        needs: vec![Key::<String>::new("k").declared()],
        wants: Vec::new(),
    };
    Policy {
        links: Some(Arc::new(links)),
        ..policy()
    }
}

#[test]
fn key_has_one_type() {
    let words = ["needs", "\"k\"", "\"a\"", "\"b\"", "String", "u32"];
    let mut w = World::new(config());
    let both = [named("a", provider(policy())), named("b", other_type())];
    assert_refused(admit(&w, &both, false), ErrorKind::Invalid, &words);
    // The same against one that is there, whether it provides or takes.
    w.add("a", needy(policy()));
    assert_refused(admit(&w, &both[1..], false), ErrorKind::Invalid, &words);
}

#[test]
fn key_has_one_provider() {
    let words = ["provides", "\"k\"", "\"a\"", "\"b\""];
    let mut w = World::new(config());
    let both = ["a", "b"].map(|name| named(name, provider(policy())));
    assert_refused(admit(&w, &both, false), ErrorKind::Invalid, &words);
    w.add("a", provider(policy()));
    assert_refused(admit(&w, &both[1..], false), ErrorKind::Invalid, &words);
}

#[test]
fn what_is_needed_must_be_provided_if_the_set_is_to_be_complete() {
    let c = [named("c", needy(policy()))];
    let mut w = World::new(config());
    assert!(admit(&w, &c, false).is_ok());
    assert_refused(
        admit(&w, &c, true),
        ErrorKind::MissingProvider,
        &["needs", "\"k\"", "\"c\""],
    );
    let wants = [named("c", wanting(policy()))];
    assert!(admit(&w, &wants, true).is_ok());
    let both = [c[0].clone(), named("p", provider(policy()))];
    assert!(admit(&w, &both, true).is_ok());
    w.add("p", provider(policy()));
    assert!(admit(&w, &c, true).is_ok());
}

#[test]
fn circle_among_new_services_is_refused_and_told() {
    let w = World::new(config());
    let services = [
        named("x", linked(policy(), &[], &["a"], &[])),
        named("a", linked(policy(), &["a"], &["b"], &[])),
        named("b", linked(policy(), &["b"], &[], &["a"])),
    ];
    let error = admit(&w, &services, false).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Cycle);
    let text = error.to_string();
    assert!(text.ends_with(": a -> b -> a"), "{text}");
    let itself = [named("a", linked(policy(), &["k"], &["k"], &[]))];
    assert_refused(admit(&w, &itself, false), ErrorKind::Cycle, &[": a -> a"]);
}

#[test]
fn circle_through_older_services_is_refused() {
    let mut w = World::new(config());
    w.add("a", linked(policy(), &["a"], &["b"], &[]));
    w.add("m", linked(policy(), &["m"], &["a"], &[]));
    let b = [named("b", linked(policy(), &["b"], &[], &["m"]))];
    let error = admit(&w, &b, false).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Cycle);
    let text = error.to_string();
    assert!(text.ends_with(": b -> m -> a -> b"), "{text}");
}

#[test]
fn services_that_share_a_provider_are_no_circle() {
    let mut w = World::new(config());
    let diamond = [
        named("sink", linked(policy(), &[], &["l", "r"], &[])),
        named("left", linked(policy(), &["l"], &["k"], &[])),
        named("right", linked(policy(), &["r"], &["k"], &[])),
        named("source", provider(policy())),
    ];
    assert!(admit(&w, &diamond, true).is_ok());
    // And through older ones.
    w.add("sink", linked(policy(), &[], &["l", "r"], &[]));
    w.add("left", linked(policy(), &["l"], &["k"], &[]));
    w.add("right", linked(policy(), &["r"], &["k"], &[]));
    assert!(admit(&w, &diamond[3..], true).is_ok());
}

#[test]
fn key_of_a_removed_service_is_free_again() {
    let mut w = World::new(config());
    w.add("p", provider(policy()));
    w.add("c", needy(policy()));
    w.input(Input::Started);
    w.remove("p");
    assert!(!w.is_there("p"));
    let other = [named("o", other_type())];
    // Somebody still takes it.
    assert_refused(admit(&w, &other, false), ErrorKind::Invalid, &["\"c\""]);
    assert!(admit(&w, &[named("p", provider(policy()))], false).is_ok());
    w.remove("c");
    assert!(!w.is_there("c"));
    assert!(admit(&w, &other, false).is_ok());
    // And the one way round that is left: the provider stays.
    w.add("p", provider(policy()));
    w.add("c", needy(policy()));
    w.remove("c");
    assert_refused(admit(&w, &other, false), ErrorKind::Invalid, &["\"p\""]);
    let second = [named("q", provider(policy()))];
    assert_refused(admit(&w, &second, false), ErrorKind::Invalid, &["\"p\""]);
}
