//! Whether one more thread can be had.
//!
//! A thread costs four memory maps. When the kernel's limit of maps is reached, `spawn` doesn't
//! fail: the new thread can't map its signal stack and aborts the process. So maps are counted,
//! and a thread is refused before that. All other limits (threads, processes, memory) make `spawn`
//! fail, which needs no look ahead.
//!
//! Counting reads `/proc/self/maps`, which takes longer the more there are. It is done again only
//! when the last count may be off by a good part of what was left, or is older than a hundred times
//! what it took; a refusal is forgotten ten times sooner, because room may have been made.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};
use crate::link::clock;

/// How many memory maps a thread takes: its stack, its signal stack, and a guard for each.
pub const MAPS_PER_THREAD: usize = 4;

/// How many memory maps are left to everything else in the process.
pub const MAPS_RESERVE: usize = 256;

/// A count is done again when this part of what was left then has been used.
const USED_PART_MAX: usize = 4;

/// A count takes at most one part in this many of the time.
const AGE_PER_COST: u32 = 100;

/// The same while there is no room: about half a second, when all 65,530 maps are counted.
const REFUSAL_AGE_PER_COST: u32 = 10;

static LAST: Mutex<Option<Counted>> = Mutex::new(None);

struct Counted {
    at: Instant,
    cost: Duration,
    /// How many more maps there may be; `None`: the platform doesn't say.
    left: Option<usize>,
    max: usize,
    /// Maps given out since.
    used: usize,
}

/// Whether there is room for `threads` more.
///
/// # Errors
/// Names the limit.
pub(crate) fn check_room(threads: usize) -> Result<(), Error> {
    let need = threads.saturating_mul(MAPS_PER_THREAD);
    let mut last = LAST.lock();
    let counted = match &mut *last {
        Some(counted) if counted.is_good_for(need) => counted,
        stale => stale.insert(count()),
    };
    match counted.left {
        Some(left) if !counted.has_room(need) => Err(Error::new(
            ErrorKind::Full,
            format!(
                "vm.max_map_count: {threads} more threads need {need} of the process's memory maps; \
                 {} of {} are left, and {MAPS_RESERVE} are kept free",
                left.saturating_sub(counted.used),
                counted.max
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// As [`check_room`] for one thread that is going to be started now.
pub(crate) fn take_room() -> Result<(), Error> {
    check_room(1)?;
    if let Some(counted) = &mut *LAST.lock() {
        counted.used = counted.used.saturating_add(MAPS_PER_THREAD);
    }
    Ok(())
}

impl Counted {
    fn is_good_for(&self, need: usize) -> bool {
        let Some(left) = self.left else { return true };
        let age_per_cost = if self.has_room(need) {
            AGE_PER_COST
        } else {
            REFUSAL_AGE_PER_COST
        };
        self.used.saturating_add(need) <= left / USED_PART_MAX
            && clock::now().saturating_duration_since(self.at)
                <= self.cost.saturating_mul(age_per_cost)
    }

    fn has_room(&self, need: usize) -> bool {
        self.left
            .is_none_or(|left| left.saturating_sub(self.used) >= need.saturating_add(MAPS_RESERVE))
    }
}

fn count() -> Counted {
    let begun = clock::now();
    let limits = read_limits();
    let at = clock::now();
    Counted {
        at,
        cost: at.saturating_duration_since(begun),
        left: limits.map(|(max, used)| max.saturating_sub(used)),
        max: limits.map_or(0, |(max, _)| max),
        used: 0,
    }
}

/// The limit of memory maps and how many there are, where `/proc` tells.
fn read_limits() -> Option<(usize, usize)> {
    let max = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    let max = max.trim().parse().ok()?;
    Some((max, count_lines("/proc/self/maps")?))
}

fn count_lines(path: &str) -> Option<usize> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).ok()?;
    let mut buffer = [0; 16 * 1024];
    let mut lines = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Some(lines),
            Ok(n) => lines += buffer[..n].iter().filter(|&&b| b == b'\n').count(),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
