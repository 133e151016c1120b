//! The child's output in the log. Each test in a process of its own, which has one logger.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use backstay::services::{Command, OUTPUT_LINE_BYTES_MAX};
use backstay::{End, Restart, Spec, Supervisor};
use log::{LevelFilter, Log, Metadata, Record};

use crate::common::children::Mark;
use crate::common::process::in_own_process;
use crate::common::{Gate, Recorder, Tally, failed, ms, secs, timed, unlimited, wait_for};

/// Keeps the records of children's output.
struct Logger {
    lines: Mutex<Vec<String>>,
    bytes: Tally,
    /// What it does instead, from the record on that contains `trigger`.
    trouble: fn(),
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// How many lines are kept; the others are only counted.
const KEPT_MAX: usize = 1000;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().ends_with("child")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || record.level() != log::Level::Info {
            return;
        }
        let text = record.args().to_string();
        // The others are the supervisor's own.
        let Some(line) = text.strip_prefix("[1] ") else {
            return;
        };
        if line == "trouble" {
            (self.trouble)();
        }
        self.bytes.add();
        let mut lines = self.lines.lock().unwrap();
        if lines.len() < KEPT_MAX {
            lines.push(line.to_owned());
        }
    }

    fn flush(&self) {}
}

fn logger(trouble: fn()) -> &'static Logger {
    let logger = LOGGER.get_or_init(|| Logger {
        lines: Mutex::default(),
        bytes: Tally::new(),
        trouble,
    });
    log::set_logger(logger).unwrap();
    log::set_max_level(LevelFilter::Info);
    logger
}

impl Logger {
    /// What a child wrote, without the words of the supervisor.
    fn lines(&self) -> Vec<String> {
        let words = ["started", "ready", "done", "removed", "stopped"];
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .filter(|l| !words.contains(&l.as_str()))
            .cloned()
            .collect()
    }
}

fn run(command: Command) {
    let app = unlimited("app");
    app.start().unwrap();
    let spec = Spec::new("child", command).restart(Restart::OnFailure);
    let id = app.add_spec(spec).unwrap();
    let end = app.wait_service(id, secs(60)).unwrap();
    assert!(matches!(end, End::Done), "{end:?}");
    app.stop();
}

#[test]
fn every_line_is_a_record_of_the_path() {
    in_own_process("output::every_line_is_a_record_of_the_path", || {
        let logger = logger(|| {});
        // Both streams, an empty line, none at the end, no UTF-8; and it has ended before we look.
        run(Command::new("sh").args([
            "-c",
            "echo one; echo two >&2; echo; printf 'a\\377b\\n'; printf 'no end'",
        ]));
        let mut lines = logger.lines();
        lines.sort();
        assert_eq!(lines, ["", "a\u{fffd}b", "no end", "one", "two"]);
    });
}

#[test]
fn a_huge_line_comes_in_parts_and_whole() {
    in_own_process("output::a_huge_line_comes_in_parts_and_whole", || {
        let logger = logger(|| {});
        run(Command::new("sh").args(["-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo y"]));
        let mut lines = logger.lines();
        assert_eq!(lines.pop().as_deref(), Some("y"));
        assert!(lines.iter().all(|line| line.len() <= OUTPUT_LINE_BYTES_MAX));
        assert_eq!(lines.concat(), "x".repeat(1_000_000));
    });
}

