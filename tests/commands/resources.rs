//! What commands hold, and that they give it back.

use backstay::services::Command;
use backstay::{End, Restart, Spec};

use crate::common::children::{Mark, own_children};
use crate::common::process::{in_own_process, leaves_nothing};
use crate::common::{ms, pass, secs, unlimited, wait_for};

#[test]
fn rounds_leave_nothing() {
    leaves_nothing("resources::rounds_leave_nothing", 30, || {
        let app = unlimited("app");
        app.start().unwrap();
        let once = |name: &str, command: Command| {
            let spec = Spec::new(name, command).restart(Restart::OnFailure);
            app.add_spec(spec).unwrap()
        };
        let done = once(
            "done",
            Command::new("sh").args(["-c", "echo x; sleep 60 & exit 0"]),
        );
        let missing = Spec::new("missing", Command::new("/nonexistent/x")).restart(Restart::Never);
        let missing = app.add_spec(missing).unwrap();
        let stopped = once("stopped", Command::new("sleep").arg("60"));
        assert!(matches!(app.wait_service(done, secs(30)), Ok(End::Done)));
        assert!(app.wait_service(missing, secs(30)).is_ok());
        app.stop_service(stopped).unwrap();
        assert!(app.stop().is_empty());
        assert_eq!(own_children(), []);
    });
}

/// As the first process of a container: orphans are handed to this process, and nobody else would
/// reap them.
#[test]
fn orphans_of_the_group_leave_no_zombies_here() {
    in_own_process(
        "resources::orphans_of_the_group_leave_no_zombies_here",
        || {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
            let app = unlimited("app");
            app.start().unwrap();
            for n in 0..10 {
                let script = "for i in 1 2 3; do (sleep 60 & sleep 60) & done; sleep 0.01; exit 0";
                let child = Command::new("sh").args(["-c", script]);
                let spec = Spec::new(n.to_string(), child).restart(Restart::OnFailure);
                let id = app.add_spec(spec).unwrap();
                assert!(matches!(app.wait_service(id, secs(30)), Ok(End::Done)));
                assert_eq!(own_children(), []);
            }
            app.stop();
        },
    );
}

/// Context switches of this process, of all its threads.
fn switches() -> u64 {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .flat_map(|status| {
            let counts: Vec<u64> = status
                .lines()
                .filter_map(|l| l.split_once("ctxt_switches:"))
                .map(|(_, n)| n.trim().parse().unwrap())
                .collect();
            counts
        })
        .sum()
}

#[test]
fn an_idle_command_wakes_nobody_up() {
    in_own_process("resources::an_idle_command_wakes_nobody_up", || {
        let mark = Mark::new();
        let app = unlimited("app");
        for n in 0..5 {
            let child = mark.sh("echo x >> $FILE; exec sleep 60");
            app.add(n.to_string(), child).unwrap();
        }
        app.start().unwrap();
        wait_for("all run", || {
            mark.living()
                .iter()
                .filter(|p| p.arguments.starts_with("sleep"))
                .count()
                == 5
        });
        // Until everything that follows from the start is done.
        let mut before = switches();
        wait_for("they are quiet", || {
            pass(ms(100));
            let now = switches();
            std::mem::replace(&mut before, now) + 2 >= now
        });
        let before = switches();
        pass(ms(1500));
        let woken = switches() - before;
        // This thread's own sleep, and its reading of the files.
        assert!(woken <= 3, "{woken} context switches");
        assert!(app.stop().is_empty());
    });
}
