//! The workloads on what people write today: for each service a thread that spawns a thread with the
//! work, joins it, and spawns the next.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, Builder, JoinHandle};

use peers::{
    BELOW_EACH, Crowd, Failure, Flaky, Gate, How, LEVELS, Muster, Pairs, SUPERVISORS, Workload,
};

/// Two threads for each service: more services than this and the kernel has no memory maps left for
/// the next thread, which aborts the process.
const SERVICES_MAX: usize = 7_500;

fn main() {
    peers::quiet_panics();
    match Workload::from_args() {
        Workload::W1 { panics } => flaky(How::Panic, panics),
        Workload::W1e { errors } => flaky(How::Error, errors),
        Workload::W2 { services, panics } => crowd(services, panics),
        Workload::W3 { services } => {
            let services = services.min(SERVICES_MAX);
            peers::time_services(services, || start_idle(services), stop_all);
        }
        Workload::W4(pairs) => add_and_remove(pairs),
        Workload::W5 { services } => {
            let _kept = start_idle(services);
            peers::stay_idle();
        }
        Workload::W6 => peers::time_tree(start_tree, |tree| stop_all(vec![tree])),
    }
}

/// A service that is kept alive.
struct Kept {
    stop: Arc<Gate>,
    keeper: JoinHandle<()>,
}

/// Runs `work` again whenever it fails, until it answers `Ok`.
fn keep(name: String, work: impl Fn(&Gate) -> Result<(), Failure> + Send + Sync + 'static) -> Kept {
    let (stop, work) = (Arc::new(Gate::default()), Arc::new(work));
    let asked = stop.clone();
    let keeper = thread::spawn(move || {
        loop {
            let (work, asked) = (work.clone(), asked.clone());
            let worker = Builder::new().name(name.clone());
            match worker.spawn(move || work(&asked)).unwrap().join() {
                Ok(Ok(())) => return,
                // Here such a loop logs.
                Ok(Err(error)) => drop(error),
                Err(panic) => drop(panic),
            }
        }
    });
    Kept { stop, keeper }
}

/// Asks all, then waits for all.
fn stop_all(kept: Vec<Kept>) {
    kept.iter().for_each(|kept| kept.stop.open());
    for kept in kept {
        kept.keeper.join().unwrap();
    }
}

fn flaky(how: How, failures: u64) {
    let (flaky, runs) = Flaky::new(how);
    let flaky = Arc::new(flaky);
    let (wake, woken) = mpsc::channel::<()>();
    let (shared, woken) = (flaky.clone(), Mutex::new(woken));
    let kept = keep("flaky".to_owned(), move |_stop| {
        loop {
            shared.run()?;
            let order = woken.lock().unwrap().recv();
            if order.is_err() {
                return Ok(());
            }
        }
    });
    flaky.measure(&runs, failures, || wake.send(()).unwrap());
    drop(wake);
    stop_all(vec![kept]);
}

fn crowd(services: u64, panics: u64) {
    let (crowd, all_done) = Crowd::new(services, panics);
    let (crowd, gate) = (Arc::new(crowd), Arc::new(Gate::default()));
    let kept = (0..services)
        .map(|i| {
            let (crowd, gate, member) = (crowd.clone(), gate.clone(), crowd.member());
            keep(format!("member{i}"), move |stop| {
                if member.is_first(&crowd) {
                    crowd.at_the_gate.begun();
                    gate.wait();
                }
                member.run(&crowd);
                stop.wait();
                Ok(())
            })
        })
        .collect();
    crowd.measure(&all_done, || gate.open());
    stop_all(kept);
}

fn start_idle(services: usize) -> Vec<Kept> {
    let muster = Arc::new(Muster::new(services));
    let kept = (0..services)
        .map(|i| {
            let muster = muster.clone();
            keep(format!("idle{i}"), move |stop| {
                muster.begun();
                stop.wait();
                Ok(())
            })
        })
        .collect();
    muster.wait();
    kept
}

fn add_and_remove(load: Pairs) {
    load.by_threads(|client, pairs| {
        let pair = || {
            let entry = Arc::new(Muster::new(1));
            let begun = entry.clone();
            let kept = keep(format!("client{client}"), move |stop| {
                begun.begun();
                stop.wait();
                Ok(())
            });
            if load.until_it_runs {
                entry.wait();
            }
            stop_all(vec![kept]);
            u64::from(entry.is_complete())
        };
        (0..pairs).map(|_| pair()).sum()
    });
}

/// A tree of threads: each starts those below it, waits for the stop, and hands it on.
fn start_tree() -> Kept {
    let muster = Arc::new(Muster::new(SUPERVISORS));
    let tree = branch(LEVELS, &muster);
    muster.wait();
    tree
}

fn branch(levels: usize, muster: &Arc<Muster>) -> Kept {
    let stop = Arc::new(Gate::default());
    let (asked, muster) = (stop.clone(), muster.clone());
    let keeper = thread::spawn(move || {
        let below = if levels > 0 { BELOW_EACH } else { 0 };
        let below = (0..below).map(|_| branch(levels - 1, &muster)).collect();
        muster.begun();
        asked.wait();
        stop_all(below);
    });
    Kept { stop, keeper }
}
