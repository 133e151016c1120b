//! Which thread a service runs on.

use std::collections::HashSet;
use std::thread::{self, ThreadId};

use backstay::{Context, Service, Spec};
use crossbeam_channel::{Sender, unbounded};

use crate::common::{take, unlimited};

struct Seen {
    service: &'static str,
    id: ThreadId,
    name: String,
}

/// Tells its thread, and fails three times.
fn telling(service: &'static str, told: &Sender<Seen>) -> impl Service + use<> {
    let told = told.clone();
    move |ctx: &Context| {
        let current = thread::current();
        let (id, name) = (current.id(), current.name().unwrap_or_default().to_owned());
        told.send(Seen { service, id, name })?;
        if ctx.incarnation() <= 3 {
            return Err("again".into());
        }
        ctx.wait_stop();
        Ok(())
    }
}

#[test]
fn each_service_has_a_thread_of_its_own() {
    let app = unlimited("app");
    let (told, seen) = unbounded();
    app.add("a", telling("a", &told)).unwrap();
    app.add("b", telling("b", &told)).unwrap();
    app.add_spec(Spec::new("f", telling("f", &told)).fresh_thread())
        .unwrap();
    let serving = thread::spawn({
        let app = app.clone();
        move || {
            app.serve().unwrap();
            thread::current().id()
        }
    });
    let seen: Vec<Seen> = (0..12).map(|_| take(&seen)).collect();
    app.stop();
    let supervisor = serving.join().unwrap();

    let ids = |service: &str| -> HashSet<ThreadId> {
        seen.iter()
            .filter(|s| s.service == service)
            .map(|s| s.id)
            .collect()
    };
    assert_eq!(ids("a").len(), 1);
    assert_eq!(ids("b").len(), 1);
    assert_eq!(ids("f").len(), 4);
    let all: HashSet<ThreadId> = seen.iter().map(|s| s.id).collect();
    assert_eq!(all.len(), 6);
    assert!(!all.contains(&supervisor));
    for s in &seen {
        assert!(
            s.name.ends_with(&format!("app.{}", s.service)),
            "{}",
            s.name
        );
    }
}
