//! What the programs of the comparison share.
//!
//! Each program answers `PROGRAM WORKLOAD NUMBERS..` with one line per figure, `name value unit`. The
//! README above this package says what the workloads are.

mod crowd;
mod figures;
mod flaky;
mod muster;
mod pairs;
mod workload;

pub use crowd::{Crowd, Member};
pub use figures::{stay_idle, time_services, time_tree};
pub use flaky::{Failure, Flaky, How};
pub use muster::{Gate, Muster};
pub use pairs::{Entry, Pairs};
pub use workload::{BELOW_EACH, LEVELS, SUPERVISORS, Workload};

/// Nothing is printed for a panic: the standard library's documented way, for those that leave its
/// hook alone.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}
