//! The example as a process: who restarts, what it answers, and that nothing is left.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn exactly_the_right_ones_restart() {
    let folder = std::env::temp_dir().join(format!("wiring-test-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder of one's own");
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_wiring"))
        .env("TMPDIR", &folder)
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    let took = begun.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(errors, "");
    assert!(took < Duration::from_secs(10), "{took:?}");

    let with = |begin: &str| -> Vec<&str> {
        let lines = text.lines();
        lines.filter_map(|line| line.strip_prefix(begin)).collect()
    };
    assert_eq!(
        with("Incarnations: "),
        [
            "api 1, cache 1, database 1, heartbeat 1, config 1",
            "api 2, cache 2, database 2, heartbeat 1, config 1",
            "api 3, cache 3, database 3, heartbeat 2, config 1",
        ]
    );
    assert_eq!(
        with("The api says: "),
        [
            "greetings from first.db",
            "greetings from first.db",
            "greetings from second.db",
        ]
    );
    // One failure, and three graphs of five arrows.
    let failed = text.lines().filter(|line| line.contains("failed ("));
    let failed: Vec<&str> = failed.collect();
    assert_eq!(failed.len(), 1, "{text}");
    assert!(failed[0].starts_with("app.database [1] failed"), "{text}");
    assert!(failed[0].contains("no such table"), "{text}");
    assert_eq!(with("flowchart LR").len(), 3);
    assert_eq!(text.matches(" -->|").count(), 3 * 5, "{text}");
    assert!(text.contains("everything stopped in time"), "{text}");
    // It has removed its files.
    std::fs::remove_dir(&folder).expect("nothing is left in it");
}
