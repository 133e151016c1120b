//! How a daemon ends: what `run` answers, what the log says, and how soon.

use std::time::{Duration, Instant};

use backstay::{
    AutoShutdown, Context, EVENT_FLUSH_MAX, Exceeded, Exit, Limit, PanicPolicy, Restart,
    ServiceResult, Spec, Supervisor, SupervisorBuilder,
};

use crate::common_process::{Ended, Process, again, is_child};

/// Less than any timeout that is set here.
const SOON: Duration = Duration::from_secs(10);

const NEVER: Duration = Duration::from_secs(600);

/// Runs as a `main` would, with a log on stderr. Exits with its code.
fn main_of(app: &Supervisor) -> ! {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .init();
    let code = match app.run() {
        Ok(()) => app.stop().exit_code().into(),
        Err(error) => {
            println!("Error: {error:?}");
            assert!(error.failure().is_none_or(|f| f.path() == "app.p"));
            1
        }
    };
    std::process::exit(code)
}

/// The log says once, at info, why it ends.
#[track_caller]
fn assert_says_why(ended: &Ended, why: &str) {
    let said = |line: &&String| line.contains("INFO") && line.contains("app] stopping: ");
    let lines: Vec<&String> = ended.lines.iter().filter(said).collect();
    assert_eq!(lines.len(), 1, "{ended}");
    assert!(lines[0].ends_with(&format!("stopping: {why}")), "{ended}");
}

fn obedient(ctx: &Context) -> ServiceResult {
    println!("{} runs", ctx.path());
    ctx.wait_stop();
    println!("{} ends", ctx.path());
    Ok(())
}

#[test]
fn log_says_why_it_stops() {
    const NAME: &str = "process::ends::log_says_why_it_stops";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        app.add("q", obedient).unwrap();
        app.add("nested", Supervisor::new("nested")).unwrap();
        app.add("p", |ctx: &Context| {
            if std::env::var_os("SHUTDOWN").is_some() {
                ctx.shutdown();
            }
            obedient(ctx)
        })
        .unwrap();
        main_of(&app);
    }
    for (signal, why) in [
        ("TERM", "signal 15 (SIGTERM)"),
        ("INT", "signal 2 (SIGINT)"),
    ] {
        let mut process = Process::start(&mut again(NAME));
        process.wait_lines(&["app.p runs", "app.q runs"]);
        process.signal(signal);
        let ended = process.end();
        ended.assert_code(0);
        assert_says_why(&ended, why);
        assert!(
            ended.position("stopping: ") < ended.position("app.q] [1] stopped"),
            "{ended}"
        );
        ended.assert_said("app] ended");
    }
    let ended = Process::start(again(NAME).env("SHUTDOWN", "1")).end();
    ended.assert_code(0);
    assert_says_why(&ended, "ordered");
}

/// How a service dies.
const DEATHS: [(&str, &str); 3] = [
    ("error", "failed: no route"),
    ("panic", "panicked: no route at "),
    ("return", "returned unexpectedly"),
];

fn die(death: &str) -> ServiceResult {
    match death {
        "error" => Err("no route".into()),
        "panic" => panic!("no route"),
        _ => Ok(()),
    }
}

/// A service `p` that dies in that way, beside an obedient one that was added before it.
fn fatal(builder: SupervisorBuilder, with: impl FnOnce(Spec) -> Spec) -> Supervisor {
    let app = builder.build().unwrap();
    app.add("q", obedient).unwrap();
    let p = |_: &Context| die(&std::env::var("DEATH").unwrap());
    app.add_spec(with(Spec::new("p", p))).unwrap();
    app
}

#[track_caller]
fn assert_fatal(test: &str, deaths: &[(&str, &str)], why: &str) {
    for (death, text) in deaths {
        let ended = Process::start(again(test).env("DEATH", death)).end();
        ended.assert_code(1);
        let error = &ended.lines[ended.position("Error: ")];
        assert!(error.contains("app.p") && error.contains(text), "{ended}");
        assert_says_why(&ended, why);
        // The other one is asked, whether it had begun to run or not.
        ended.assert_said("app.q] [1] stopped");
    }
}

#[test]
fn exceeded_limit_ends_the_process_with_the_failure() {
    const NAME: &str = "process::ends::exceeded_limit_ends_the_process_with_the_failure";
    if is_child(NAME) {
        let limit = Limit::budget(0, 0).then(Exceeded::Fail);
        main_of(&fatal(Supervisor::builder("app").limit(limit), |p| p));
    }
    assert_fatal(NAME, &DEATHS, "too many failures");
}

#[test]
fn failed_significant_service_ends_the_process_with_the_failure() {
    const NAME: &str =
        "process::ends::failed_significant_service_ends_the_process_with_the_failure";
    if is_child(NAME) {
        let builder = Supervisor::builder("app").auto_shutdown(AutoShutdown::AnySignificant);
        let limit = Limit::budget(0, 0).then(Exceeded::StopService);
        main_of(&fatal(builder, |p| match std::env::var_os("GIVEN_UP") {
            None => p.restart(Restart::Never).significant(),
            Some(_) => p.restart(Restart::OnFailure).limit(limit).significant(),
        }));
    }
    assert_fatal(NAME, &DEATHS[..2], "significant app.p ended");
    for (death, text) in &DEATHS[..2] {
        let mut given_up = again(NAME);
        let ended = Process::start(given_up.env("DEATH", death).env("GIVEN_UP", "1")).end();
        ended.assert_code(1);
        ended.assert_said(text);
        assert_says_why(&ended, "significant app.p ended");
    }
    // One that ends well ends the process well.
    let ended = Process::start(again(NAME).env("DEATH", "return")).end();
    ended.assert_code(0);
    assert_says_why(&ended, "significant app.p ended");
}

