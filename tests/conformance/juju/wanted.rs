//! Inputs that a service can do without, and what it answers when one is missing.

use backstay::{Context, Exit, Missing, Service, Spec, State};
use crossbeam_channel::unbounded;

use super::parts::{Diary, K};
use crate::common::watch::{entry, failures, incarnations, puppet};
use crate::common::{Gate, HOUR, Recorder, fails, ms, obedient, pass, take, unlimited, wait_state};

#[test]
fn get_of_a_wanted_key_that_is_absent_lets_the_service_run() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.add_spec(diary.part("c", obedient()).wants(&K).spec())
        .unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=-");
    pass(ms(200));
    let c = entry(&app, "app.c");
    assert_eq!((c.state(), c.starts()), (State::Running, 1));
    assert_eq!(c.failures(), 0);
    assert!(app.stop().is_empty());
}

/// `get` with `?`, in every run.
fn insists() -> impl Service {
    |ctx: &Context| {
        ctx.get(&K)?;
        ctx.wait_stop();
        Ok(())
    }
}

#[test]
fn question_mark_on_get_parks_the_service() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    app.add_spec(diary.part("c", insists()).wants(&K).spec())
        .unwrap();
    app.start().unwrap();
    wait_state(&app, "app.c", State::Waiting);
    pass(ms(200));
    let c = entry(&app, "app.c");
    assert_eq!((c.state(), c.starts()), (State::Waiting, 1));
    let reason = c.waiting_for().unwrap();
    assert!(reason.contains("\"k\""), "{reason}");
    assert_eq!(diary.of("c"), ["c 1 k=-", "c 1 ends"]);

    app.add_spec(diary.p(obedient())).unwrap();
    diary.wait("c 2 k=1");
    events.settle();
    assert_eq!(incarnations(&app, ["p", "c"]), [1, 2]);
    assert_eq!(failures(&app), 0);
    assert_eq!(
        events.words("app.c"),
        ["added", "started", "stopped", "waiting", "started"]
    );
    assert!(app.stop().is_empty());
}

#[test]
fn missing_answer_with_all_inputs_there_waits_for_a_change() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    let (c, service) = puppet();
    let p = app.add_spec(diary.p(obedient())).unwrap();
    app.add_spec(diary.c("c", service)).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    c.exit(Exit::Missing);
    wait_state(&app, "app.c", State::Waiting);
    pass(ms(200));
    let waiting = entry(&app, "app.c");
    assert_eq!((waiting.state(), waiting.starts()), (State::Waiting, 1));

    app.restart_service(p).unwrap();
    diary.wait("c 2 k=2");
    events.settle();
    assert_eq!(incarnations(&app, ["p", "c"]), [2, 2]);
    assert_eq!(diary.starts("c"), 2);
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn get_is_a_snapshot_of_the_start() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (tell, told) = unbounded();
    let (look, end) = (Gate::new(), Gate::new());
    let (may_look, may_end) = (look.clone(), end.clone());
    let deaf = move |ctx: &Context| {
        if ctx.incarnation() > 1 {
            ctx.wait_stop();
            return Ok(());
        }
        may_look.wait();
        ctx.wait_stop();
        let value: Result<_, Missing> = ctx.get(&K);
        tell.send(value.is_err()).unwrap();
        may_end.wait();
        Ok(())
    };
    app.add_spec(diary.part("c", deaf).wants(&K).spec())
        .unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=-");
    app.add_spec(diary.p(obedient())).unwrap();
    wait_state(&app, "app.c", State::Stopping);
    look.open();
    assert!(take(&told));
    pass(ms(100));
    assert_eq!(diary.lines(), ["c 1 k=-", "p 1"]);

    end.open();
    diary.wait("c 2 k=1");
    assert_eq!(incarnations(&app, ["p", "c"]), [1, 2]);
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

/// Fails `n` times before it provides anything.
fn late_provider(diary: &Diary, n: u64) -> Spec {
    let (diary, stays) = (diary.clone(), fails(n, "not yet"));
    let provider = move |ctx: &Context| {
        diary.note(format!("p {}", ctx.incarnation()));
        // Waits for its stop only when it has failed often enough.
        if ctx.incarnation() > n {
            ctx.provide(&K, ctx.incarnation())?;
        }
        stays.run(ctx)
    };
    Spec::new("p", provider).provides(&K)
}

#[test]
fn input_that_never_was_there_bounces_nobody() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    app.add_spec(diary.part("c", obedient()).wants(&K).spec())
        .unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=-");
    app.add_spec(late_provider(&diary, 3)).unwrap();
    diary.wait("c 2 k=4");
    events.settle();
    assert_eq!(events.count("app.p", "failed"), 3);
    // Not before the first value was there.
    assert!(diary.place("c 1 ends") > diary.place("p 4"));
    assert_eq!(events.count("app.c", "stopping"), 1);
    assert_eq!(incarnations(&app, ["p", "c"]), [4, 2]);
    assert!(app.stop().is_empty());
}

#[test]
fn input_change_during_set_up_restarts_set_up() {
    let (app, diary) = (unlimited("app"), Diary::new());
    // It never says that it is ready.
    let c = diary.part("c", obedient()).wants(&K).spec();
    app.add_spec(c.ready_timeout(HOUR)).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=-");
    wait_state(&app, "app.c", State::Starting);

    let mut events = Recorder::of(&app);
    app.add_spec(diary.p(obedient())).unwrap();
    diary.wait("c 2 k=1");
    events.settle();
    assert_eq!(diary.starts("c"), 2);
    assert_eq!(entry(&app, "app.c").state(), State::Starting);
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}
