//! W6: a tree of supervisors, ten below each, three levels deep.

use std::time::{Duration, Instant};

use backstay::Supervisor;

use super::{PATIENCE, strategy};

/// One, ten, a hundred and a thousand.
pub const SUPERVISORS: usize = 1_111;

const BELOW_EACH: usize = 10;

fn tree(name: &str, levels: usize) -> Supervisor {
    let builder = Supervisor::builder(name).strategy(strategy());
    let supervisor = builder.build().unwrap();
    if levels > 0 {
        for i in 0..BELOW_EACH {
            let name = format!("s{i}");
            let below = tree(&name, levels - 1);
            supervisor.add(name, below).unwrap();
        }
    }
    supervisor
}

/// The time until all run, and that of the stop.
pub fn start_and_stop() -> (Duration, Duration) {
    let tree = tree("tree", 3);
    let begun = Instant::now();
    tree.start().unwrap();
    tree.wait_ready(PATIENCE).unwrap();
    let started = begun.elapsed();
    let begun = Instant::now();
    assert!(tree.stop().is_empty());
    (started, begun.elapsed())
}
