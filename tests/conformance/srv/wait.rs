//! `Wait`: operations at once, until the last one has ended.

use std::sync::Mutex;
use std::time::Instant;

use backstay::services::{Job, Wait};
use backstay::{Context, Errors, Exit, FailureKind, Restart, ServiceResult, Spec, State};
use crossbeam_channel::{Receiver, unbounded};

use crate::common::watch::{Crowd, SOON, entry, failures};
use crate::common::{
    Gate, Recorder, Tally, add_running, add_running_as, answer, failed, ms, obedient, pass, take,
    timed, unlimited, wait_for, wait_state,
};

type Op = Box<dyn FnOnce(&Context) -> ServiceResult + Send>;

fn op(f: impl FnOnce(&Context) -> ServiceResult + Send + 'static) -> Op {
    Box::new(f)
}

#[test]
fn wait_ends_with_its_last_operation() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let crowd = Crowd::new();
    let inside = crowd.clone();
    let wait = Wait::new(move || {
        let inside = inside.clone();
        [10, 50, 100].map(move |time| {
            let inside = inside.clone();
            op(move |_| {
                let _inside = inside.enter();
                pass(ms(time));
                Ok(())
            })
        })
    });
    let begun = Instant::now();
    app.start().unwrap();
    app.add_spec(Spec::new("a", wait).restart(Restart::OnFailure))
        .unwrap();
    events.wait("app.a", "done");
    assert!(begun.elapsed() >= ms(100));
    assert_eq!((crowd.now(), failures(&app)), (0, 0));

    let ran = Tally::new();
    let counts = ran.clone();
    let wait = Wait::new(move || {
        let [a, b, c] = [counts.clone(), counts.clone(), counts.clone()];
        [
            op(move |_| {
                a.add();
                Ok(())
            }),
            op(move |_| {
                b.add();
                Err("e".into())
            }),
            op(move |_| {
                c.add();
                panic!("p")
            }),
        ]
    });
    app.add_spec(Spec::new("b", wait).restart(Restart::Never))
        .unwrap();
    let failure = failed(&events.wait("app.b", "failed")).failure;
    assert_eq!(ran.get(), 3);
    assert_eq!(failure.kind(), FailureKind::Panic);
    let text = failure.to_string();
    assert!(text.contains("e;") || text.ends_with("; e"), "{text}");
    assert!(text.contains("panicked: p at"), "{text}");
    assert!(app.stop().is_empty());
}

#[test]
fn wait_operations_run_at_once() {
    const OPS: usize = 20;
    let app = unlimited("app");
    let all = Tally::new();
    let begun = all.clone();
    let wait = Wait::new(move || {
        let begun = begun.clone();
        (0..OPS).map(move |_| {
            let begun = begun.clone();
            Job::new(move |ctx| {
                begun.add();
                // Each waits for all the others.
                begun.reach(OPS as u64);
                assert!(ctx.path().starts_with("app.a."), "{}", ctx.path());
                Ok(())
            })
        })
    });
    app.add_spec(Spec::new("a", wait).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::Done);
    assert_eq!((all.get(), failures(&app)), (OPS as u64, 0));
    assert!(app.stop().is_empty());
}

/// A `Wait` over a channel, which can be asked for operations again in a next incarnation.
fn over(ops: Receiver<Op>) -> Wait {
    Wait::new(move || ops.clone())
}

#[test]
fn wait_runs_operations_as_they_come() {
    let app = unlimited("app");
    let (give, ops) = unbounded::<Op>();
    let (tell, told) = unbounded();
    let begins = || {
        let tell = tell.clone();
        op(move |_| Ok(tell.send(Instant::now())?))
    };
    app.start().unwrap();
    let spec = Spec::new("a", over(ops)).restart(Restart::OnFailure);
    app.add_spec(spec).unwrap();
    let given = Instant::now();
    give.send(begins()).unwrap();
    assert!(take(&told) - given < SOON);
    pass(ms(200));
    let given = Instant::now();
    give.send(begins()).unwrap();
    assert!(take(&told) - given < SOON);
    pass(ms(200));
    // It is not over before the channel is closed.
    assert_eq!(entry(&app, "app.a").state(), State::Running);
    drop(give);
    wait_state(&app, "app.a", State::Done);
    assert_eq!(entry(&app, "app.a").starts(), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn wait_without_operations_is_done() {
    let app = unlimited("app");
    let wait = Wait::new(Vec::<Job>::new);
    app.add_spec(Spec::new("a", wait).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::Done);
    assert!(app.stop().is_empty());
}

#[test]
fn wait_stop_reaches_every_operation() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (begun, sleeping) = (Tally::new(), Tally::new());
    let (count, slept) = (begun.clone(), sleeping.clone());
    let wait = Wait::new(move || {
        let (count, slept) = (count.clone(), slept.clone());
        [
            op(move |ctx| {
                count.add();
                ctx.wait_stop();
                Err("said at the stop".into())
            }),
            op(move |ctx| {
                slept.add();
                Ok(ctx.sleep(crate::common::HOUR)?)
            }),
        ]
    });
    app.start().unwrap();
    add_running(&app, "a", wait);
    begun.reach(1);
    sleeping.reach(1);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < SOON, "{took:?}");
    let answer = answer(&events.wait("app.a", "stopped")).unwrap();
    assert_eq!(answer.message(), "said at the stop");
}