#[test]
fn terminated_tree_ends_the_process_with_the_failure() {
    const NAME: &str = "process::ends::terminated_tree_ends_the_process_with_the_failure";
    if is_child(NAME) {
        let app = Supervisor::builder("app").build().unwrap();
        app.add("q", obedient).unwrap();
        let p = |_: &Context| {
            die(&std::env::var("DEATH").unwrap()).map_err(|e| Exit::TerminateTree.because(e).into())
        };
        app.add_spec(Spec::new("p", p).panic_policy(PanicPolicy::Escalate))
            .unwrap();
        main_of(&app);
    }
    let deaths = [("error", "terminate the tree: no route"), DEATHS[1]];
    assert_fatal(NAME, &deaths, "terminated by app.p");
}

#[test]
fn service_added_while_it_runs_is_stopped_too() {
    const NAME: &str = "process::ends::service_added_while_it_runs_is_stopped_too";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        app.add("early", obedient).unwrap();
        app.add("adds", |ctx: &Context| {
            // Not again when it is asked to stop right away.
            if ctx.supervisor().id("late").is_none() {
                ctx.supervisor().add("late", obedient)?;
            }
            ctx.wait_stop();
            Ok(())
        })
        .unwrap();
        main_of(&app);
    }
    let mut process = Process::start(&mut again(NAME));
    process.wait_lines(&["app.early runs", "app.late runs"]);
    process.signal("TERM");
    let ended = process.end();
    ended.assert_code(0);
    assert!(
        ended.position("app.late ends") < ended.position("app.early ends"),
        "{ended}"
    );
}

#[test]
fn process_ends_as_soon_as_its_last_service() {
    const NAME: &str = "process::ends::process_ends_as_soon_as_its_last_service";
    const NEEDED: Duration = Duration::from_millis(100);
    if is_child(NAME) {
        let app = Supervisor::builder("app")
            .service_stop_timeout(NEVER)
            .build()
            .unwrap();
        for name in ["a", "b"] {
            app.add(name, |ctx: &Context| {
                println!("{} runs", ctx.path());
                ctx.wait_stop();
                // The work that is left.
                let _done = crossbeam_channel::never::<()>().recv_timeout(NEEDED);
                Ok(())
            })
            .unwrap();
        }
        main_of(&app);
    }
    let mut process = Process::start(&mut again(NAME));
    process.wait_lines(&["app.a runs", "app.b runs"]);
    let asked = Instant::now();
    process.signal("TERM");
    process.end().assert_code(0);
    let took = asked.elapsed();
    assert!((NEEDED * 2..SOON).contains(&took), "{took:?}");
}

#[test]
fn stragglers_are_in_the_log_and_in_the_exit_code() {
    const NAME: &str = "process::ends::stragglers_are_in_the_log_and_in_the_exit_code";
    if is_child(NAME) {
        let app = Supervisor::new("app");
        let hung = |ctx: &Context| -> ServiceResult {
            println!("{} runs", ctx.path());
            loop {
                std::thread::park();
            }
        };
        let timeout = Duration::from_millis(50);
        app.add_spec(Spec::new("p", hung).stop_timeout(timeout))
            .unwrap();
        app.add("q", obedient).unwrap();
        main_of(&app);
    }
    let mut process = Process::start(&mut again(NAME));
    process.wait_lines(&["app.p runs", "app.q runs"]);
    process.signal("TERM");
    let ended = process.end();
    ended.assert_code(backstay::EXIT_CODE_ABANDONED.into());
    let warned =
        &ended.lines[ended.position("app.p] [1] abandoned: thread app.p did not end within")];
    assert!(warned.contains("WARN"), "{warned}");
    ended.assert_said("app] ended with 1 abandoned");
    assert_says_why(&ended, "signal 15 (SIGTERM)");
}

/// Whoever ends with an observer that is stuck waits for it once, after one signal or after two.
#[test]
fn stuck_observer_is_waited_for_once() {
    const NAME: &str = "process::ends::stuck_observer_is_waited_for_once";
    /// The machine may be busy: it has to go well once.
    const TRIES: usize = 5;
    if is_child(NAME) {
        let app = Supervisor::builder("app")
            .on_event(|_| {
                loop {
                    std::thread::park();
                }
            })
            .build()
            .unwrap();
        app.add("p", |ctx: &Context| {
            println!("app.p runs");
            ctx.wait_stop();
            println!("app.p is asked");
            while std::env::var_os("HANGS").is_some() {
                std::thread::park();
            }
            Ok(())
        })
        .unwrap();
        main_of(&app);
    }
    for (hangs, code) in [(false, 0), (true, 1)] {
        let tries = (0..TRIES).map(|_| {
            let mut command = again(NAME);
            if hangs {
                command.env("HANGS", "1");
            }
            let mut process = Process::start(&mut command);
            process.wait_line("app.p runs");
            let mut asked = Instant::now();
            process.signal("TERM");
            process.wait_line("app.p is asked");
            if hangs {
                asked = Instant::now();
                process.signal("TERM");
            }
            process.end().assert_code(code);
            asked.elapsed()
        });
        let enough = tries.into_iter().find(|took| *took < EVENT_FLUSH_MAX * 2);
        assert!(enough.is_some(), "hangs: {hangs}");
    }
}
