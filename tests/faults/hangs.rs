//! User code that does not return: the others are stopped, the one is named, nobody waits for ever.

use backstay::{
    Context, ErrorKind, Limit, STOP_THREADS_MAX, Service, ServiceResult, Spec, State, Supervisor,
};

use crate::common::process::leaves_nothing;
use crate::common::watch::hooked;
use crate::common::{
    Gate, Recorder, Tally, add_running, add_running_as, ending, fails, hung, ms, obedient, secs,
    timed, unlimited, wait_state,
};

const ROUNDS: u32 = 8;

#[test]
fn service_that_never_returns() {
    leaves_nothing("hangs::service_that_never_returns", ROUNDS, || {
        let app = unlimited("app");
        let (release, ends) = (Gate::new(), Tally::new());
        app.start().unwrap();
        add_running(&app, "before", obedient());
        let service = ending(&ends, hung(&release));
        add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(20)));
        add_running(&app, "after", obedient());

        let (report, took) = timed(|| app.stop());
        assert!((ms(20)..secs(5)).contains(&took), "{took:?}");
        let [hanging] = report.unstopped() else {
            panic!("{report}")
        };
        assert_eq!(hanging.path(), "app.a");
        assert_eq!(report.exit_code(), 3);
        assert_eq!(
            app.report().find("app.a").unwrap().state(),
            State::Abandoned
        );
        release.open();
        ends.reach(1);
    });
}

/// A restart on demand has to wait for the old incarnation, however long.
#[test]
fn service_that_never_returns_is_not_run_twice() {
    leaves_nothing(
        "hangs::service_that_never_returns_is_not_run_twice",
        ROUNDS,
        || {
            let app = unlimited("app");
            let mut events = Recorder::of(&app);
            let release = Gate::new();
            app.start().unwrap();
            let service = hung_once(&release);
            let id = add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(200)));
            app.restart_service(id).unwrap();
            events.wait("app.a", "abandoned");
            wait_state(&app, "app.a", State::Abandoned);
            assert_eq!(events.count("app.a", "started"), 1);
            release.open();
            events.wait("app.a", "ended late");
            events.wait_nth("app.a", "started", 2);
            assert!(app.stop().is_empty());
        },
    );
}

/// A removal isn't over before an old thread that the service has overlapped has ended.
#[test]
fn removed_while_an_overlapped_thread_hangs() {
    leaves_nothing(
        "hangs::removed_while_an_overlapped_thread_hangs",
        ROUNDS,
        || {
            let app = Supervisor::builder("app").max_services(1).build().unwrap();
            let mut events = Recorder::of(&app);
            let release = Gate::new();
            app.start().unwrap();
            let service = hung_once(&release);
            let id = add_running_as(&app, "a", service, |spec| {
                spec.stop_timeout(ms(200)).allow_overlap(1)
            });
            app.restart_service(id).unwrap();
            events.wait_nth("app.a", "started", 2);

            let kept = app.remove_and_wait(id, ms(100)).unwrap_err();
            assert_eq!(kept.kind(), ErrorKind::Timeout, "{kept}");
            events.wait("app.a", "stopped");
            wait_state(&app, "app.a", State::Abandoned);
            let full = app.add("b", obedient()).unwrap_err();
            assert_eq!(full.kind(), ErrorKind::Full, "{full}");
            release.open();
            app.remove_and_wait(id, secs(10)).unwrap();
            assert_eq!(events.wait("app.a", "ended late").incarnation(), 1);
            events.wait("app.a", "removed");
            assert_eq!(events.count("app.a", "ended late"), 1);
            app.add("a", obedient()).unwrap();
            assert!(app.stop().is_empty());
        },
    );
}

/// Ignores the stop of its first incarnation.
fn hung_once(release: &Gate) -> impl Service + use<> {
    let release = release.clone();
    move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            release.wait();
        }
        ctx.wait_stop();
        Ok(())
    }
}

struct StuckHook {
    release: Gate,
}

impl Service for StuckHook {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }

    fn interrupt(&self) {
        self.release.wait();
    }
}

/// An incarnation has ended when its hook has returned, too.
#[test]
fn stop_hook_that_never_returns() {
    leaves_nothing("hangs::stop_hook_that_never_returns", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let release = Gate::new();
        let service = StuckHook {
            release: release.clone(),
        };
        app.start().unwrap();
        let id = add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(20)));
        add_running(&app, "b", obedient());

        app.restart_service(id).unwrap();
        events.wait("app.a", "abandoned");
        assert_eq!(events.count("app.a", "started"), 1);
        let (report, took) = timed(|| app.stop());
        assert!(took < secs(5), "{took:?}");
        assert_eq!(report.unstopped().len(), 1, "{report}");
        assert_eq!(report.unstopped()[0].path(), "app.a");
        release.open();
    });
}

