//! Names, and how many services there may be.

use backstay::{Context, ErrorKind, ServiceResult, Spec};
use crossbeam_channel::unbounded;

use crate::common::watch::{entry, quiet};
use crate::common::{Recorder, Tally, counted, obedient, take, unlimited};

#[test]
fn bad_names_are_refused() {
    let app = unlimited("app");
    app.start().unwrap();
    let runs = Tally::new();
    let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
    for name in ["", "a.b", "a b", "a\n", &too_long] {
        let error = app.add(name, counted(&runs, obedient())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadName);
        let text = error.to_string();
        assert!(text.contains("name"), "{text}");
        assert!(text.contains(&format!("{name:?}")), "{text}");
    }
    assert!(app.report().services().is_empty());
    assert_eq!(runs.get(), 0);

    for name in ["a", "9", "tcp_1", "Foo-9", &longest] {
        app.add(name, counted(&runs, obedient())).unwrap();
    }
    runs.reach(5);
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), 5);
}

#[test]
fn duplicate_child_name_is_refused() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (tell, told) = unbounded();
    let p = move |ctx: &Context| -> ServiceResult {
        let below = ctx.supervise(quiet("below"))?;
        below.add("a", obedient())?;
        tell.send(below.add("a", obedient()))?;
        ctx.wait_stop();
        Ok(())
    };
    app.add("p", p).unwrap();
    app.start().unwrap();

    let error = take(&told).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DuplicateName);
    assert!(error.to_string().contains("\"a\""), "{error}");
    events.wait("app.p.a", "started");
    events.settle();
    assert_eq!(events.words("app.p.a"), ["added", "started"]);
    assert_eq!(entry(&app, "app.p.a").incarnation(), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn endless_adder_meets_max_services() {
    let app = quiet("app").max_services(50).build().unwrap();
    let runs = Tally::new();
    let siblings = runs.clone();
    let (tell, told) = unbounded();
    let adder = move |ctx: &Context| -> ServiceResult {
        for i in 0..60 {
            let spec = Spec::new(format!("s{i}"), counted(&siblings, obedient()));
            tell.send(ctx.supervisor().add_spec(spec))?;
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("adder", adder).unwrap();
    app.start().unwrap();

    let answers: Vec<_> = (0..60).map(|_| take(&told)).collect();
    let (added, refused) = answers.split_at(49);
    assert!(added.iter().all(Result::is_ok));
    for answer in refused {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.to_string().contains("50"), "{error}");
    }
    runs.reach(49);
    let report = app.report();
    let alive = report.services().iter().filter(|s| s.state().is_alive());
    assert_eq!((report.services().len(), alive.count()), (50, 50));
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), 49);
}
