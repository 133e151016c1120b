//! What the gateway does for itself: old lines go, and who hangs is restarted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use backstay::services::Interval;
use backstay::{Context, Service, ServiceResult, State};

use crate::config::RETENTION;
use crate::intake::{SERIAL, TCP, UDP};
use crate::store::{STORE, prune};
use crate::tree::Shared;

/// How many lines are removed in one transaction. Devices wait for it.
const PRUNED_AT_ONCE: u32 = 1_000;

/// Who has work for that long and gets none done hangs.
const HANGS_AFTER: Duration = Duration::from_secs(2);

/// Removes what is too old or too much.
pub fn retention(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let (retention, gateway) = (ctx.get(&RETENTION)?, gateway.clone());
    let every = Duration::from_secs(retention.every_s.get().into());
    let round = move |ctx: &Context| -> ServiceResult {
        gateway.faults.strike("retention")?;
        let keep_s = i64::from(retention.keep_hours.get()) * 3_600;
        let lines_max = retention.lines_max.get();
        loop {
            let removed = gateway.write(ctx, move |transaction| {
                prune(transaction, keep_s, lines_max, PRUNED_AT_ONCE)
            })?;
            if removed == 0 {
                return Ok(());
            }
            ctx.log(format!("removed {removed} lines"));
        }
    };
    Interval::new(every, round).run(ctx)
}

/// Restarts the writer and the parsers if they hang: nothing else would tell. A thread that hangs can't be
/// ended; it is left behind, and another one takes over.
pub fn watchdog(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let mut seen = [(0, Instant::now()); 2];
    loop {
        let jobs = gateway.parsers.stats();
        let committed = gateway.committed.load(Ordering::Relaxed) as u64;
        let now = [
            ("writer", gateway.writes.1.len() as u64, committed),
            (
                "parsers",
                jobs.running,
                jobs.done + jobs.failed + jobs.panicked,
            ),
        ];
        for ((name, work, done), (before, since)) in now.into_iter().zip(&mut seen) {
            if work == 0 || done != *before || !is_up(ctx, name) {
                (*before, *since) = (done, Instant::now());
            } else if since.elapsed() > HANGS_AFTER {
                ctx.log(format!("{name} gets nothing done: it is restarted"));
                *since = Instant::now();
                if let Some(id) = ctx.supervisor().id(name) {
                    ctx.supervisor().restart_service(id)?;
                }
            }
        }
        ctx.set_status(gateway.summary());
        ctx.sleep(HANGS_AFTER / 4)?;
    }
}

fn is_up(ctx: &Context, name: &str) -> bool {
    let report = ctx.supervisor().report();
    let found = report.services().iter().find(|s| s.name() == name);
    found.is_some_and(|s| matches!(s.state(), State::Running | State::Ready))
}

/// Says where everything is, when it is; again when something of that has changed.
pub fn announce(ctx: &Context) -> ServiceResult {
    let (tcp, udp) = (ctx.get(&TCP)?, ctx.get(&UDP)?);
    let (serial, file) = (ctx.get(&SERIAL)?, ctx.get(&STORE)?);
    let (serial, file) = (serial.display(), file.display());
    println!("tcp {tcp}, udp {udp}, serial {serial}, database {file}");
    ctx.wait_stop();
    Ok(())
}
