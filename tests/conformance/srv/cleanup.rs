//! `Cleanup`: what was taken runs once, at the stop. And `Interruptible`.

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstay::services::{CLEANUP_TASKS_MAX, Cleanup, Interruptible, PushError};
use backstay::{
    BoxError, Context, ErrorKind, Errors, Failure, Restart, Spec, State, Strategy, Supervisor,
};
use crossbeam_channel::{bounded, unbounded};

use crate::common::watch::{Crowd, SOON, entry, quiet};
use crate::common::{
    Gate, PATIENCE, Recorder, Tally, add_running, answer, ending, ms, obedient, pass, take, timed,
    unlimited, wait_for, wait_state,
};

/// What ran, in order.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<usize>>>);

impl Order {
    fn push(&self, n: usize) {
        self.0.lock().unwrap().push(n);
    }

    fn all(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Pushes tasks of these numbers.
    fn tasks(&self, cleanup: &Cleanup, numbers: impl IntoIterator<Item = usize>) {
        for n in numbers {
            let order = self.clone();
            let task = move || {
                order.push(n);
                Ok(())
            };
            cleanup.push(task).unwrap();
        }
    }
}

/// A running tree of it alone.
fn running(cleanup: &Cleanup) -> (Supervisor, Recorder) {
    let app = quiet("app").build().unwrap();
    let events = Recorder::of(&app);
    app.start().unwrap();
    add_running(&app, "cleanup", cleanup.clone());
    (app, events)
}

/// Its answer to the stop, as text.
#[track_caller]
fn answered(events: &mut Recorder) -> Failure {
    answer(&events.wait("app.cleanup", "stopped")).expect("an answer")
}

fn texts(failure: &Failure) -> Vec<String> {
    let error = failure.error().unwrap();
    match error.downcast_ref::<Errors>() {
        Some(errors) => errors.iter().map(ToString::to_string).collect(),
        None => vec![error.to_string()],
    }
}

#[test]
fn cleanup_runs_last_in_first_out_at_the_stop() {
    let cleanup = Cleanup::new();
    let (app, mut events) = running(&cleanup);
    let order = Order::default();
    order.tasks(&cleanup, 1..=100);
    pass(ms(100));
    assert_eq!(order.len(), 0);
    assert!(app.stop().is_empty());
    assert_eq!(order.all(), (1..=100).rev().collect::<Vec<_>>());
    assert!(answer(&events.wait("app.cleanup", "stopped")).is_none());
}

#[test]
fn cleanup_parallel_with_a_task_timeout() {
    let cleanup = Cleanup::new().parallel(10).task_timeout(ms(300));
    let (app, mut events) = running(&cleanup);
    let (order, release, crowd) = (Order::default(), Gate::new(), Crowd::new());
    let begun = Tally::new();
    for n in 1..=10 {
        let (order, release, crowd) = (order.clone(), release.clone(), crowd.clone());
        let begun = begun.clone();
        let task = move || {
            let _inside = crowd.enter();
            begun.add();
            if n == 4 {
                release.wait();
            } else {
                // All ten run at the same time.
                begun.reach(10);
                pass(ms(100));
            }
            order.push(n);
            Ok(())
        };
        cleanup.push(task).unwrap();
    }
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty());
    assert!(took >= ms(300) && took < SOON, "{took:?}");
    assert_eq!((order.len(), crowd.most()), (9, 10));
    let failure = answered(&mut events);
    assert_eq!(failure.message(), "task 4 of 10 was given up after 300ms");
    // Its thread goes on, and what it does in the end disturbs nobody.
    release.open();
    wait_for("the late task", || order.len() == 10);
}

