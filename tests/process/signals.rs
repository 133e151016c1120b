//! Signals beyond those that end `run`.

use std::os::unix::process::ExitStatusExt;

use backstay::{Context, Supervisor};

use crate::common_process::{Process, again, is_child};

const SIGTERM: i32 = 15;

#[test]
fn signal_after_run_acts_as_by_default() {
    const NAME: &str = "process::signals::signal_after_run_acts_as_by_default";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        app.add("a", |ctx: &Context| {
            println!("a runs");
            ctx.wait_stop();
            Ok(())
        })
        .unwrap();
        app.run().unwrap();
        println!("run is Ok");
        loop {
            std::thread::park();
        }
    }
    let mut process = Process::start(&mut again(NAME));
    process.wait_line("a runs");
    process.signal("TERM");
    process.wait_line("run is Ok");
    process.signal("TERM");
    let ended = process.end();
    assert_eq!(ended.status.signal(), Some(SIGTERM), "{}", ended.status);
}

#[test]
fn second_run_takes_its_signals_again() {
    const NAME: &str = "process::signals::second_run_takes_its_signals_again";
    if is_child(NAME) {
        for n in 1..=2 {
            let app = Supervisor::new("app");
            app.add("a", move |ctx: &Context| {
                println!("run {n}");
                ctx.wait_stop();
                Ok(())
            })
            .unwrap();
            app.run().unwrap();
        }
        println!("both are Ok");
        return;
    }
    let mut process = Process::start(&mut again(NAME));
    for n in 1..=2 {
        process.wait_line(&format!("run {n}"));
        process.signal("TERM");
    }
    process.wait_line("both are Ok");
    process.end().assert_code(0);
}
