//! Waits that end in time, whatever else happens meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstay::{Context, ErrorKind, Key, Restart, ServiceId, ServiceResult, Spec, Supervisor};
use crossbeam_channel::bounded;

use crate::common::{ms, obedient, secs, take, timed, unlimited};

/// How often a wait is tried that comes too late only now and then.
const WAITS: usize = 40;

/// Fails so often that something has changed whenever somebody looks.
fn flaky(_: &Context) -> ServiceResult {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(20) {
        std::hint::spin_loop();
    }
    Err("again".into())
}

/// How long the longest of some waits takes.
fn worst(wait: impl Fn()) -> Duration {
    let times = (0..WAITS).map(|_| timed(&wait).1);
    times.max().unwrap_or_default()
}

#[test]
fn wait_service_ends_in_time_while_the_service_changes_all_the_time() {
    let app = unlimited("app");
    let id = app.add("flaky", flaky).unwrap();
    app.start().unwrap();
    let worst = worst(|| {
        let refused = app.wait_service(id, ms(5)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Timeout);
    });
    app.stop();
    assert!(worst < ms(200), "{worst:?}");
}

/// Every call announces something before the start, and never what is waited for.
#[test]
fn wait_ready_and_get_end_in_time_while_others_change_all_the_time() {
    const CALLERS: usize = 3;
    let app = unlimited("app");
    let key = Key::<u32>::new("answer");
    let provides = Spec::new("provides", obedient()).provides(&key);
    let id = app.add_spec(provides).unwrap();
    let (begun, over) = (Instant::now(), AtomicBool::new(false));
    let (ready, value) = std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && begun.elapsed() < secs(5) {
                    app.start_service(id).unwrap();
                }
            });
        }
        let ready = timed(|| app.wait_ready(ms(5)).map_err(|e| e.to_string()));
        let value = timed(|| app.get(&key, ms(5)).map_err(|e| e.kind()));
        over.store(true, Ordering::Relaxed);
        (ready, value)
    });
    assert!(ready.0.is_err());
    assert_eq!(value.0, Err(ErrorKind::Timeout));
    let worst = ready.1.max(value.1);
    assert!(worst < ms(500), "{worst:?}");
}

/// What a service holds that asks its supervisor for something as it is dropped.
struct Asks {
    supervisor: Supervisor,
    what: ServiceId,
    answers: Arc<Mutex<Vec<ErrorKind>>>,
}

impl Drop for Asks {
    fn drop(&mut self) {
        let refused = [
            self.supervisor.remove(self.what).err(),
            self.supervisor.restart_service(self.what).err(),
            self.supervisor.add("late", obedient()).err(),
        ];
        let kinds = refused.iter().flatten().map(backstay::Error::kind);
        self.answers.lock().unwrap().extend(kinds);
    }
}

#[test]
fn calls_from_a_drop_at_the_end_of_the_tree_are_answered() {
    let app = Supervisor::new("app");
    let answers = Arc::new(Mutex::new(Vec::new()));
    let what = app.add("other", obedient()).unwrap();
    // A handle that doesn't keep the tree alive.
    let (give, handle) = bounded(1);
    let gives = move |ctx: &Context| {
        give.send(ctx.supervisor().clone())?;
        Ok(())
    };
    app.add_spec(Spec::new("gives", gives).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    let asks = Asks {
        supervisor: take(&handle),
        what,
        answers: answers.clone(),
    };
    let rests = move |_: &Context| {
        let _held = &asks;
        Ok(())
    };
    let id = app
        .add_spec(Spec::new("rests", rests).restart(Restart::OnFailure))
        .unwrap();
    app.wait_service(id, secs(30)).unwrap();
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < secs(5), "{took:?}");
    assert_eq!(*answers.lock().unwrap(), [ErrorKind::Stopping; 3]);
}