#[test]
fn cleanup_goes_on_after_errors_and_panics() {
    let cleanup = Cleanup::new();
    let (app, mut events) = running(&cleanup);
    let order = Order::default();
    order.tasks(&cleanup, [1]);
    let ran = order.clone();
    cleanup
        .push(move || {
            ran.push(2);
            Err("e".into())
        })
        .unwrap();
    let ran = order.clone();
    cleanup
        .push(move || {
            ran.push(3);
            panic!("p")
        })
        .unwrap();
    assert!(app.stop().is_empty());
    assert_eq!(order.all(), [3, 2, 1]);
    let failure = answered(&mut events);
    let members = texts(&failure);
    assert!(members[0].contains('p') && members[1] == "e", "{members:?}");
    assert_eq!(members.len(), 2);
    // The panic is one of this service's.
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    let panic = errors.iter().next().unwrap();
    let panic = panic.downcast_ref::<Failure>().unwrap();
    assert_eq!((panic.path(), panic.message()), ("app.cleanup", "p"));
    assert!(panic.location().unwrap().contains("cleanup.rs"));
}

#[test]
fn cleanup_refuses_tasks_once_it_runs() {
    let cleanup = Cleanup::new();
    let (app, _events) = running(&cleanup);
    let (tell, told) = bounded(3);
    let late = Tally::new();
    let (handle, ran) = (cleanup.clone(), late.clone());
    let task = move || {
        let ran = move || {
            ran.add();
            Ok(())
        };
        tell.send(handle.push(ran.clone()))?;
        tell.send(handle.push_error("late"))?;
        // It can be had back.
        match handle.try_push(ran) {
            Err(PushError::Draining(task)) => task(),
            other => panic!("{other:?}"),
        }
    };
    cleanup.push(task).unwrap();
    assert!(app.stop().is_empty());
    for _ in 0..2 {
        let refused = take(&told).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Stopping, "{refused}");
    }
    assert_eq!(late.get(), 1);
    // Ended for good.
    assert_eq!(cleanup.push(|| Ok(())).unwrap_err().kind(), ErrorKind::Gone);
    assert!(matches!(
        cleanup.try_push(|| Ok(())),
        Err(PushError::Closed(_))
    ));
    drop((app, cleanup));
    assert_eq!(late.get(), 1);
}

#[test]
fn cleanup_reports_handed_in_errors() {
    let cleanup = Cleanup::new();
    let (app, mut events) = running(&cleanup);
    cleanup.push_error("kept").unwrap();
    assert!(app.stop().is_empty());
    assert_eq!(answered(&mut events).message(), "kept");

    // They come before those of the tasks.
    let cleanup = Cleanup::new();
    let (app, mut events) = running(&cleanup);
    cleanup.push(|| Err("first task".into())).unwrap();
    cleanup.push_error("one").unwrap();
    cleanup.push(|| Err("second task".into())).unwrap();
    cleanup.push_error("two").unwrap();
    assert!(app.stop().is_empty());
    let told = texts(&answered(&mut events));
    assert_eq!(told, ["one", "two", "second task", "first task"]);
}

#[test]
fn cleanup_added_first_runs_after_everybody_else() {
    let app = unlimited("app");
    let (cleanup, ends) = (Cleanup::new(), Tally::new());
    let (tell, told) = unbounded();
    app.start().unwrap();
    add_running(&app, "cleanup", cleanup.clone());
    for name in ["a", "b"] {
        let slow = |ctx: &Context| {
            ctx.wait_stop();
            pass(ms(30));
            Ok(())
        };
        add_running(&app, name, ending(&ends, slow));
        let (tell, ends) = (tell.clone(), ends.clone());
        cleanup.push(move || Ok(tell.send(ends.get())?)).unwrap();
    }
    assert!(app.stop().is_empty());
    assert_eq!((take(&told), take(&told)), (2, 2));
}

#[test]
fn cleanup_without_a_limit_waits() {
    let cleanup = Cleanup::new().task_timeout(Duration::MAX);
    let (app, mut events) = running(&cleanup);
    let done = Tally::new();
    let end = done.clone();
    cleanup
        .push(move || {
            pass(ms(500));
            end.add();
            Ok(())
        })
        .unwrap();
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took >= ms(500), "{took:?}");
    assert_eq!(done.get(), 1);
    assert!(answer(&events.wait("app.cleanup", "stopped")).is_none());

    let cleanup = Cleanup::new().task_timeout(Duration::ZERO);
    let (app, mut events) = running(&cleanup);
    let end = done.clone();
    let release = Gate::new();
    let wait = release.clone();
    cleanup
        .push(move || {
            wait.wait();
            end.add();
            Ok(())
        })
        .unwrap();
    assert!(app.stop().is_empty());
    assert_eq!(done.get(), 1);
    let told = answered(&mut events);
    assert!(
        told.message().starts_with("task 1 of 1 was given up"),
        "{told}"
    );
    release.open();
    done.reach(2);
}