/// More of them than there are stop threads: the others get their stop signal and, when those have been
/// given up, their hooks.
#[test]
fn stop_hooks_that_never_return_leave_room_for_others() {
    const OTHERS: usize = 6;
    leaves_nothing(
        "hangs::stop_hooks_that_never_return_leave_room_for_others",
        ROUNDS,
        || {
            let app = Supervisor::builder("app")
                .limit(Limit::none())
                .service_stop_timeout(secs(1))
                .build()
                .unwrap();
            let mut events = Recorder::of(&app);
            let (release, calls, ends) = (Gate::new(), Tally::new(), Tally::new());
            app.start().unwrap();
            let stuck: Vec<_> = (0..STOP_THREADS_MAX)
                .map(|n| {
                    let release = release.clone();
                    add_running(&app, &format!("stuck{n}"), StuckHook { release })
                })
                .collect();
            let others: Vec<_> = (0..OTHERS)
                .map(|n| {
                    let service = ending(&ends, hooked(&calls));
                    // Given up before the others are.
                    let with = |spec: Spec| spec.stop_timeout(ms(50));
                    add_running_as(&app, &format!("s{n}"), service, with)
                })
                .collect();
            for id in stuck.iter().chain(&others) {
                app.stop_service(*id).unwrap();
            }
            // Their runs end by the signal, before anybody is given up.
            ends.reach(OTHERS as u64);
            for n in 0..OTHERS {
                let path = format!("app.s{n}");
                let told = events.wait(&path, "log");
                assert!(told.to_string().contains("stop hook"), "{told}");
                events.wait(&path, "ended late");
                assert_eq!(events.count(&path, "log"), 1);
                wait_state(&app, &path, State::Stopped);
            }
            assert_eq!(calls.get(), OTHERS as u64);
            release.open();
            // Every one of them: who is abandoned at the stop is in its report.
            for n in 0..STOP_THREADS_MAX {
                wait_state(&app, &format!("app.stuck{n}"), State::Stopped);
            }
            assert!(app.stop().is_empty());
        },
    );
}

#[test]
fn on_stop_closure_that_never_returns() {
    leaves_nothing("hangs::on_stop_closure_that_never_returns", ROUNDS, || {
        let app = unlimited("app");
        let release = Gate::new();
        let wait = release.clone();
        let service = move |ctx: &Context| {
            let (wait, called) = (wait.clone(), Gate::new());
            let begun = called.clone();
            let _guard = ctx.on_stop(move || {
                begun.open();
                wait.wait();
            });
            // Returning before that would withdraw the closure.
            called.wait();
            Ok(())
        };
        app.start().unwrap();
        add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(20)));
        add_running(&app, "b", obedient());

        let (report, took) = timed(|| app.stop());
        assert!(took < secs(5), "{took:?}");
        let [hanging] = report.unstopped() else {
            panic!("{report}")
        };
        assert_eq!(hanging.path(), "app.a");
        release.open();
    });
}

/// The tree goes on without its observer and stops in time; what was lost is counted elsewhere.
#[test]
fn observer_that_blocks_for_ever() {
    const FAILURES: u64 = 50;
    leaves_nothing("hangs::observer_that_blocks_for_ever", ROUNDS, || {
        let release = Gate::new();
        let wait = release.clone();
        let app = Supervisor::builder("app")
            .limit(Limit::none())
            .on_event(move |_| wait.wait())
            .build()
            .unwrap();
        let mut events = Recorder::of(&app);
        app.add("a", fails(FAILURES, "again")).unwrap();
        app.start().unwrap();
        events.wait_nth("app.a", "started", FAILURES as usize + 1);
        let id = add_running(&app, "b", obedient());
        app.remove_and_wait(id, secs(30)).unwrap();
        let (report, took) = timed(|| app.stop());
        assert!(report.is_empty(), "{report}");
        assert!(took < secs(5), "{took:?}");
        release.open();
    });
}

/// A subscription that nobody reads loses events and says how many.
#[test]
fn subscription_that_nobody_reads() {
    leaves_nothing("hangs::subscription_that_nobody_reads", ROUNDS, || {
        let app = unlimited("app");
        let unread = app.subscribe(2);
        let mut events = Recorder::of(&app);
        app.add("a", fails(20, "again")).unwrap();
        app.start().unwrap();
        events.wait_nth("app.a", "started", 21);
        assert!(app.stop().is_empty());
        let seen = events.all().len() as u64;
        assert_eq!(unread.dropped(), seen - 2);
        assert_eq!(std::iter::from_fn(|| unread.try_recv()).count(), 2);
    });
}

/// The deadline covers the drop of the value, too.
#[test]
fn drop_of_a_service_value_that_never_returns() {
    struct StuckDrop(Gate);
    impl Service for StuckDrop {
        fn run(&self, ctx: &Context) -> ServiceResult {
            ctx.wait_stop();
            Ok(())
        }
    }
    impl Drop for StuckDrop {
        fn drop(&mut self) {
            self.0.wait();
        }
    }
    leaves_nothing(
        "hangs::drop_of_a_service_value_that_never_returns",
        ROUNDS,
        || {
            let app = unlimited("app");
            let mut events = Recorder::of(&app);
            let release = Gate::new();
            let service = StuckDrop(release.clone());
            app.start().unwrap();
            let id = add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(20)));
            let kind = app.remove_and_wait(id, ms(100)).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::Timeout);
            events.wait("app.a", "abandoned");
            add_running(&app, "b", obedient());
            let (_, took) = timed(|| app.stop());
            assert!(took < secs(5), "{took:?}");
            release.open();
        },
    );
}
