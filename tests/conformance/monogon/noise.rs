//! Many services, and such that misbehave.

use std::collections::BTreeMap;

use backstay::{Backoff, Context, Service, ServiceResult, Spec};
use crossbeam_channel::{Sender, bounded, select, unbounded};

use crate::common::process::{in_own_process, threads, wait_threads};
use crate::common::watch::{entry, incarnations, puppet, quiet};
use crate::common::{Gate, Recorder, Tally, counted, ms, secs, timed, unlimited, wait_for};

/// Answers pings until it is asked to stop.
fn ponging() -> (Sender<Sender<()>>, impl Service) {
    let (ping, pings) = unbounded::<Sender<()>>();
    let kept = ping.clone();
    let service = move |ctx: &Context| -> ServiceResult {
        let _kept = &kept;
        loop {
            select! {
                recv(ctx.stop_signal()) -> _ => return Ok(()),
                // The test may have given up.
                recv(pings) -> ping => ping?.send(()).unwrap_or(()),
            }
        }
    };
    (ping, service)
}

#[test]
fn misbehaving_services_do_not_disturb_others() {
    const ROUNDS: u64 = 5;
    let app = unlimited("app");
    let soon = Backoff::fixed(ms(10));
    let twice = |ctx: &Context| {
        ctx.ready();
        ctx.ready();
        ctx.wait_stop();
        Ok(())
    };
    app.add("twice", twice).unwrap();
    app.add_spec(Spec::new("returns", |_: &Context| Ok(())).backoff(soon))
        .unwrap();
    let (release, spins) = (Gate::new(), Tally::new());
    let released = release.clone();
    let spin = counted(&spins, move |_: &Context| {
        while !released.is_open() {
            std::hint::spin_loop();
        }
        Ok(())
    });
    app.add_spec(Spec::new("spins", spin).stop_timeout(ms(100)))
        .unwrap();
    let panics = |_: &Context| -> ServiceResult { panic!("at the start") };
    app.add_spec(Spec::new("panics", panics).backoff(soon))
        .unwrap();
    let ((ping, one), (sib, service)) = (ponging(), puppet());
    app.add_spec(Spec::new("one", one).group("g")).unwrap();
    app.add_spec(Spec::new("sib", service).group("g")).unwrap();
    app.start().unwrap();
    spins.reach(1);

    for round in 1..=ROUNDS {
        sib.panic("once more");
        wait_for("both run again", || {
            incarnations(&app, ["one", "sib"]) == [round + 1; 2]
        });
        let (pong, answers) = bounded(1);
        ping.send(pong).unwrap();
        answers.recv_timeout(secs(1)).unwrap();
    }
    let one = entry(&app, "app.one");
    assert_eq!((u64::from(one.starts()), one.failures()), (ROUNDS + 1, 0));
    assert_eq!(incarnations(&app, ["twice", "spins"]), [1, 1]);
    let report = app.stop();
    release.open();
    let unstopped: Vec<&str> = report.unstopped().iter().map(|u| u.path()).collect();
    assert_eq!(unstopped, ["app.spins"]);
}

/// How many services each one that has any below it has there.
const WIDTH: usize = 6;

/// 6 + 6 * 6 + 6 * 6 * 6.
const SERVICES: usize = 258;

const FAILING: usize = 10;

/// With that many levels below it. The first leaf below each of the first ten in the middle fails
/// all the time.
fn node(levels: u32, place: usize, runs: Tally) -> Box<dyn Service> {
    Box::new(move |ctx: &Context| -> ServiceResult {
        runs.add();
        if levels == 0 && place % WIDTH == 0 && place / WIDTH < FAILING {
            return Err("always".into());
        }
        if levels > 0 {
            let below = ctx.supervise(quiet("below").backoff(Backoff::fixed(ms(20))))?;
            for i in 0..WIDTH {
                let child = node(levels - 1, place * WIDTH + i, runs.clone());
                below.add_spec(Spec::new(format!("n{i}"), child).stack_size(1 << 18))?;
            }
        }
        ctx.wait_stop();
        Ok(())
    })
}

/// In a process of its own, so that its threads can be counted.
#[test]
fn stop_leaves_no_thread_and_loses_no_end() {
    in_own_process("noise::stop_leaves_no_thread_and_loses_no_end", || {
        let before = threads();
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let runs = Tally::new();
        for i in 0..WIDTH {
            app.add(format!("n{i}"), node(2, i, runs.clone())).unwrap();
        }
        app.start().unwrap();
        wait_for("all are there", || app.report().iter().count() == SERVICES);
        // All of them, and the failing ones again and again.
        runs.reach(SERVICES as u64 + 200);

        let (report, took) = timed(|| app.stop());
        assert!(report.is_empty(), "{report}");
        assert!(took < secs(10), "{took:?}");
        let mut balance: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for event in events.all() {
            let counts = balance.entry(event.path()).or_default();
            match event.word() {
                "started" => counts.0 += 1,
                "done" | "stopped" | "failed" => counts.1 += 1,
                _ => {}
            }
        }
        balance.retain(|_, (started, _)| *started > 0);
        assert_eq!(balance.len(), SERVICES);
        for (path, (started, ended)) in &balance {
            assert_eq!(started, ended, "{path}");
        }
        let failing = balance.values().filter(|(started, _)| *started > 1);
        assert_eq!(failing.count(), FAILING);
        wait_threads(before);
    });
}