#[test]
fn cleanup_goes_on_after_a_task_that_hangs() {
    let cleanup = Cleanup::new().task_timeout(ms(50));
    let (app, mut events) = running(&cleanup);
    let (order, release) = (Order::default(), Gate::new());
    order.tasks(&cleanup, 1..=2);
    let wait = release.clone();
    cleanup
        .push(move || {
            wait.wait();
            // Nobody hears of it, and its thread takes no further task.
            Err("too late".into())
        })
        .unwrap();
    order.tasks(&cleanup, 4..=5);
    assert!(app.stop().is_empty());
    assert_eq!(order.all(), [5, 4, 2, 1]);
    let told = answered(&mut events);
    assert_eq!(told.message(), "task 3 of 5 was given up after 50ms");
    release.open();
}

#[test]
fn cleanup_bounds_the_threads_that_hang() {
    const TASKS: usize = 40;
    let cleanup = Cleanup::new().task_timeout(ms(1));
    let app = quiet("app").build().unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    add_running(&app, "cleanup", cleanup.clone());
    let (crowd, release) = (Crowd::new(), Gate::new());
    for _ in 0..TASKS {
        let (crowd, release) = (crowd.clone(), release.clone());
        cleanup
            .push(move || {
                let _inside = crowd.enter();
                release.wait();
                Ok(())
            })
            .unwrap();
    }
    let most = backstay::services::CLEANUP_GIVEN_UP_MAX as u64 + 1;
    app.request_stop();
    // The last of them is on the service's own thread, which has run out of others.
    wait_for("all threads hang", || crowd.now() == most);
    assert!(app.wait_timeout(ms(50)).is_none());
    assert_eq!(crowd.most(), most);
    release.open();
    app.wait().unwrap();
    assert!(app.stop().is_empty());
    let told = answered(&mut events);
    assert!(told.message().contains("no thread for more"), "{told}");
    wait_for("all have ended", || crowd.now() == 0);
}

