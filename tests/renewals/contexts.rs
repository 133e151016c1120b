//! What belongs to one incarnation, and to one run of the supervisor.

use std::sync::{Arc, Mutex};

use backstay::{Context, Limit, ServiceResult, Spec, Supervisor};

use crate::common::{Gate, HOUR, Recorder, ms, take, unlimited, wait_for};

#[test]
fn a_later_incarnation_runs_a_supervisor_below_itself() {
    let app = unlimited("app");
    let (tell, told) = crossbeam_channel::unbounded();
    let service = move |ctx: &Context| -> ServiceResult {
        match ctx.incarnation() {
            5 => {
                let below =
                    ctx.supervise(Supervisor::builder("below").limit(Limit::window(0, HOUR)))?;
                below.add("fails", |_: &Context| Err("from below".into()))?;
                ctx.wait_stop();
                tell.send(ctx.stop_cause().map(|c| c.to_string()))?;
                Ok(())
            }
            8 => {
                let below = ctx.supervise(Supervisor::builder("below"))?;
                below.add("waits", |ctx: &Context| {
                    ctx.wait_stop();
                    Ok(())
                })?;
                tell.send(None)?;
                ctx.wait_stop();
                Ok(())
            }
            _ => Err("fails".into()),
        }
    };
    app.add("owner", service).unwrap();
    app.start().unwrap();
    assert!(take(&told).is_some());
    assert_eq!(take(&told), None);
    wait_for("it is shown", || {
        app.report().find("app.owner.waits").is_some()
    });
    assert!(app.stop().is_empty());
    assert_eq!(app.report().find("app.owner").unwrap().failures(), 7);
}

#[test]
fn stop_hooks_belong_to_their_incarnation() {
    let app = unlimited("app");
    let called = Arc::new(Mutex::new(Vec::new()));
    let ready = Gate::new();
    let (calls, up) = (called.clone(), ready.clone());
    let service = move |ctx: &Context| -> ServiceResult {
        let n = ctx.incarnation();
        let calls = calls.clone();
        let hook = ctx.on_stop(move || calls.lock().unwrap().push(n));
        // Kept beyond the end of the incarnation, as a careless helper would.
        std::mem::forget(hook);
        if n < 10 {
            return Err("fails".into());
        }
        up.open();
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    ready.wait();
    assert!(app.stop().is_empty());
    assert_eq!(*called.lock().unwrap(), [10]);
}

#[test]
fn the_next_run_of_its_supervisor_counts_on_where_the_last_one_was() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (release, hangs, up) = (Gate::new(), Gate::new(), Gate::new());
    let (r, h, u) = (release.clone(), hangs.clone(), up.clone());
    let sub = unlimited("sub");
    let service = move |ctx: &Context| -> ServiceResult {
        match ctx.incarnation() {
            1..5 => Err("fails".into()),
            5 => {
                h.open();
                r.wait();
                Ok(())
            }
            n => {
                ctx.set_status(format!("this is {n}"));
                u.open();
                ctx.wait_stop();
                Ok(())
            }
        }
    };
    sub.add_spec(Spec::new("flaky", service).stop_timeout(ms(20)))
        .unwrap();
    let id = app
        .add_spec(Spec::new("sub", sub).allow_overlap(1))
        .unwrap();
    app.start().unwrap();
    hangs.wait();
    app.restart_service(id).unwrap();
    up.wait();
    let report = app.report();
    let service = report.find("app.sub.flaky").unwrap();
    assert_eq!((service.incarnation(), service.starts()), (6, 6));
    assert_eq!((service.failures(), service.stop_timeouts()), (4, 1));
    assert_eq!(service.status(), Some("this is 6"));
    assert_eq!(events.wait("app.sub.flaky", "abandoned").incarnation(), 5);
    release.open();
    assert_eq!(events.wait("app.sub.flaky", "ended late").incarnation(), 5);
    assert!(app.stop().is_empty());
}
