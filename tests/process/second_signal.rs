//! What a second signal cuts short.

use std::time::{Duration, Instant};

use backstay::{Context, Limit, Restart, ServiceResult, Spec, Supervisor};

use crate::common_process::{Process, again, is_child};

/// Less than any timeout that is in the way here.
const SOON: Duration = Duration::from_secs(5);

const NEVER: Duration = Duration::from_secs(600);

/// How long somebody waits who then sends another signal.
const APART: Duration = Duration::from_millis(200);

/// Never gone.
struct Stays;

impl Drop for Stays {
    fn drop(&mut self) {
        println!("drops");
        forever()
    }
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// The tree has failed and is over but for a value: neither the first signal nor the second begins a
/// stop.
#[test]
fn second_signal_cuts_the_last_drop_short() {
    const NAME: &str = "process::second_signal::second_signal_cuts_the_last_drop_short";
    if is_child(NAME) {
        let app = Supervisor::builder("app")
            .limit(Limit::window(0, NEVER))
            .build()
            .unwrap();
        let stays = Stays;
        let rests = move |_: &Context| {
            let _held = &stays;
            Ok(())
        };
        app.add_spec(Spec::new("rests", rests).restart(Restart::OnFailure))
            .unwrap();
        app.add("fails", |ctx: &Context| -> ServiceResult {
            let rests = ctx.supervisor().id("rests").ok_or("it is there")?;
            ctx.supervisor().wait_service(rests, NEVER)?;
            Err("no luck".into())
        })
        .unwrap();
        println!("failed: {}", app.run().is_err());
        std::process::exit(0);
    }
    let mut process = Process::start(&mut again(NAME));
    process.wait_line("drops");
    process.signal("TERM");
    let _apart = crossbeam_channel::never::<()>().recv_timeout(APART);
    let asked = Instant::now();
    // Another one: two of a kind that are under way at once are one.
    process.signal("INT");
    let ended = process.end();
    let took = asked.elapsed();
    ended.assert_code(0);
    ended.assert_said("failed: true");
    assert!(took < SOON, "{took:?}");
}

/// A service that never ends, below one that does, in either way to have it there.
#[test]
fn second_signal_reaches_what_runs_below_a_service() {
    const NAME: &str = "process::second_signal::second_signal_reaches_what_runs_below_a_service";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        let leaf = || {
            let hung = |ctx: &Context| -> ServiceResult {
                println!("leaf runs");
                ctx.wait_stop();
                println!("leaf is asked");
                forever()
            };
            Spec::new("leaf", hung).stop_timeout(NEVER)
        };
        if std::env::var_os("SUPERVISE").is_some() {
            let above = move |ctx: &Context| {
                let below = ctx.supervise(Supervisor::builder("below"))?;
                below.add_spec(leaf())?;
                ctx.wait_stop();
                Ok(())
            };
            app.add_spec(Spec::new("s", above).stop_timeout(NEVER))
                .unwrap();
        } else {
            let nested = Supervisor::new("s");
            nested.add_spec(leaf()).unwrap();
            app.add("s", nested).unwrap();
        }
        println!("run: {}", app.run().unwrap_err());
        std::process::exit(0);
    }
    for way in ["NESTED", "SUPERVISE"] {
        let mut process = Process::start(again(NAME).env(way, "1"));
        process.wait_line("leaf runs");
        process.signal("TERM");
        process.wait_line("leaf is asked");
        let asked = Instant::now();
        process.signal("INT");
        let ended = process.end();
        let took = asked.elapsed();
        ended.assert_code(0);
        let said = &ended.lines[ended.position("run: ")];
        assert!(said.ends_with("still running: app.s.leaf"), "{said}");
        assert!(took < SOON, "{took:?}");
    }
}
