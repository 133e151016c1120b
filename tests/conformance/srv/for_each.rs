//! Something done with every item of a source.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstay::services::ForEach;
use backstay::{
    BoxError, Context, Errors, FailureKind, Restart, ServiceId, Spec, State, Stopping, Supervisor,
};
use crossbeam_channel::unbounded;

use crate::common::watch::{Crowd, SOON, entry};
use crate::common::{
    Gate, Recorder, Tally, answer, failed, ms, pass, take, timed, unlimited, wait_for, wait_state,
};

fn add<T: Send + 'static>(app: &Supervisor, service: ForEach<T>, restart: Restart) -> ServiceId {
    app.add_spec(Spec::new("each", service).restart(restart))
        .unwrap()
}

/// A running tree with the service in it.
fn run<T: Send + 'static>(service: ForEach<T>, restart: Restart) -> Supervisor {
    let app = unlimited("app");
    add(&app, service, restart);
    app.start().unwrap();
    app
}

/// Counts what is pulled from 0 on.
fn counting(pulled: &Tally) -> impl Fn() -> Box<dyn Iterator<Item = u64>> + Send + Sync + use<> {
    let pulled = pulled.clone();
    move || {
        let pulled = pulled.clone();
        Box::new((0..).inspect(move |_| pulled.add()))
    }
}

#[test]
fn for_each_handles_every_item() {
    for (items, workers, time) in [(100, 2, ms(0)), (50, 50, ms(20))] {
        let handled = Arc::new(AtomicU64::new(0));
        let crowd = Crowd::new();
        let sum = handled.clone();
        let (count, inside) = (Tally::new(), crowd.clone());
        let counted = count.clone();
        let service = ForEach::new(
            workers,
            move || 0..items,
            move |ctx: &Context, n| {
                assert_eq!(ctx.path(), "app.each");
                let _inside = inside.enter();
                pass(time);
                sum.fetch_add(n, Ordering::SeqCst);
                counted.add();
                Ok(())
            },
        );
        let (app, took) = timed(|| {
            let app = run(service, Restart::OnFailure);
            wait_state(&app, "app.each", State::Done);
            app
        });
        assert_eq!(count.get(), items);
        assert_eq!(handled.load(Ordering::SeqCst), items * (items - 1) / 2);
        assert!(crowd.most() <= workers as u64);
        // One after the other would be a second.
        assert!(took < SOON, "{took:?}");
        assert_eq!(entry(&app, "app.each").failures(), 0);
        app.stop();
    }
}

#[test]
fn for_each_first_error_stops_pulling() {
    let pulled = Tally::new();
    let source = counting(&pulled);
    let service = ForEach::new(
        2,
        move || source().take(1000),
        |_: &Context, n| match n {
            10 => Err("item 10".into()),
            _ => Ok(()),
        },
    );
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, service, Restart::Never);
    app.start().unwrap();
    let failure = failed(&events.wait("app.each", "failed")).failure;
    assert_eq!(failure.message(), "item 10");
    events.wait("app.each", "removed");
    assert!((11..=20).contains(&pulled.get()), "{}", pulled.get());
    app.stop();
}

#[test]
fn for_each_pulls_no_further_ahead_than_its_workers() {
    for (window, most) in [(None, 8), (Some(4), 4), (Some(1), 1)] {
        let (pulled, release, entered) = (Tally::new(), Gate::new(), Tally::new());
        let (held, enters) = (release.clone(), entered.clone());
        let mut service = ForEach::new(4, counting(&pulled), move |ctx: &Context, _| {
            enters.add();
            held.wait();
            ctx.wait_stop();
            Ok(())
        });
        if let Some(window) = window {
            service = service.window(window);
        }
        let app = run(service, Restart::Always);
        pulled.reach(most);
        entered.reach(most.min(4));
        pass(ms(200));
        assert_eq!(pulled.get(), most);
        release.open();
        assert!(app.stop().is_empty());
        // What was pulled is done.
        assert_eq!((pulled.get(), entered.get()), (most, most));
    }
}

#[test]
fn for_each_stop_interrupts_a_receiver() {
    let (send, items) = unbounded::<u64>();
    let service = ForEach::from_receiver(2, items, |_: &Context, _| Ok(()));
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, service, Restart::Always);
    app.start().unwrap();
    wait_state(&app, "app.each", State::Ready);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    assert!(answer(&events.wait("app.each", "stopped")).is_none());
    drop(send);
}

