//! What the gateway does for itself: old lines go, who hangs is restarted, and whoever looks sees the tree.

use std::io::{IsTerminal, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay::services::Interval;
use backstay::{Context, Service, ServiceReport, ServiceResult, State, Supervisor, service_fn};

use crate::config::RETENTION;
use crate::faults::Faults;
use crate::intake::{Desk, SERIAL, TCP, UDP};
use crate::store::{STORE, Writes, now, prune};

/// How many lines are removed in one transaction. Devices wait for it.
const PRUNED_AT_ONCE: u32 = 1_000;

/// Who has work for that long and gets none done hangs.
const HANGS_AFTER: Duration = Duration::from_secs(2);

/// How often the tree is printed when nobody asks: on a terminal, and elsewhere.
const SCREEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Removes what is too old or too much.
pub fn retention(writes: Writes, faults: Arc<Faults>) -> impl Service {
    move |ctx: &Context| -> ServiceResult {
        let (retention, _store) = (ctx.get(&RETENTION)?, ctx.get(&STORE)?);
        let (every, writes, faults) = (
            Duration::from_secs(retention.every_s.get().into()),
            writes.clone(),
            faults.clone(),
        );
        let round = move |ctx: &Context| -> ServiceResult {
            faults.strike("retention")?;
            let before = now() - i64::from(retention.keep_hours.get()) * 3_600;
            let lines_max = retention.lines_max.get();
            while !ctx.is_stopping() {
                let pruned = writes.write(ctx, move |transaction| {
                    prune(transaction, before, lines_max, PRUNED_AT_ONCE)
                });
                match pruned? {
                    0 => break,
                    n => ctx.log(format!("removed {n} lines")),
                }
            }
            Ok(())
        };
        Interval::new(every, round).run(ctx)
    }
}

/// Restarts the writer and the parsers if they hang: nothing else would tell. A thread that hangs can't be
/// ended; it is left behind, and another one takes over.
pub fn watchdog(desk: Arc<Desk>) -> impl Service {
    move |ctx: &Context| -> ServiceResult {
        let mut writer = Watched::new("writer");
        let mut parsers = Watched::new("parsers");
        loop {
            let (waiting, committed) = desk.writes.progress();
            writer.look(ctx, waiting > 0, committed)?;
            let jobs = desk.parsers.stats();
            let ended = usize::try_from(jobs.done + jobs.failed + jobs.panicked)?;
            parsers.look(ctx, jobs.running > 0, ended)?;
            ctx.set_status(summary(&desk));
            ctx.sleep(HANGS_AFTER / 4)?;
        }
    }
}

/// Somebody who has something to do, and how much of it is done.
struct Watched {
    name: &'static str,
    done: usize,
    since: Instant,
}

impl Watched {
    fn new(name: &'static str) -> Watched {
        Watched {
            name,
            done: 0,
            since: Instant::now(),
        }
    }

    fn look(&mut self, ctx: &Context, has_work: bool, done: usize) -> ServiceResult {
        let report = ctx.supervisor().report();
        let is_up = |s: &ServiceReport| {
            s.name() == self.name && matches!(s.state(), State::Running | State::Ready)
        };
        if !has_work || done != self.done || !report.services().iter().any(is_up) {
            (self.done, self.since) = (done, Instant::now());
        } else if let (true, Some(id)) = (
            self.since.elapsed() > HANGS_AFTER,
            ctx.supervisor().id(self.name),
        ) {
            ctx.log(format!("{} gets nothing done: it is restarted", self.name));
            ctx.supervisor().restart_service(id)?;
            self.since = Instant::now();
        }
        Ok(())
    }
}

/// How many lines came to what end.
pub fn summary(desk: &Desk) -> String {
    let c = &desk.counters;
    let counts = [
        (&c.stored, "stored"),
        (&c.again, "sent again"),
        (&c.busy, "busy"),
        (&c.malformed, "malformed"),
        (&c.oversize, "oversize"),
        (&c.not_utf8, "not UTF-8"),
        (&c.too_old, "too old"),
    ];
    let texts =
        counts.map(|(n, what)| format!("{} {what}", n.load(std::sync::atomic::Ordering::Relaxed)));
    texts.join(", ")
}

/// Says where everything is; again when something of that has changed.
pub fn announce(ctx: &Context) -> ServiceResult {
    let (tcp, udp, serial) = (ctx.get(&TCP)?, ctx.get(&UDP)?, ctx.get(&SERIAL)?);
    let (serial, store) = (serial.display(), ctx.get(&STORE)?);
    println!(
        "tcp {tcp}, udp {udp}, serial {serial}, database {}",
        store.file.display()
    );
    ctx.wait_stop();
    Ok(())
}

/// Draws the tree again and again.
pub fn screen() -> impl Service {
    let terminal = stdout().is_terminal();
    let [often, seldom] = SCREEN;
    Interval::new(
        if terminal { often } else { seldom },
        service_fn(move |ctx| {
            // The time that everything takes to start.
            let _not_ready = ctx.root().wait_ready(Duration::from_secs(1));
            let clear = if terminal { "\x1b[H\x1b[2J" } else { "" };
            print!("{clear}");
            print_tree(ctx.root());
            Ok(())
        }),
    )
}

/// Prints the tree as it is now.
pub fn print_tree(app: &Supervisor) {
    println!("{}\n", app.report());
}
