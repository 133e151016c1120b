//! Functions for signals: `SupervisorBuilder::on_signal`.

use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstay::{Context, ErrorKind, ServiceResult, Supervisor, SupervisorBuilder};
use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::common_process::{Process, again, is_child};

/// Runs until a signal ends it, with a service that says when it runs.
fn run(builder: SupervisorBuilder) {
    let app = builder.build().unwrap();
    app.add("a", announced).unwrap();
    app.run().unwrap();
    println!("run is Ok");
}

fn announced(ctx: &Context) -> ServiceResult {
    println!("a runs, incarnation {}", ctx.incarnation());
    ctx.wait_stop();
    Ok(())
}

fn started(test: &str) -> Process {
    let mut process = Process::start(&mut again(test));
    process.wait_line("a runs");
    process
}

#[test]
fn hangup_that_nobody_asked_for_acts_as_by_default() {
    const NAME: &str = "process::hangup::hangup_that_nobody_asked_for_acts_as_by_default";
    if is_child(NAME) {
        return run(Supervisor::builder("app").on_signal(SIGUSR1, |_| {}));
    }
    let mut process = started(NAME);
    process.signal("HUP");
    if is_ignored(SIGHUP) {
        // Under nohup that is the default, which is handed down.
        process.signal("TERM");
        process.wait_line("run is Ok");
        return;
    }
    let ended = process.end();
    assert_eq!(ended.status.signal(), Some(SIGHUP), "{}", ended.status);
}

/// Whether this process ignores a signal, and with it those that it starts.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[test]
fn hangup_calls_its_function_while_run_is_under_way() {
    const NAME: &str = "process::hangup::hangup_calls_its_function_while_run_is_under_way";
    if is_child(NAME) {
        run(Supervisor::builder("app").on_signal(SIGHUP, |app| {
            println!("reloads {}", app.report());
            app.restart_service(app.id("a").unwrap()).unwrap();
        }));
        loop {
            std::thread::park();
        }
    }
    let mut process = started(NAME);
    for incarnation in 2..=3 {
        process.signal("HUP");
        process.wait_line("reloads app (running)");
        process.wait_line(&format!("a runs, incarnation {incarnation}"));
    }
    process.signal("TERM");
    process.wait_line("run is Ok");
    process.signal("HUP");
    let ended = process.end();
    assert_eq!(ended.status.signal(), Some(SIGHUP), "{}", ended.status);
}

#[test]
fn function_that_hangs_delays_no_stop() {
    const NAME: &str = "process::hangup::function_that_hangs_delays_no_stop";
    if is_child(NAME) {
        return run(Supervisor::builder("app").on_signal(SIGHUP, |_| {
            println!("hangs");
            loop {
                std::thread::park();
            }
        }));
    }
    let mut process = started(NAME);
    process.signal("HUP");
    process.wait_line("hangs");
    process.signal("TERM");
    process.wait_line("run is Ok");
    process.end().assert_code(0);
}

#[test]
fn signals_that_come_meanwhile_are_one() {
    const NAME: &str = "process::hangup::signals_that_come_meanwhile_are_one";
    const SIGNALS: usize = 20;
    if is_child(NAME) {
        let calls = AtomicUsize::new(0);
        let release = Mutex::new(Signals::new([SIGUSR2]).unwrap());
        return run(Supervisor::builder("app")
            .on_signal(SIGHUP, move |_| {
                let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
                println!("call {call}");
                if call == 1 {
                    release.lock().unwrap().forever().next();
                }
            })
            // After it, because there is one thread.
            .on_signal(SIGUSR1, |_| println!("and another signal")));
    }
    let mut process = started(NAME);
    process.signal("HUP");
    process.wait_line("call 1");
    for _ in 0..SIGNALS {
        process.signal("HUP");
    }
    process.signal("USR2");
    process.wait_line("call 2");
    process.signal("USR1");
    process.wait_line("and another signal");
    process.signal("TERM");
    let ended = process.end();
    ended.assert_code(0);
    // One more, or a few if the last ones were late.
    assert!(ended.count("call ") < SIGNALS / 2, "{ended}");
}

#[test]
fn function_that_panics_is_told_and_called_again() {
    const NAME: &str = "process::hangup::function_that_panics_is_told_and_called_again";
    if is_child(NAME) {
        return run(Supervisor::builder("app")
            .on_event(|event| {
                if event.word() == "hook panicked" {
                    println!("event: {event}");
                }
            })
            .on_signal(SIGHUP, |_| panic!("no configuration"))
            .on_signal(SIGHUP, |_| println!("the next one is called all the same")));
    }
    let mut process = started(NAME);
    for _ in 0..2 {
        process.signal("HUP");
        process.wait_line("the next one is called all the same");
    }
    process.signal("TERM");
    let ended = process.end();
    ended.assert_code(0);
    let told = "event: app hook panicked: on_signal 1: no configuration at";
    assert_eq!(ended.count(told), 2, "{ended}");
}

#[test]
fn function_may_stop_the_tree() {
    const NAME: &str = "process::hangup::function_may_stop_the_tree";
    if is_child(NAME) {
        return run(Supervisor::builder("app").on_signal(SIGUSR1, |app| {
            assert!(app.stop().is_empty());
        }));
    }
    let mut process = started(NAME);
    process.signal("USR1");
    process.wait_line("run is Ok");
    process.end().assert_code(0);
}

#[test]
fn signals_that_cannot_be_had_are_refused() {
    for number in [SIGINT, SIGTERM, SIGKILL, 0, -1, 9999] {
        let refused = Supervisor::builder("app").on_signal(number, |_| {}).build();
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let text = refused.to_string();
        assert!(
            text.contains("on_signal") && text.contains(&number.to_string()),
            "{text}"
        );
    }
}
