//! Who lives in a process group, and waiting until nobody does.
//!
//! Members are children of children, so nobody tells us of their ends. On Linux `/proc` says who
//! they are, zombies left out, and a pidfd of each is waited for. Elsewhere, and without `/proc`, the
//! kernel can only be asked again and again whether the group exists.
//!
//! When this process is the one that orphans are handed to (the first of a container, a subreaper),
//! the zombies are its own, and nobody else reaps them: so they are reaped here.

use std::time::Duration;

use rustix::process::{Pid, test_kill_process_group};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::stat::Stat;
use crate::services::clock;
use crate::services::poll;

/// How long a group that `/proc` doesn't show is waited for. Killed processes are gone in less; a zombie
/// that its parent doesn't reap keeps its group for ever, and can't be told apart there.
const UNSEEN_GONE_MAX: Duration = Duration::from_secs(1);

/// The pace of asking again where there is nothing to wait for: this, and twice as long each time, up
/// to [`LOOK_AGAIN_MAX`].
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(50);

/// How many of the members are waited for at the same time. The others are seen at the next look.
#[cfg(target_os = "linux")]
const WATCHED_MAX: usize = 64;

/// Members are looked for again after this long at the latest, and killed again.
#[cfg(target_os = "linux")]
const LOOK_AT_LEAST: Duration = Duration::from_secs(1);

/// Blocks until nobody but the leaders and zombies is left in the groups of these leaders, which are
/// killed already. `told` hears whom it waits for. False: nobody says who is in a group here.
pub(super) fn wait_gone(leaders: &[Pid], kill: impl Fn(), mut told: impl FnMut(&[Pid])) -> bool {
    let mut pace = LOOK_AGAIN_MIN;
    loop {
        let Some(living) = living(leaders) else {
            return false;
        };
        if living.is_empty() {
            reap_orphans(leaders);
            return true;
        }
        told(&living);
        if !wait_for_one(leaders, &living) {
            pause(&mut pace);
        }
        kill();
    }
}

/// The same for groups whose leaders are reaped, without knowing who is in them; gives up after a
/// while. Sends nothing: the ids may be somebody else's by now.
pub(super) fn wait_gone_unseen(leaders: &[Pid]) {
    let until = poll::after(UNSEEN_GONE_MAX);
    let mut pace = LOOK_AGAIN_MIN;
    for leader in leaders {
        while test_kill_process_group(*leader).is_ok() && until.is_none_or(|at| clock::now() < at) {
            pause(&mut pace);
        }
    }
}

fn pause(pace: &mut Duration) {
    // An error: no memory. Then it is no pause.
    let _ = poll::wait(&mut [], poll::after(*pace));
    *pace = (*pace * 2).min(LOOK_AGAIN_MAX);
}

/// Waits until one of them has ended. False: they can't be waited for.
#[cfg(target_os = "linux")]
fn wait_for_one(leaders: &[Pid], living: &[Pid]) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open};

    let mut watched = Vec::new();
    for member in living.iter().take(WATCHED_MAX) {
        match pidfd_open(*member, PidfdFlags::empty()) {
            Ok(fd) => watched.push((*member, fd)),
            // Gone since.
            Err(rustix::io::Errno::SRCH) => return true,
            Err(_) => return false,
        }
    }
    // One may have ended and its id be somebody else's, who is none of our business.
    watched.retain(|(member, _)| is_living(*member, leaders));
    if watched.is_empty() {
        return true;
    }
    let mut fds: Vec<_> = watched.iter().map(|(_, fd)| poll::readable(fd)).collect();
    poll::wait(&mut fds, poll::after(LOOK_AT_LEAST)).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn wait_for_one(_leaders: &[Pid], _living: &[Pid]) -> bool {
    false
}

/// Who is in the groups and no zombie, leaders left out. `None`: `/proc` doesn't tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn living(leaders: &[Pid]) -> Option<Vec<Pid>> {
    // Mounted, and of our processes: it has ourselves.
    std::fs::read("/proc/self/stat").ok()?;
    Some(members(leaders, |stat| !stat.is_zombie()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn living(_leaders: &[Pid]) -> Option<Vec<Pid>> {
    None
}

/// While the leaders are not reaped, a zombie in their groups that is our child can be nobody but an
/// orphan of theirs.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reap_orphans(leaders: &[Pid]) {
    use rustix::process::{WaitId, WaitIdOptions, getpid, waitid};

    for orphan in members(leaders, |stat| {
        stat.is_zombie() && stat.parent == Some(getpid())
    }) {
        // An error: somebody else has reaped it.
        let _ = waitid(
            WaitId::Pid(orphan),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reap_orphans(_leaders: &[Pid]) {}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn members(leaders: &[Pid], wanted: impl Fn(&Stat) -> bool) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| !leaders.contains(pid))
        .filter(|pid| Stat::read(*pid).is_some_and(|s| leaders.contains(&s.group) && wanted(&s)))
        .collect()
}

#[cfg(target_os = "linux")]
fn is_living(pid: Pid, leaders: &[Pid]) -> bool {
    Stat::read(pid).is_some_and(|stat| leaders.contains(&stat.group) && !stat.is_zombie())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_in_its_group() {
        let group = rustix::process::getpgrp();
        let own = rustix::process::getpid();
        let found = members(&[group], |stat| !stat.is_zombie());
        assert!(found.contains(&own) || own == group);
        assert!(members(&[], |_| true).is_empty());
    }
}