/// What is in the channel outlives restarts: by a stop, by an error, and by a panic.
#[test]
fn for_each_loses_nothing_of_a_channel() {
    const ITEMS: u64 = 2_000;
    let (send, items) = unbounded();
    let (handled, handles) = unbounded();
    for n in 0..ITEMS {
        send.send(n).unwrap();
    }
    let service = ForEach::from_receiver(3, items, move |_: &Context, n| {
        handled.send(n)?;
        match n % 100 {
            50 => Err("fifty".into()),
            77 => panic!("seventy-seven"),
            _ => Ok(()),
        }
    });
    let app = unlimited("app");
    let id = add(&app, service, Restart::OnFailure);
    app.start().unwrap();
    let mut all: Vec<u64> = (0..ITEMS)
        .map(|n| {
            if n % 300 == 0 {
                app.restart_service(id).unwrap();
            }
            take(&handles)
        })
        .collect();
    all.sort_unstable();
    assert_eq!(all, (0..ITEMS).collect::<Vec<_>>());
    // At its end it is done.
    drop(send);
    wait_state(&app, "app.each", State::Done);
    assert!(handles.is_empty());
    app.stop();
}

#[test]
fn for_each_makes_its_source_anew() {
    let (runs, seen) = (Tally::new(), unbounded());
    let (begun, count) = (runs.clone(), runs.clone());
    let service = ForEach::new(
        1,
        move || {
            begun.add();
            0..4
        },
        move |_: &Context, n| {
            seen.0.send(n)?;
            match (n, count.get()) {
                (2, 1) => Err("the first time".into()),
                _ => Ok(()),
            }
        },
    );
    let app = run(service, Restart::OnFailure);
    wait_state(&app, "app.each", State::Done);
    assert_eq!(runs.get(), 2);
    let seen: Vec<u64> = seen.1.try_iter().collect();
    assert_eq!(seen, [0, 1, 2, 0, 1, 2, 3]);
    app.stop();
}

#[test]
fn for_each_collects_and_excludes_as_a_pool_does() {
    let handled = Tally::new();
    let service = ForEach::new(
        2,
        || 0..20,
        |_: &Context, n| match n % 4 {
            0 => Err("kept".into()),
            1 => Err("skipped".into()),
            2 => panic!("caught"),
            _ => Ok(()),
        },
    )
    .continue_on_error()
    .continue_on_panic()
    .exclude(|e| e.to_string() == "skipped")
    .keep_errors(7);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, service, Restart::Never);
    app.start().unwrap();
    let failure = failed(&events.wait("app.each", "failed")).failure;
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    assert_eq!((errors.len(), errors.dropped()), (7, 3));
    assert_eq!(failure.kind(), FailureKind::Panic);
    app.stop();

    let count = handled.clone();
    let service = ForEach::new(2, || 0..20, |_: &Context, _| Err("told".into()))
        .continue_on_error()
        .on_error(move |_| count.add());
    let app = run(service, Restart::OnFailure);
    wait_state(&app, "app.each", State::Done);
    assert_eq!(handled.get(), 20);
    app.stop();
}

#[test]
fn for_each_source_that_panics_fails_the_service() {
    let made: fn() -> Box<dyn Iterator<Item = u64>> = || panic!("no source");
    let pulled: fn() -> Box<dyn Iterator<Item = u64>> =
        || Box::new((0..).inspect(|n| assert!(*n < 5, "no sixth")));
    for (source, text) in [(made, "no source"), (pulled, "no sixth")] {
        let handled = Tally::new();
        let count = handled.clone();
        let service = ForEach::new(2, source, move |_: &Context, _| {
            count.add();
            Ok(())
        })
        .continue_on_error()
        .continue_on_panic();
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        add(&app, service, Restart::Never);
        app.start().unwrap();
        let failure = failed(&events.wait("app.each", "failed")).failure;
        assert_eq!(failure.kind(), FailureKind::Panic);
        assert!(failure.message().contains(text), "{failure}");
        assert!(handled.get() <= 5);
        app.stop();
    }
}

#[test]
fn for_each_with_impossible_numbers_is_done_with_an_error() {
    let source = || 0..10_u64;
    let none = || |_: &Context, _: u64| Ok(());
    let services = [
        (ForEach::new(0, source, none()), "workers"),
        (ForEach::new(usize::MAX, source, none()), "workers"),
        (ForEach::new(2, source, none()).window(0), "window"),
    ];
    for (service, field) in services {
        let app = run(service, Restart::Always);
        wait_state(&app, "app.each", State::Done);
        let entry = entry(&app, "app.each");
        let failure = entry.last_failure().unwrap();
        assert!(failure.message().contains(field), "{failure}");
        assert_eq!(entry.starts(), 1);
        app.stop();
    }
}

