//! No thread of a tree outlives it.

use backstay::{Context, Supervisor};

use crate::common_process::{Process, again, is_child, poll};

#[test]
fn last_handle_dropped_ends_all_threads() {
    const NAME: &str = "process::threads::last_handle_dropped_ends_all_threads";
    const SERVICES: usize = 10;
    if !is_child(NAME) {
        return Process::start(&mut again(NAME)).end().assert_code(0);
    }
    let before = count_threads();
    let app = Supervisor::builder("app").on_event(|_| {}).build().unwrap();
    let below = Supervisor::new("below");
    for n in 0..SERVICES {
        let name = format!("s{n}");
        app.add(&*name, idle).unwrap();
        below.add(name, idle).unwrap();
    }
    app.add("below", below).unwrap();
    app.start().unwrap();
    poll("everything runs", || {
        // The supervisors, the observers', the services.
        (count_threads() == before + 3 + 2 * SERVICES).then_some(())
    });
    let clone = app.clone();
    drop(app);
    assert!(clone.wait_timeout(std::time::Duration::ZERO).is_none());
    drop(clone);
    poll("all threads have ended", || {
        (count_threads() == before).then_some(())
    });
}

fn idle(ctx: &Context) -> backstay::ServiceResult {
    ctx.wait_stop();
    Ok(())
}

fn count_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
