//! A two-level tree in which one service fails under each strategy. Prints the tree before and
//! after: the incarnations show who restarted with whom.
//!
//! Run with `cargo run --example tree`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::crossbeam_channel::{Receiver, bounded};
use backstay::{Context, Error, EventKind, Limit, ServiceResult, Spec, Strategy, Supervisor};

/// The service that fails in each supervisor, once.
const FAILS: &str = "b";

/// Three services, of which the second fails once, when the gate is open: disconnected.
fn branch(name: &str, strategy: Strategy, gate: &Receiver<()>) -> Result<Supervisor, Error> {
    let branch = Supervisor::builder(name)
        .strategy(strategy)
        .limit(Limit::none())
        .build()?;
    for service in ["a", "b", "c"] {
        let (gate, failed) = (gate.clone(), AtomicBool::new(false));
        branch.add(service, move |ctx: &Context| -> ServiceResult {
            ctx.ready();
            if ctx.name() == FAILS && !failed.swap(true, Ordering::Relaxed) {
                let _ = gate.recv();
                return Err("no disk".into());
            }
            ctx.wait_stop();
            Ok(())
        })?;
    }
    Ok(branch)
}

fn main() -> Result<(), Error> {
    let (keep_shut, gate) = bounded(0);
    let app = Supervisor::new("app");
    for (name, strategy) in [
        ("one_for_one", Strategy::OneForOne),
        ("one_for_all", Strategy::OneForAll),
        ("rest_for_one", Strategy::RestForOne),
    ] {
        app.add_spec(Spec::new(name, branch(name, strategy, &gate)?))?;
    }
    let events = app.subscribe(1000);
    app.start()?;
    app.wait_ready(Duration::from_secs(5))?;
    wait_for_ready(&events, 9);
    println!("before:\n{}\n", app.report());

    drop(keep_shut);
    // Again ready: b; a, b and c; b and c.
    wait_for_ready(&events, 1 + 3 + 2);
    println!("after one failure under each strategy:\n{}\n", app.report());

    let left = app.stop();
    println!("{left}");
    Ok(())
}

fn wait_for_ready(events: &backstay::Events, mut n: usize) {
    while n > 0 {
        let Some(event) = events.recv_timeout(Duration::from_secs(10)) else {
            return;
        };
        match event.kind() {
            EventKind::Ready => n -= 1,
            EventKind::Failed { failure, .. } => println!("{failure}"),
            _ => {}
        }
    }
}