#[test]
fn wait_operation_that_does_not_end_is_named() {
    let app = unlimited("app");
    let (begun, release) = (Tally::new(), Gate::new());
    let (count, wait) = (begun.clone(), release.clone());
    let ops = Wait::new(move || {
        let (count, wait) = (count.clone(), wait.clone());
        [
            op(|ctx| {
                ctx.wait_stop();
                Ok(())
            }),
            op(move |_| {
                count.add();
                wait.wait();
                Ok(())
            }),
        ]
    });
    app.start().unwrap();
    add_running_as(&app, "a", ops, |spec| spec.stop_timeout(ms(100)));
    begun.reach(1);
    let report = app.stop();
    let paths: Vec<_> = report.unstopped().iter().map(|u| u.path()).collect();
    assert_eq!(paths, ["app.a.2"]);
    release.open();
}

#[test]
fn wait_takes_nothing_more_after_a_stop() {
    let app = unlimited("app");
    let (asked, stopping, begun) = (Tally::new(), Gate::new(), Tally::new());
    let (ask, wait, count) = (asked.clone(), stopping.clone(), begun.clone());
    let ops = Wait::new(move || {
        let (ask, wait, count) = (ask.clone(), wait.clone(), count.clone());
        std::iter::repeat_with(move || {
            ask.add();
            if ask.get() > 1 {
                wait.wait();
            }
            let (wait, count) = (wait.clone(), count.clone());
            op(move |ctx| {
                count.add();
                ctx.wait_stop();
                // What is below a service is asked after the service. What the iterator gives now was taken,
                // so it is done.
                wait.open();
                Ok(())
            })
        })
    });
    app.start().unwrap();
    add_running(&app, "a", ops);
    begun.reach(1);
    asked.reach(2);
    assert!(app.stop().is_empty());
    assert!(stopping.is_open());
    assert_eq!((asked.get(), begun.get()), (2, 2));
}

#[test]
fn wait_iterator_that_panics_is_one_of_the_errors() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (ended, go) = (Tally::new(), Gate::new());
    let (end, wait) = (ended.clone(), go.clone());
    let ops = Wait::new(move || {
        let (end, wait) = (end.clone(), wait.clone());
        (0..2).map(move |n| {
            assert!(n < 1, "no second one");
            let (end, wait) = (end.clone(), wait.clone());
            op(move |_| {
                wait.wait();
                end.add();
                Err("first".into())
            })
        })
    });
    app.add_spec(Spec::new("a", ops).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    assert_eq!(events.count("app.a", "failed"), 0);
    go.open();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!((failure.kind(), ended.get()), (FailureKind::Panic, 1));
    for word in ["no second one", "first"] {
        assert!(failure.message().contains(word), "{failure}");
    }
    assert!(app.stop().is_empty());
}

#[test]
fn wait_many_errors_are_bounded() {
    const OPS: usize = 150;
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let ops = Wait::new(|| (0..OPS).map(|n| op(move |_| Err(n.to_string().into()))));
    app.add_spec(Spec::new("a", ops).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    assert_eq!((errors.len(), errors.dropped()), (100, 50));
    assert!(app.stop().is_empty());
}

#[test]
fn wait_exit_of_an_operation_counts_when_all_have_ended() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let go = Gate::new();
    let wait = go.clone();
    let ops = Wait::new(move || {
        let wait = wait.clone();
        [
            op(|_| Err(Exit::DoNotRestart.into())),
            op(move |_| {
                wait.wait();
                Err("late".into())
            }),
        ]
    });
    app.start().unwrap();
    app.add("a", ops).unwrap();
    wait_for("the first one has ended", || {
        events.count("app.a.1", "done") == 1
    });
    assert_eq!(entry(&app, "app.a").state(), State::Running);
    go.open();
    wait_state(&app, "app.a", State::Done);
    assert_eq!(events.count("app.a", "failed"), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn wait_begins_anew_in_every_incarnation() {
    let app = unlimited("app");
    let made = Mutex::new(0_u64);
    let done = Tally::new();
    let end = done.clone();
    let ops = Wait::new(move || {
        let mut made = made.lock().unwrap();
        *made += 1;
        let (n, end) = (*made, end.clone());
        vec![op(move |_| {
            end.add();
            match n {
                1 => Err("again".into()),
                _ => Ok(()),
            }
        })]
    });
    app.add("b", obedient()).unwrap();
    app.add_spec(Spec::new("a", ops).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    done.reach(2);
    wait_state(&app, "app.a", State::Done);
    assert_eq!(entry(&app, "app.a").failures(), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn wait_stopped_while_it_begins_loses_no_operation() {
    for _ in 0..100 {
        let app = unlimited("app");
        let (begun, given) = (Tally::new(), Tally::new());
        let (count, gave) = (begun.clone(), given.clone());
        let ops = Wait::new(move || {
            let (count, gave) = (count.clone(), gave.clone());
            (0..3).map(move |_| {
                gave.add();
                let count = count.clone();
                op(move |_| {
                    count.add();
                    Ok(())
                })
            })
        });
        app.start().unwrap();
        app.add("a", ops).unwrap();
        assert!(app.stop().is_empty());
        assert_eq!(begun.get(), given.get());
    }
}
