//! The workloads on backstay: each service on a thread.

use std::sync::Arc;
use std::time::Duration;

use backstay::crossbeam_channel::{bounded, select};
use backstay::{Context, Limit, ServiceResult, Spec, Supervisor};
use peers::{BELOW_EACH, Crowd, Flaky, Gate, How, LEVELS, Muster, Pairs, Workload};

const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    match Workload::from_args() {
        Workload::W1 { panics } => flaky(How::Panic, panics),
        Workload::W1e { errors } => flaky(How::Error, errors),
        Workload::W2 { services, panics } => crowd(services, panics),
        Workload::W3 { services } => peers::time_services(
            services,
            || start_idle(services),
            |supervisor| assert!(supervisor.stop().is_empty()),
        ),
        Workload::W4(pairs) => add_and_remove(pairs),
        Workload::W5 { services } => {
            let _supervisor = start_idle(services);
            peers::stay_idle();
        }
        Workload::W6 => peers::time_tree(start_tree, |tree| assert!(tree.stop().is_empty())),
    }
}

/// Restarts without end and at once, and hands no panic to the hook that prints it. Counted or not: what a
/// limit counts is decided by the supervisor's thread.
fn unlimited() -> Supervisor {
    let limit = match std::env::var_os("BACKSTAY_COUNTED") {
        Some(_) => Limit::decay(f64::MAX, Duration::from_secs(30)),
        None => Limit::none(),
    };
    Supervisor::builder("peers")
        .limit(limit)
        .quiet_panics()
        .build()
        .unwrap()
}

fn flaky(how: How, failures: u64) {
    let supervisor = unlimited();
    let (flaky, runs) = Flaky::new(how);
    let flaky = Arc::new(flaky);
    let (wake, woken) = bounded::<()>(1);
    let shared = flaky.clone();
    let service = move |ctx: &Context| -> ServiceResult {
        loop {
            shared.run()?;
            select! {
                recv(woken) -> _ => {}
                recv(ctx.stop_signal()) -> _ => return Ok(()),
            }
        }
    };
    supervisor.add("flaky", service).unwrap();
    supervisor.start().unwrap();
    flaky.measure(&runs, failures, || wake.send(()).unwrap());
    supervisor.stop();
}

fn crowd(services: u64, panics: u64) {
    let supervisor = unlimited();
    let (crowd, all_done) = Crowd::new(services, panics);
    let (crowd, gate) = (Arc::new(crowd), Arc::new(Gate::default()));
    let specs = (0..services).map(|i| {
        let (crowd, gate, member) = (crowd.clone(), gate.clone(), crowd.member());
        let service = move |ctx: &Context| {
            if member.is_first(&crowd) {
                crowd.at_the_gate.begun();
                gate.wait();
            }
            member.run(&crowd);
            ctx.wait_stop();
            Ok(())
        };
        Spec::new(format!("member{i}"), service)
    });
    supervisor.add_all(specs).unwrap();
    supervisor.start().unwrap();
    crowd.measure(&all_done, || gate.open());
    supervisor.stop();
}

fn idle(ctx: &Context) -> ServiceResult {
    ctx.wait_stop();
    Ok(())
}

fn start_idle(services: usize) -> Supervisor {
    let supervisor = unlimited();
    let muster = Arc::new(Muster::new(services));
    let specs = (0..services).map(|i| {
        let muster = muster.clone();
        let service = move |ctx: &Context| {
            muster.begun();
            idle(ctx)
        };
        Spec::new(format!("idle{i}"), service)
    });
    supervisor.add_all(specs).unwrap();
    supervisor.start().unwrap();
    muster.wait();
    supervisor
}

fn add_and_remove(load: Pairs) {
    let supervisor = unlimited();
    supervisor.start().unwrap();
    load.by_threads(|client, pairs| {
        let pair = || {
            let entry = Arc::new(Muster::new(1));
            let begun = entry.clone();
            let service = move |ctx: &Context| {
                begun.begun();
                idle(ctx)
            };
            let id = supervisor.add(format!("client{client}"), service).unwrap();
            if load.until_it_runs {
                entry.wait();
            }
            supervisor.remove_and_wait(id, PATIENCE).unwrap();
            u64::from(entry.is_complete())
        };
        (0..pairs).map(|_| pair()).sum()
    });
    supervisor.stop();
}

fn start_tree() -> Supervisor {
    let tree = branch("tree", LEVELS);
    tree.start().unwrap();
    tree.wait_ready(PATIENCE).unwrap();
    tree
}

fn branch(name: &str, levels: usize) -> Supervisor {
    let supervisor = Supervisor::new(name);
    if levels > 0 {
        for i in 0..BELOW_EACH {
            let name = format!("s{i}");
            let below = branch(&name, levels - 1);
            supervisor.add(name, below).unwrap();
        }
    }
    supervisor
}
