//! The values of users, and memory.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use backstay::{BoxError, Context, ServiceResult};

#[cfg(target_os = "linux")]
use crate::common::process::{in_own_process, mapped_bytes};
use crate::common::{PATIENCE, Tally, unlimited, wait_for};

/// An error that knows how many like it there are.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>, threads: &Arc<Mutex<Vec<String>>>) -> Counted {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(alive.clone(), threads.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        let name = thread::current().name().unwrap_or("").to_owned();
        let mut names = self.1.lock().unwrap();
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("counted")
    }
}

impl std::error::Error for Counted {}

#[test]
fn errors_of_users_neither_pile_up_nor_are_dropped_by_the_supervisor() {
    let app = unlimited("app");
    let (alive, threads) = (Arc::new(AtomicUsize::new(0)), Arc::default());
    let most = Arc::new(AtomicUsize::new(0));
    let runs = Tally::new();
    let (a, t, m, r) = (
        alive.clone(),
        Arc::clone(&threads),
        most.clone(),
        runs.clone(),
    );
    let service = move |ctx: &Context| -> ServiceResult {
        r.add();
        m.fetch_max(a.load(Ordering::SeqCst), Ordering::SeqCst);
        // Now and then it tells something, which the supervisor looks up its failures for.
        if ctx.incarnation() % 20 == 0 {
            ctx.ready();
        }
        if ctx.incarnation() < 20_000 {
            return Err(Box::new(Counted::new(&a, &t)) as BoxError);
        }
        ctx.wait_stop();
        Ok(())
    };
    let id = app.add("flaky", service).unwrap();
    app.start().unwrap();
    runs.reach(20_000);
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert!(app.stop().is_empty());
    drop(app);
    wait_for("all errors are dropped", || {
        alive.load(Ordering::SeqCst) == 0
    });
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 10, "{most} errors were alive");
    assert!(!threads.lock().unwrap().contains(&"app".to_owned()));
}

#[test]
fn a_hundred_thousand_restarts_leave_nothing_behind() {
    in_own_process(
        "values::a_hundred_thousand_restarts_leave_nothing_behind",
        || {
            let app = unlimited("app");
            let [quiet, tells] = [false, true].map(|tells| {
                let runs = Arc::new(AtomicU64::new(0));
                let counted = runs.clone();
                let service = move |ctx: &Context| -> ServiceResult {
                    counted.fetch_add(1, Ordering::SeqCst);
                    if tells {
                        ctx.ready();
                    }
                    ctx.set_status("runs");
                    let _hook = ctx.on_stop(|| {});
                    Err("fails, and says it with a text of some length".into())
                };
                app.add(format!("tells_{tells}"), service).unwrap();
                runs
            });
            let _unread = app.subscribe(100);
            app.start().unwrap();
            let reach = |thousands: u64| {
                for n in 1..=thousands {
                    wait_for("they fail on", || {
                        let (quiet, tells) =
                            [&quiet, &tells].map(|n| n.load(Ordering::SeqCst)).into();
                        quiet >= 1000 * n && tells >= 10 * n
                    });
                }
            };
            reach(10);
            let before = mapped_bytes();
            reach(110);
            let grown = mapped_bytes().saturating_sub(before);
            // Forty bytes for each would be more.
            assert!(grown <= 4 << 20, "grown by {grown} bytes");
            assert!(app.stop().is_empty());
        },
    );
}