#[test]
fn cleanup_takes_tasks_again_after_a_restart() {
    let app = quiet("app").strategy(Strategy::OneForAll).build().unwrap();
    let cleanup = Cleanup::new();
    let (order, go) = (Order::default(), Tally::new());
    app.start().unwrap();
    add_running(&app, "cleanup", cleanup.clone());
    let (handle, ran, begun) = (cleanup.clone(), order.clone(), go.clone());
    // Pushes what its incarnation needs, at once; the first one fails.
    app.add("a", move |ctx: &Context| {
        let (ran, n) = (ran.clone(), ctx.incarnation() as usize);
        handle.push(move || {
            ran.push(n);
            Ok(())
        })?;
        begun.add();
        if n == 1 {
            return Err("once".into());
        }
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    go.reach(2);
    // The stop for the restart has done what was there.
    assert_eq!(order.all(), [1]);
    assert!(app.stop().is_empty());
    assert_eq!(order.all(), [1, 2]);
    assert_eq!(entry(&app, "app.a").failures(), 1);
}

#[test]
fn cleanup_taken_task_is_not_lost_without_a_run() {
    // Stopped before the start.
    let (app, cleanup, order) = (unlimited("app"), Cleanup::new(), Order::default());
    order.tasks(&cleanup, 1..=3);
    app.add("cleanup", cleanup.clone()).unwrap();
    assert!(app.stop().is_empty());
    assert_eq!(order.all(), [3, 2, 1]);
    assert_eq!(cleanup.push(|| Ok(())).unwrap_err().kind(), ErrorKind::Gone);

    // Stopped right after the start, entered or not.
    for _ in 0..100 {
        let (app, cleanup, order) = (unlimited("app"), Cleanup::new(), Order::default());
        order.tasks(&cleanup, 1..=3);
        app.add("cleanup", cleanup.clone()).unwrap();
        app.start().unwrap();
        assert!(app.stop().is_empty());
        assert_eq!(order.all(), [3, 2, 1]);
    }

    // Pushed between two incarnations that never became two.
    let (app, cleanup, order) = (unlimited("app"), Cleanup::new(), Order::default());
    app.start().unwrap();
    let id = add_running(&app, "cleanup", cleanup.clone());
    app.stop_service(id).unwrap();
    wait_state(&app, "app.cleanup", State::Stopped);
    let refused = cleanup.push(|| Ok(())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Gone);
    app.start_service(id).unwrap();
    wait_for("it takes tasks again", || cleanup.push(|| Ok(())).is_ok());
    order.tasks(&cleanup, [1]);
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert_eq!(order.all(), [1]);
    assert!(app.stop().is_empty());
}

#[test]
fn cleanup_never_added_drops_its_tasks() {
    let (cleanup, order, held) = (Cleanup::new(), Order::default(), Arc::new(()));
    let gone = Arc::downgrade(&held);
    let ran = order.clone();
    cleanup
        .push(move || {
            drop(held);
            ran.push(1);
            Ok(())
        })
        .unwrap();
    drop(cleanup);
    assert_eq!((gone.strong_count(), order.len()), (0, 0));
}

#[test]
fn cleanup_full_gives_the_task_back() {
    let cleanup = Cleanup::new();
    for _ in 0..CLEANUP_TASKS_MAX {
        cleanup.push_error("one of many").unwrap();
    }
    let refused = cleanup.push(|| Ok(())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    assert!(refused.to_string().contains("100000"), "{refused}");
    let back = cleanup.try_push(|| Err("mine".into())).unwrap_err();
    let told: BoxError = back.into_inner()().unwrap_err();
    assert_eq!(told.to_string(), "mine");
}

#[test]
fn cleanup_without_threads_is_refused_by_name() {
    let (app, cleanup, order) = (unlimited("app"), Cleanup::new(), Order::default());
    order.tasks(&cleanup, [1]);
    app.add("cleanup", cleanup.clone().parallel(0)).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.cleanup", State::Done);
    let report = entry(&app, "app.cleanup");
    let told = report.last_failure().unwrap().to_string();
    assert!(told.contains("parallel"), "{told}");
    assert_eq!(report.failures(), 0);
    assert!(app.stop().is_empty());
    // Its task is done all the same.
    assert_eq!(order.all(), [1]);
}

#[test]
fn cleanup_task_may_ask_for_the_stop_it_is_part_of() {
    let cleanup = Cleanup::new();
    let (app, mut events) = running(&cleanup);
    let root = app.clone();
    let (tell, told) = bounded(1);
    cleanup
        .push(move || Ok(tell.send(root.stop().only_requested())?))
        .unwrap();
    assert!(app.stop().is_empty());
    assert!(take(&told));
    assert!(answer(&events.wait("app.cleanup", "stopped")).is_none());
}

#[test]
fn interruptible_unblocks_its_call_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (calls, clients) = (Tally::new(), Tally::new());
    let (called, accepted) = (calls.clone(), clients.clone());
    let service = Interruptible::new(
        move |ctx: &Context| {
            while !ctx.is_stopping() {
                let _client = listener.accept()?;
                accepted.add();
            }
            Ok(())
        },
        move || {
            called.add();
            TcpStream::connect(addr).unwrap();
        },
    );
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    add_running(&app, "a", service);
    let _client = TcpStream::connect(addr).unwrap();
    clients.reach(1);
    let begun = Instant::now();
    assert!(app.stop().is_empty());
    assert!(begun.elapsed() < SOON);
    assert_eq!(calls.get(), 1);
    assert!(answer(&events.wait("app.a", "stopped")).is_none());

    // One that ends by itself is not interrupted, neither then nor at the stop.
    let app = unlimited("app");
    let calls = Tally::new();
    let called = calls.clone();
    let service = Interruptible::new(|_: &Context| Ok(()), move || called.add());
    app.add_spec(Spec::new("a", service).restart(Restart::OnFailure))
        .unwrap();
    app.add("b", obedient()).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::Done);
    assert!(app.stop().is_empty());
    assert_eq!(calls.get(), 0);
}
