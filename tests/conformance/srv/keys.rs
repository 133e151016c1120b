//! Toolkit handles by key.

use std::sync::Arc;

use backstay::services::{Cleanup, Queue, WorkerPool};
use backstay::{Context, Key, Service, Spec, State};

use crate::common::{PATIENCE, Tally, unlimited, wait_for, wait_state};

const SMALL: Key<WorkerPool> = Key::new("small");
const BIG: Key<WorkerPool> = Key::new("big");
const CLEANUP: Key<Cleanup> = Key::new("cleanup");
const NOBODYS: Key<u32> = Key::new("nobodys");

fn pool(workers: usize) -> WorkerPool {
    let queue = Queue::new(1000).unwrap();
    WorkerPool::builder(workers).queue(queue).build().unwrap()
}

/// Provides a handle, then runs it.
fn provider<S: Service + Clone>(name: &str, key: Key<S>, service: S) -> Spec {
    Spec::new(name, move |ctx: &Context| {
        ctx.provide(&key, service.clone())?;
        service.run(ctx)
    })
    .provides(&key)
}

#[test]
fn named_pools_and_cleanup_are_reached_by_key() {
    let app = unlimited("app");
    let (small, big) = (Tally::new(), Tally::new());
    let cleaned = Tally::new();
    let user = {
        let (small, big, cleaned) = (small.clone(), big.clone(), cleaned.clone());
        move |ctx: &Context| {
            for (key, jobs) in [(SMALL, &small), (BIG, &big)] {
                let pool: Arc<WorkerPool> = ctx.get(&key)?;
                for _ in 0..10 {
                    let (jobs, prefix) = (jobs.clone(), format!("app.{key}"));
                    pool.push(move |ctx: &Context| {
                        // By that very pool.
                        if ctx.path().starts_with(&prefix) {
                            jobs.add();
                        }
                        Ok(())
                    })?;
                }
            }
            let cleaned = cleaned.clone();
            ctx.get(&CLEANUP)?.push(move || {
                cleaned.add();
                Ok(())
            })?;
            ctx.wait_stop();
            Ok(())
        }
    };
    let needs_all = |spec: Spec| spec.needs(&SMALL).needs(&BIG).needs(&CLEANUP);
    app.add_all([
        provider("cleanup", CLEANUP, Cleanup::new()),
        provider("small", SMALL, pool(1)),
        provider("big", BIG, pool(4)),
        needs_all(Spec::new("user", user)),
    ])
    .unwrap();
    let more = Spec::new("more", |ctx: &Context| {
        ctx.wait_stop();
        Ok(())
    });
    app.add_spec(needs_all(more).needs(&NOBODYS)).unwrap();
    app.start().unwrap();
    small.reach(10);
    big.reach(10);
    wait_state(&app, "app.more", State::Waiting);
    wait_for("the report names the key", || {
        let report = app.report();
        let more = report.find("app.more").unwrap();
        more.waiting_for()
            .is_some_and(|why| why.contains("nobodys"))
    });
    assert!(
        app.wait_ready(PATIENCE / 300)
            .unwrap_err()
            .to_string()
            .contains("nobodys")
    );
    assert_eq!(cleaned.get(), 0);
    assert!(app.stop().is_empty());
    assert_eq!((small.get(), big.get(), cleaned.get()), (10, 10, 1));
}