/// In order, whatever takes how long; and no further ahead than the window.
#[test]
fn map_ordered_keeps_the_order() {
    const ITEMS: u64 = 300;
    for workers in [1, 2, 5] {
        let (pulled, crowd) = (Tally::new(), Crowd::new());
        let (out, outs) = unbounded();
        let (source, inside) = (counting(&pulled), crowd.clone());
        let service = ForEach::map_ordered(
            workers,
            move || source().take(ITEMS as usize),
            |_: &Context, n: u64| {
                pass(Duration::from_micros(n * 7919 % 500));
                Ok(n * 2)
            },
            move |_: &Context, doubled| {
                let _inside = inside.enter();
                Ok(out.send(doubled)?)
            },
        );
        let app = run(service, Restart::OnFailure);
        wait_state(&app, "app.each", State::Done);
        let all: Vec<u64> = outs.try_iter().collect();
        assert_eq!(all, (0..ITEMS).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!((pulled.get(), crowd.most()), (ITEMS, 1));
        app.stop();
    }
}

#[test]
fn map_ordered_pulls_no_further_than_its_window() {
    let (pulled, first, mapped) = (Tally::new(), Gate::new(), Tally::new());
    let (held, count) = (first.clone(), mapped.clone());
    let (out, outs) = unbounded();
    let service = ForEach::map_ordered(
        2,
        counting(&pulled),
        move |_: &Context, n| {
            if n == 0 {
                held.wait();
            }
            count.add();
            Ok(n)
        },
        move |_: &Context, n| Ok(out.send(n)?),
    )
    .window(6);
    let app = run(service, Restart::OnFailure);
    // The first one holds up all others, and those in the window are done.
    mapped.reach(5);
    pass(ms(50));
    assert_eq!((pulled.get(), mapped.get(), outs.len()), (6, 5, 0));
    first.open();
    for n in 0..20 {
        assert_eq!(take(&outs), n);
    }
    assert!(app.stop().is_empty());
    // What was pulled was handed on, in order.
    assert_eq!(outs.try_iter().last(), Some(pulled.get() - 1));
}

/// As a loop would: everything before the first failure is handed on, nothing behind it.
#[test]
fn map_ordered_ends_at_the_first_failure_in_order() {
    for in_map in [true, false] {
        let (out, outs) = unbounded();
        let late = Gate::new();
        let later = late.clone();
        let fails = |n: u64| -> Result<u64, BoxError> {
            match n {
                7 => Err("the seventh".into()),
                9 => panic!("the ninth"),
                n => Ok(n),
            }
        };
        let service = ForEach::map_ordered(
            4,
            || 0..1000,
            move |_: &Context, n: u64| {
                // It fails long before its turn.
                match n {
                    5 => later.wait(),
                    8 => later.open(),
                    _ => {}
                }
                if in_map { fails(n) } else { Ok(n) }
            },
            move |_: &Context, n| {
                out.send(if in_map { n } else { fails(n)? })?;
                Ok(())
            },
        );
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        add(&app, service, Restart::Never);
        app.start().unwrap();
        let failure = failed(&events.wait("app.each", "failed")).failure;
        assert_eq!(failure.message(), "the seventh");
        app.stop();
        assert_eq!(outs.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn map_ordered_leaves_out_what_it_goes_on_after() {
    let (out, outs) = unbounded();
    let service = ForEach::map_ordered(
        4,
        || 0..12,
        |_: &Context, n: u64| match n % 4 {
            1 => Err("excluded".into()),
            2 => panic!("in map"),
            _ => Ok(n),
        },
        move |_: &Context, n| match n {
            8 => Err("in each".into()),
            n => Ok(out.send(n)?),
        },
    )
    .continue_on_error()
    .continue_on_panic()
    .exclude(|e| e.to_string() == "excluded");
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, service, Restart::Never);
    app.start().unwrap();
    let failure = failed(&events.wait("app.each", "failed")).failure;
    assert_eq!(outs.try_iter().collect::<Vec<_>>(), [0, 3, 4, 7, 11]);
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 4, "{texts:?}");
    for (text, part) in texts.iter().zip(["in map", "in map", "in each", "in map"]) {
        assert!(text.contains(part), "{texts:?}");
    }
    app.stop();
}

/// What a stop has cut short leaves no gap: nothing behind it is handed on.
#[test]
fn map_ordered_has_no_gap_at_a_stop() {
    let (out, outs) = unbounded();
    let begun = Tally::new();
    let count = begun.clone();
    let service = ForEach::map_ordered(
        4,
        || 0..1000,
        move |ctx: &Context, n: u64| {
            count.add();
            if n == 2 {
                ctx.wait_stop();
                return Err(Stopping::default().into());
            }
            Ok(n)
        },
        move |_: &Context, n| Ok(out.send(n)?),
    );
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, service, Restart::Always);
    app.start().unwrap();
    begun.reach(8);
    wait_for("those before it are handed on", || outs.len() == 2);
    assert!(app.stop().is_empty());
    assert!(answer(&events.wait("app.each", "stopped")).is_none());
    assert_eq!(outs.try_iter().collect::<Vec<_>>(), [0, 1]);
}