#[test]
fn what_was_written_before_the_end_is_logged_before_it() {
    in_own_process(
        "output::what_was_written_before_the_end_is_logged_before_it",
        || {
            let logger = logger(|| {});
            let app = unlimited("app");
            app.start().unwrap();
            for n in 0..50 {
                // As much as a pipe holds, all at once, and it is over.
                let child = Command::new("sh").args(["-c", "seq 1 5000"]);
                let spec = Spec::new("child", child).restart(Restart::OnFailure);
                let before = logger.bytes.get();
                let id = app.add_spec(spec).unwrap();
                app.wait_service(id, secs(60)).unwrap();
                let lines = logger.bytes.get() - before;
                assert!(lines >= 5000, "round {n}: {lines}");
                app.remove_and_wait(id, secs(60)).unwrap();
            }
            app.stop();
        },
    );
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[test]
fn a_flood_neither_blocks_the_stop_nor_fills_memory() {
    in_own_process(
        "output::a_flood_neither_blocks_the_stop_nor_fills_memory",
        || {
            let logger = logger(|| {});
            let app = unlimited("app");
            let mut events = Recorder::of(&app);
            let flood = "yes no end in sight & yes without a line end | tr -d '\\n' >&2";
            app.add("child", Command::new("sh").args(["-c", flood]))
                .unwrap();
            app.start().unwrap();
            logger.bytes.reach(50_000);
            let before = resident_bytes();
            logger.bytes.reach(500_000);
            let grown = resident_bytes().saturating_sub(before);
            assert!(grown < 8 << 20, "{grown} bytes more");
            let (report, took) = timed(|| app.stop());
            assert!(report.is_empty(), "{report}");
            assert!(took < secs(4), "{took:?}");
            // It is no event: nobody who listens was flooded.
            assert!(events.all().len() < 20);
        },
    );
}

#[test]
fn a_child_that_closes_its_output_runs_on() {
    in_own_process("output::a_child_that_closes_its_output_runs_on", || {
        let logger = logger(|| {});
        let mark = Mark::new();
        let app = unlimited("app");
        let child = mark.sh("echo before; exec >&- 2>&-; echo > $FILE; exec sleep 60");
        app.add("child", child.clone()).unwrap();
        app.start().unwrap();
        mark.wait_file();
        wait_for("its line is logged", || logger.lines() == ["before"]);
        assert!(child.pid().is_some());
        assert!(app.stop().is_empty());
        mark.assert_nobody_lives();
    });
}

static BLOCKED: OnceLock<Gate> = OnceLock::new();

/// The process ends in time all the same; who hangs is the thread that logs, and it is named.
#[test]
fn a_logger_that_blocks_holds_up_its_thread_alone() {
    in_own_process(
        "output::a_logger_that_blocks_holds_up_its_thread_alone",
        || {
            BLOCKED.get_or_init(Gate::new);
            logger(|| BLOCKED.get().unwrap().wait());
            let mark = Mark::new();
            let app = Supervisor::builder("app")
                .service_stop_timeout(secs(2))
                .build()
                .unwrap();
            let child =
                mark.sh("echo trouble; trap '' TERM; echo > $FILE; while :; do sleep 0.01; done");
            app.add("child", child.kill_after(ms(100))).unwrap();
            app.start().unwrap();
            mark.wait_file();
            app.request_stop();
            wait_for("the process is gone", || mark.living().is_empty());
            let report = app.stop();
            let unstopped: Vec<_> = report
                .unstopped()
                .iter()
                .map(|u| u.path().to_owned())
                .collect();
            assert_eq!(unstopped, ["app.child.output"]);
            BLOCKED.get().unwrap().open();
        },
    );
}

#[test]
fn a_logger_that_panics_is_told_of_once() {
    in_own_process("output::a_logger_that_panics_is_told_of_once", || {
        let logger = logger(|| panic!("the logger is broken"));
        let mark = Mark::new();
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let child = mark.sh(
            "echo first; echo trouble; seq 1 100000; echo trouble; echo > $FILE; exec sleep 60",
        );
        app.add("child", child).unwrap();
        app.start().unwrap();
        // It does not block in its writes.
        mark.wait_file();
        assert!(app.stop().is_empty());
        let failure = failed(&events.wait("app.child.output", "failed")).failure;
        assert!(
            failure.message().contains("the logger is broken"),
            "{failure}"
        );
        assert_eq!(events.count("app.child.output", "failed"), 1);
        assert_eq!(events.count("app.child", "failed"), 0);
        assert!(logger.lines().contains(&"first".to_owned()));
        mark.assert_nobody_lives();
    });
}

/// Somebody who left the group keeps the pipe open, and writes to it without an end.
#[test]
fn a_pipe_held_open_from_outside_does_not_hold_up_the_end() {
    in_own_process(
        "output::a_pipe_held_open_from_outside_does_not_hold_up_the_end",
        || {
            let logger = logger(|| {});
            let mark = Mark::new();
            let script = "setsid sh -c 'trap \"\" PIPE; echo $$ > $FILE; while echo x; do :; done' & \
                      while ! test -s $FILE; do sleep 0.01; done; echo last";
            let ((), took) = timed(|| run(mark.sh(script)));
            assert!(took < secs(20), "{took:?}");
            assert!(logger.bytes.get() > 0);
            // Its pipe is closed, so it has an error and ends.
            wait_for("it is gone", || mark.living().is_empty());
        },
    );
}

#[test]
fn kept_streams_are_left_alone() {
    let mark = Mark::new();
    let file = mark.file();
    let child = Command::from_std(move || {
        let mut command = std::process::Command::new("sh");
        let file = std::fs::File::create(&file).unwrap();
        command.args(["-c", "echo to the file"]).stdout(file);
        command
    });
    run(child.keep_stdio());
    assert_eq!(mark.wait_file(), "to the file\n");
}

#[test]
fn a_pipe_that_was_asked_for_has_nobody_at_its_other_end() {
    let child = Command::from_std(|| {
        let mut command = std::process::Command::new("sh");
        command
            .args([
                "-c",
                "trap 'exit 0' PIPE; while echo x; do sleep 0.01; done; exit 0",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null());
        command
    });
    let ((), took) = timed(|| run(child.keep_stdio()));
    assert!(took < Duration::from_secs(20), "{took:?}");
}
