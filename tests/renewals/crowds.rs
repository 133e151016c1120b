//! Many of them, and requests from everywhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use backstay::{Context, End, ErrorKind, Limit, ServiceResult, Spec, State, StopOrder, Supervisor};

use crate::Flaky;
use crate::common::{HOUR, PATIENCE, Tally, ms, unlimited};

/// Flaky, says something now and then, and looks at the numbers of its incarnations.
#[derive(Clone, Default)]
struct Numbered {
    flaky: Flaky,
    last: Arc<AtomicU64>,
    went_back: Arc<AtomicBool>,
}

impl Numbered {
    fn service(&self) -> impl Fn(&Context) -> ServiceResult + Send + Sync + use<> {
        let numbered = self.clone();
        move |ctx: &Context| {
            let before = numbered.last.swap(ctx.incarnation(), Ordering::SeqCst);
            if before >= ctx.incarnation() {
                numbered.went_back.store(true, Ordering::SeqCst);
            }
            if ctx.incarnation() % 7 == 0 {
                ctx.ready();
            }
            ctx.set_status("runs");
            numbered.flaky.run(ctx)
        }
    }

    #[track_caller]
    fn ran_in_order(&self) {
        self.flaky.ran_alone();
        let went_back = self.went_back.load(Ordering::SeqCst);
        assert!(!went_back, "a number was used twice");
    }
}

/// Numbers that are random enough, from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

const TROUBLED: usize = 10;

/// Stops, starts, restarts, removes and adds at random. Whoever was removed comes again under its name.
fn trouble(app: &Supervisor, ids: &[Mutex<backstay::ServiceId>], of: &[Numbered], seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..80 {
        let n = dice.roll(TROUBLED);
        let id = *ids[n].lock().unwrap();
        match dice.roll(8) {
            0..3 => drop(app.restart_service(id)),
            3 => drop(app.stop_service(id)),
            4 | 5 => drop(app.start_service(id)),
            6 => {
                let Ok(()) = app.remove_and_wait(id, PATIENCE) else {
                    continue;
                };
                let mut own = ids[n].lock().unwrap();
                match app.add(format!("flaky{n}"), of[n].service()) {
                    Ok(new) => *own = new,
                    Err(e) => assert_eq!(e.kind(), ErrorKind::DuplicateName),
                }
            }
            _ => {
                let report = app.report();
                let own = report.find(&format!("app.flaky{n}"));
                let starts = own.map_or((0, 0), |s| (s.incarnation(), u64::from(s.starts())));
                assert_eq!(starts.0, starts.1, "in {report}");
            }
        }
    }
}

#[test]
fn requests_from_many_threads_reach_those_that_start_again_by_themselves() {
    for (round, order) in [StopOrder::Reverse, StopOrder::Parallel]
        .into_iter()
        .enumerate()
    {
        let app = Supervisor::builder("app")
            .limit(Limit::none())
            .stop_order(order)
            .quiet_panics()
            .build()
            .unwrap();
        let all: Vec<Numbered> = (0..TROUBLED).map(|_| Numbered::default()).collect();
        let add = |(n, one): (usize, &Numbered)| app.add(format!("flaky{n}"), one.service());
        let ids: Vec<_> = all
            .iter()
            .enumerate()
            .map(add)
            .map(Result::unwrap)
            .collect();
        let ids: Vec<_> = ids.into_iter().map(Mutex::new).collect();
        app.start().unwrap();
        thread::scope(|s| {
            for seed in 1..=8 {
                let (app, ids, all) = (&app, &ids, &all);
                s.spawn(move || trouble(app, ids, all, seed * 1000 + round as u64 + 1));
            }
        });
        // Everybody can still be started, and stopped.
        for (one, id) in all.iter().zip(&ids) {
            app.start_service(*id.lock().unwrap()).unwrap();
            one.flaky.runs_on();
        }
        app.stop_service(*ids[0].lock().unwrap()).unwrap();
        let end = app.wait_service(*ids[0].lock().unwrap(), PATIENCE);
        assert!(matches!(end, Ok(End::Stopped)), "{end:?}");
        assert!(app.stop().is_empty());
        let runs: Vec<u64> = all.iter().map(|one| one.flaky.runs()).collect();
        thread::yield_now();
        let later: Vec<u64> = all.iter().map(|one| one.flaky.runs()).collect();
        assert_eq!(runs, later, "they run after the stop");
        all.iter().for_each(|one| one.flaky.ran_alone());
        let report = app.report();
        for own in report.iter() {
            assert_eq!(own.state(), State::Stopped, "in {report}");
            assert_eq!(u64::from(own.starts()), own.incarnation(), "in {report}");
        }
    }
}

#[test]
fn their_supervisor_is_started_again_while_they_start_again_by_themselves() {
    let app = unlimited("app");
    let sub = unlimited("sub");
    let all: Vec<Numbered> = (0..3).map(|_| Numbered::default()).collect();
    for (n, one) in all.iter().enumerate() {
        sub.add(format!("flaky{n}"), one.service()).unwrap();
    }
    // It has no licence of its own, and its failures end the run of those beside it.
    let bad = Tally::new();
    let fails = bad.clone();
    let one_for_all = Supervisor::builder("fragile").limit(Limit::window(0, HOUR));
    let fragile = one_for_all.quiet_panics().build().unwrap();
    let beside = Numbered::default();
    let own_limit = Spec::new("beside", beside.service()).limit(Limit::none());
    fragile.add_spec(own_limit).unwrap();
    let runs = beside.flaky.clone();
    fragile
        .add("bad", move |ctx: &Context| {
            let now = runs.runs();
            while runs.runs() <= now + 3 {
                ctx.sleep(ms(1))?;
            }
            fails.add();
            Err("takes its supervisor down".into())
        })
        .unwrap();
    app.add("fragile", fragile).unwrap();
    let id = app.add("sub", sub).unwrap();
    app.start().unwrap();
    for _ in 0..60 {
        all.iter().for_each(|one| one.flaky.runs_on());
        app.restart_service(id).unwrap();
    }
    bad.reach(10);
    all.iter().for_each(|one| one.flaky.runs_on());
    assert!(app.stop().is_empty());
    all.iter().for_each(Numbered::ran_in_order);
    beside.ran_in_order();
    let report = app.report();
    for own in report.find("app.sub").unwrap().services() {
        assert_eq!(u64::from(own.starts()), own.incarnation(), "in {report}");
    }
}
