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
    assert!(worst < ms(100), "{worst:?}");
}

/// Something is announced all the time, and never what is waited for.
#[test]
fn wait_ready_and_get_end_in_time_while_others_change_all_the_time() {
    let app = unlimited("app");
    let key = Key::<u32>::new("answer");
    let never = Spec::new("never", obedient()).provides(&key);
    app.add_spec(never.ready_timeout(secs(3_600))).unwrap();
    app.start().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (churn, done) = (app.clone(), over.clone());
    let churns = std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            let id = churn.add("x", obedient()).unwrap();
            churn.remove_and_wait(id, secs(30)).unwrap();
        }
    });
    let worst = worst(|| {
        assert!(app.wait_ready(ms(5)).is_err());
        let refused = app.get(&key, ms(5)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Timeout);
    });
    over.store(true, Ordering::Relaxed);
    churns.join().unwrap();
    app.stop();
    assert!(worst < ms(200), "{worst:?}");
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
