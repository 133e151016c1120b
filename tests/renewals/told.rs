//! What is told and shown of each incarnation.

use backstay::{Context, EventKind, ServiceResult, State, Supervisor};

use crate::Flaky;
use crate::common::{Gate, PATIENCE, Recorder, ms, obedient, pass, take, unlimited, wait_for};

#[test]
fn each_incarnation_tells_its_story_in_order() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let service = |ctx: &Context| -> ServiceResult {
        ctx.log("runs");
        if ctx.incarnation() <= 500 {
            return Err("fails".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    wait_for("the last one runs", || {
        events.count("app.flaky", "log") == 501
    });
    assert!(app.stop().is_empty());
    told_in_order(&mut events, "log", 500);
}

/// All of them have said `word`, all but the last have failed after it, and that one was stopped.
#[track_caller]
fn told_in_order(events: &mut Recorder, word: &'static str, failed: u64) {
    let told = events.all().iter().filter(|e| e.incarnation() > 0);
    let mut told = told.map(|e| (e.incarnation(), e.word()));
    for n in 1..=failed + 1 {
        let end: &[&str] = if n <= failed {
            &["failed"]
        } else {
            &["stopping", "stopped"]
        };
        for word in ["started", word].iter().chain(end) {
            assert_eq!(told.next(), Some((n, *word)));
        }
    }
    assert_eq!(told.next(), None);
}

#[test]
fn a_stop_is_told_of_the_incarnation_that_gets_it() {
    let app = unlimited("app");
    app.start().unwrap();
    for _ in 0..50 {
        let flaky = Flaky::default();
        let mut events = Recorder::of(&app);
        let fails = flaky.service();
        let service = move |ctx: &Context| -> ServiceResult {
            // As many as the recorder has room for, however long the removal takes to come.
            if ctx.incarnation() > 5000 {
                ctx.wait_stop();
            }
            fails(ctx)
        };
        let id = app.add("flaky", service).unwrap();
        flaky.runs_on();
        app.remove_and_wait(id, PATIENCE).unwrap();
        events.wait("app.flaky", "removed");
        // Each has one story: started, perhaps asked to stop, and one end.
        let mut last = (0, "added");
        for event in events.all().iter().filter(|e| e.path() == "app.flaky") {
            let now = (event.incarnation(), event.word());
            let fits = match (last, now) {
                (_, (_, "added" | "removed")) => true,
                ((before, "added" | "failed"), (n, "started")) => n == before + 1,
                ((before, "started"), (n, "failed" | "stopping")) => n == before,
                ((before, "stopping"), (n, "stopped")) => n == before,
                _ => false,
            };
            assert!(fits, "{now:?} after {last:?}");
            last = now;
        }
    }
    assert!(app.stop().is_empty());
}

#[test]
fn the_report_has_a_restart_before_the_next_incarnation_begins() {
    let app = unlimited("app");
    let (tell, told) = crossbeam_channel::bounded(1);
    let service = move |ctx: &Context| -> ServiceResult {
        let n = ctx.incarnation();
        let report = ctx.supervisor().report();
        let own = report.find(ctx.path()).ok_or("it is in no report")?;
        let failed = own.last_failure().map_or(0, |f| f.incarnation());
        let seen = (
            own.incarnation(),
            u64::from(own.starts()),
            u64::from(own.failures()),
            failed,
            own.state(),
            own.status().map(str::to_owned),
        );
        ctx.set_status("of this one");
        if seen != (n, n, n - 1, n - 1, State::Running, None) {
            tell.send(Some(format!("{n}: {seen:?}")))?;
        } else if n == 400 {
            tell.send(None)?;
        }
        if n >= 400 {
            ctx.wait_stop();
            return Ok(());
        }
        assert!(n % 2 == 0, "fails by a panic");
        Err("fails by an error".into())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    assert_eq!(take(&told), None);
    let report = app.report();
    let service = report.find("app.flaky").unwrap();
    assert_eq!((service.failures(), service.panics()), (399, 200));
    assert_eq!(service.status(), Some("of this one"));
    assert!(app.stop().is_empty());
    let report = app.report();
    let service = report.find("app.flaky").unwrap();
    assert_eq!((service.failures(), service.panics()), (399, 200));
    assert_eq!(service.last_failure().unwrap().incarnation(), 399);
}

#[test]
fn what_a_later_incarnation_says_counts() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let go = Gate::new();
    let wait = go.clone();
    let service = move |ctx: &Context| -> ServiceResult {
        ctx.ready();
        match ctx.incarnation() {
            20 => {
                wait.wait();
                Err("fails once more".into())
            }
            21 => {
                ctx.wait_stop();
                Ok(())
            }
            _ => Err("fails".into()),
        }
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    let ready_as = |n: u64| {
        wait_for("it is ready", || {
            let report = app.report();
            let service = report.find("app.flaky").unwrap();
            service.incarnation() == n && service.state() == State::Ready
        });
    };
    ready_as(20);
    go.open();
    ready_as(21);
    assert!(app.wait_ready(PATIENCE).is_ok());
    assert!(app.stop().is_empty());
    let ready = events.all().iter().filter(|e| e.word() == "ready");
    let numbers: Vec<u64> = ready.map(|e| e.incarnation()).collect();
    assert_eq!(numbers.last(), Some(&21));
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
}

#[test]
fn what_it_says_comes_before_its_end() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let service = |ctx: &Context| -> ServiceResult {
        ctx.ready();
        if ctx.incarnation() <= 1000 {
            return Err("fails".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    wait_for("the last one is ready", || {
        let last = |e: &backstay::Event| (e.incarnation(), e.word()) == (1001, "ready");
        events.all().iter().any(last)
    });
    assert!(app.stop().is_empty());
    told_in_order(&mut events, "ready", 1000);
}

#[test]
fn since_when_it_runs_is_not_changed_by_what_it_tells() {
    let app = unlimited("app");
    let (begun, tell) = (Gate::new(), Gate::new());
    let (up, go) = (begun.clone(), tell.clone());
    let service = move |ctx: &Context| -> ServiceResult {
        if ctx.incarnation() < 5 {
            return Err("fails".into());
        }
        up.open();
        go.wait();
        let below = ctx.supervise(Supervisor::builder("below"))?;
        below.add("waits", obedient())?;
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    begun.wait();
    // It has run for a while.
    pass(ms(50));
    tell.open();
    wait_for("it is heard", || {
        app.report().find("app.flaky.waits").is_some()
    });
    // One more answer: whatever the service has told has been dealt with.
    app.add("other", obedient()).unwrap();
    let report = app.report();
    let in_state = report.find("app.flaky").unwrap().in_state();
    assert!(in_state >= ms(50), "{in_state:?} in {report}");
    assert!(app.stop().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn others_are_heard_while_a_service_starts_again_without_end() {
    let app = unlimited("app");
    let flaky = Flaky::default();
    app.add("flaky", flaky.service()).unwrap();
    app.start().unwrap();
    // The first ones; there is no end of them.
    let events = app.subscribe(1000);
    for n in 0..50 {
        let id = app.add(format!("other{n}"), obedient()).unwrap();
        app.remove_and_wait(id, PATIENCE).unwrap();
    }
    while let Some(event) = events.try_recv() {
        if let EventKind::Failed { count, limit, .. } = event.kind() {
            assert_eq!((*count, *limit), (0.0, f64::INFINITY), "nothing is counted");
        }
    }
    assert!(app.stop().is_empty());
    flaky.ran_alone();
}
