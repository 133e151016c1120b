//! What backstay takes over from niki's supervisor, row by row: here those with signals, each in a
//! process of its own. Those that need no real time are the machine's.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common_process/mod.rs"]
mod common_process;

#[path = "niki/ends.rs"]
mod ends;
#[path = "niki/shutdown.rs"]
mod shutdown;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use backstay::{Context, EXIT_CODE_ABANDONED, ServiceResult, Spec, Supervisor};

use common_process::{DEADLINE, Process, again, is_child, poll};

/// After the second signal, or after the deadline of a stop.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn sigint_and_sigterm_end_gracefully() {
    const NAME: &str = "sigint_and_sigterm_end_gracefully";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        app.add("a", obedient).unwrap();
        app.add("b", obedient).unwrap();
        app.run().unwrap();
        println!("run is Ok");
        return;
    }
    for signal in ["INT", "TERM"] {
        let mut process = Process::start(&mut again(NAME));
        process.wait_lines(&["app.a runs", "app.b runs"]);
        process.signal(signal);
        let ended = process.end();
        ended.assert_code(0);
        let b = ended.position("app.b ends");
        let a = ended.position("app.a ends");
        assert!(b < a && a < ended.position("run is Ok"), "{ended}");
    }
}

#[test]
fn second_signal_forces() {
    const NAME: &str = "second_signal_forces";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        app.add_spec(Spec::new("p", hung).stop_timeout(Duration::from_secs(60)))
            .unwrap();
        app.add("q", obedient).unwrap();
        let forced = app.run().unwrap_err();
        println!("run is Err: {forced}");
        assert_eq!(forced.unstopped().len(), 1);
        assert_eq!(forced.unstopped()[0].path(), "app.p");
        return;
    }
    let mut process = Process::start(&mut again(NAME));
    process.wait_lines(&["app.p runs", "app.q runs"]);
    process.signal("TERM");
    // `q` has ended by then.
    process.wait_line("app.p is asked");
    let forced = Instant::now();
    process.signal("TERM");
    let line = process.wait_line("run is Err");
    assert!(forced.elapsed() < SOON);
    assert!(line.contains("app.p"), "{line}");
    process.end().assert_code(0);
}

#[cfg(target_os = "linux")]
#[test]
fn run_after_start_waits_for_the_signal() {
    const NAME: &str = "run_after_start_waits_for_the_signal";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        let (enter, entered) = channel();
        app.add("a", move |ctx: &Context| {
            enter.send(())?;
            obedient(ctx)
        })
        .unwrap();
        app.start().unwrap();
        app.wait_ready(DEADLINE).unwrap();
        // Asked before that, it would never run.
        entered.recv_timeout(DEADLINE).unwrap();
        let thread = std::fs::read_link("/proc/thread-self").unwrap();
        println!("calls run on thread /proc/{}", thread.display());
        app.run().unwrap();
        println!("run is Ok");
        return;
    }
    let mut process = Process::start(&mut again(NAME));
    let line = process.wait_line("calls run on thread");
    let thread = line.split(' ').next_back().unwrap();
    wait_until_it_waits(process.id(), thread);
    process.signal("TERM");
    let ended = process.end();
    ended.assert_code(0);
    assert!(ended.position("app.a ends") < ended.position("run is Ok"));
}

/// Until the thread that called `run` sleeps, with the thread that reads the signals there.
#[cfg(target_os = "linux")]
fn wait_until_it_waits(process: u32, thread: &str) {
    let name_of = |task: &std::path::Path| std::fs::read_to_string(task.join("comm"));
    let _task = poll("the thread that reads the signals", || {
        let mut tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
        tasks.find(|task| {
            let name = task.as_ref().ok().and_then(|t| name_of(&t.path()).ok());
            name.is_some_and(|name| name.trim() == "backstay-signal")
        })
    });
    poll("run waits", || {
        let status = std::fs::read_to_string(format!("{thread}/status")).ok()?;
        status.contains("State:\tS").then_some(())
    });
}

#[test]
fn run_with_a_straggler_says_so() {
    const NAME: &str = "run_with_a_straggler_says_so";
    const TIMEOUT: Duration = Duration::from_millis(300);
    if is_child(NAME) {
        let app = Supervisor::new("app");
        app.add_spec(Spec::new("p", hung).stop_timeout(TIMEOUT))
            .unwrap();
        app.run().unwrap();
        println!("run is Ok");
        let report = app.stop();
        let names: Vec<&str> = report.unstopped().iter().map(|u| u.path()).collect();
        assert_eq!(names, ["app.p"]);
        std::process::exit(report.exit_code().into());
    }
    let mut process = Process::start(&mut again(NAME));
    process.wait_line("app.p runs");
    let asked = Instant::now();
    process.signal("TERM");
    process.wait_line("run is Ok");
    let took = asked.elapsed();
    assert!(took >= TIMEOUT && took < SOON, "{took:?}");
    process.end().assert_code(EXIT_CODE_ABANDONED.into());
}

/// Says when it begins and when it ends, which is when it is asked to.
fn obedient(ctx: &Context) -> ServiceResult {
    println!("{} runs", ctx.path());
    ctx.wait_stop();
    println!("{} ends", ctx.path());
    Ok(())
}

/// Says when it is asked to end, and doesn't.
fn hung(ctx: &Context) -> ServiceResult {
    println!("{} runs", ctx.path());
    ctx.wait_stop();
    println!("{} is asked", ctx.path());
    loop {
        std::thread::park();
    }
}
