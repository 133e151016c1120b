//! Keeps the layout and the bans of the source tree true, so that nobody has to remember them.
//!
//! The sources are read as tokens, with comments, literals and test modules taken out, so a word
//! in a comment breaks no rule. Every rule is a function from a file to its complaints, and each is
//! tested on a bad piece of code first: a check that cannot fail keeps nothing true.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The modules, lowest level first. A file uses its own level and those below it.
const LEVELS: [&[&str]; 8] = [
    // Vocabulary: plain data.
    &[
        "text", "id", "error", "errors", "exit", "failure", "key", "event", "report",
    ],
    // Pure and deterministic.
    &["machine"],
    // What a service's thread and its supervisor share.
    &["link"],
    // What a user implements and configures.
    &["service", "context", "spec", "trade"],
    // Threads.
    &["driver"],
    // The handle, and what configures it.
    &["supervisor", "builder"],
    // Adapters.
    &["signals"],
    // The toolkit.
    &["services"],
];

/// Which files name something of a higher level, what, and why.
const UPWARD: [(&str, &str, &str); 9] = [
    (
        "context.rs",
        "supervisor::Supervisor",
        "a context hands out the handle of its supervisor and of the root",
    ),
    (
        "service.rs",
        "supervisor::Supervisor",
        "a service says whether it is a supervisor: hence trees",
    ),
    (
        "link/fact.rs",
        "context::Incarnation",
        "the ticket of a stop hook says whose it is",
    ),
    (
        "link/licence.rs",
        "context::Incarnation",
        "a licence says who runs under it",
    ),
    (
        "driver/board.rs",
        "supervisor::Supervisor",
        "the entry of a supervisor leads to what is below it",
    ),
    (
        "driver/body.rs",
        "supervisor::Supervisor",
        "a service that is a supervisor is asked for its handle",
    ),
    (
        "driver/below.rs",
        "supervisor::Supervisor",
        "what is below a running service is entered with its handle",
    ),
    (
        "driver/engine.rs",
        "supervisor::Supervisor",
        "what is left of a supervisor that was removed is dropped elsewhere",
    ),
    (
        "driver/run.rs",
        "supervisor::Supervisor",
        "contexts get the handles of their supervisor and of the root",
    ),
];

/// The modules that use what every user of the crate can use, and nothing else of it: each could move to
/// a crate of its own.
const OUTSIDERS: [&str; 2] = ["signals", "services"];

/// Which of them use more than that, and why.
const INSIDERS: [(&str, &str); 1] = [(
    "signals",
    "its functions are methods of `Supervisor` and its builder; a second signal abandons what still runs, and \
     a thread of its own needs a check for room: nothing of that is for users",
)];

/// Something that may not be said, and where it may be said all the same.
struct Ban {
    code: &'static str,
    /// The folders or files it holds for, from the root of the repository.
    within: &'static [&'static str],
    but_in: &'static [&'static str],
    why: &'static str,
}

const SRC: &[&str] = &["src/"];
const SRC_AND_TESTS: &[&str] = &["src/", "tests/"];
const MACHINE: &[&str] = &["src/machine/"];
const CLOCK: &[&str] = &["src/link/clock.rs", "src/services/clock.rs"];
const PANIC: &[&str] = &["src/driver/panic.rs"];
const WAITS: &[&str] = &["src/driver/inbox.rs", "src/services/select.rs"];
const MAKE_THREADS: &[&str] = &[
    "src/driver/below.rs",
    "src/driver/detach.rs",
    "src/driver/discard.rs",
    "src/driver/dispatch.rs",
    "src/driver/start.rs",
    "src/driver/stop.rs",
    "src/driver/thread.rs",
    "src/signals.rs",
    "src/signals/hooks.rs",
];

const fn ban(
    code: &'static str,
    within: &'static [&'static str],
    but_in: &'static [&'static str],
    why: &'static str,
) -> Ban {
    Ban {
        code,
        within,
        but_in,
        why,
    }
}

const PURE: &str = "the machine is pure: it knows no thread, clock, channel, lock or boxed closure, and \
                    no user error";
const ONE_CLOCK: &str = "one place reads the clock";
const ONE_UNWIND: &str = "one place catches panics";
const ONE_WAIT: &str = "one place waits, and another one for the toolkit";
const ROOM: &str = "threads are made in few places, where room is checked first";
/// The helpers that poll, or let time pass that is part of a case.
const COMMON: &[&str] = &["tests/common/", "tests/common_process/"];

const LOUD: &str = "the library does not panic on purpose: answer an error";
const SMALL: &str = "small targets have no 64-bit atomics";
const EXCUSE: &str = "solve it, or say so where everybody sees it: in Cargo.toml or clippy.toml";
const SLEEP: &str = "wait for a condition with a deadline, as tests/common does";

const BANS: &[Ban] = &[
    ban("thread", MACHINE, &[], PURE),
    ban("Instant", MACHINE, &[], PURE),
    ban("SystemTime", MACHINE, &[], PURE),
    ban("crossbeam_channel", MACHINE, &[], PURE),
    ban("mpsc", MACHINE, &[], PURE),
    ban("Sender", MACHINE, &[], PURE),
    ban("Receiver", MACHINE, &[], PURE),
    ban("parking_lot", MACHINE, &[], PURE),
    ban("Mutex", MACHINE, &[], PURE),
    ban("RwLock", MACHINE, &[], PURE),
    ban("Condvar", MACHINE, &[], PURE),
    ban("atomic", MACHINE, &[], PURE),
    ban("dyn", MACHINE, &[], PURE),
    ban("BoxError", MACHINE, &[], PURE),
    ban("Failure", MACHINE, &[], PURE),
    ban("Instant::now", SRC, CLOCK, ONE_CLOCK),
    ban("SystemTime::now", SRC, CLOCK, ONE_CLOCK),
    ban(".elapsed()", SRC, CLOCK, ONE_CLOCK),
    ban("catch_unwind", SRC, PANIC, ONE_UNWIND),
    ban("select!", SRC, WAITS, ONE_WAIT),
    ban("select_biased!", SRC, WAITS, ONE_WAIT),
    ban("Select::new", SRC, WAITS, ONE_WAIT),
    ban("thread::spawn", SRC, &[], ROOM),
    ban("thread::scope", SRC, &[], ROOM),
    ban("thread::Builder", SRC, MAKE_THREADS, ROOM),
    ban(
        ".join()",
        SRC,
        &[],
        "nobody joins a service thread: its thread-locals may block",
    ),
    ban("AtomicU64", SRC, &[], SMALL),
    ban("AtomicI64", SRC, &[], SMALL),
    ban("unsafe", SRC_AND_TESTS, &[], "no unsafe code"),
    ban(".unwrap()", SRC, &[], LOUD),
    ban(".expect(", SRC, &[], LOUD),
    ban("todo!", SRC_AND_TESTS, &[], LOUD),
    ban("unimplemented!", SRC_AND_TESTS, &[], LOUD),
    ban("dbg!", SRC_AND_TESTS, &[], "left over from a search"),
    ban("#[allow(", SRC, &[], EXCUSE),
    ban("#![allow(", SRC, &[], EXCUSE),
    ban("#[expect(", SRC, &[], EXCUSE),
    ban("#[ignore", SRC_AND_TESTS, &[], EXCUSE),
    ban("thread::sleep", SRC_AND_TESTS, COMMON, SLEEP),
    ban(
        "fn",
        &["src/lib.rs"],
        &[],
        "lib.rs is the table of contents: no logic",
    ),
    ban(
        "impl",
        &["src/lib.rs"],
        &[],
        "lib.rs is the table of contents: no logic",
    ),
];

/// How long a file may be, in lines.
const LINES_MAX: usize = 500;

/// The files that are longer, and why. An entry leaves when its file is short again.
const LONG: [(&str, &str); 5] = [
    (
        "src/driver/core.rs",
        "one protocol: who is responsible for the machine",
    ),
    (
        "src/supervisor.rs",
        "every public call of the handle, each with its documentation",
    ),
    (
        "src/machine/mod.rs",
        "the machine, its entry points and its assertions",
    ),
    (
        "src/machine/end.rs",
        "one procedure: what the end of a service leads to",
    ),
    (
        "src/machine/policy.rs",
        "limits and backoffs, each with its documentation",
    ),
];

/// Types of parking_lot, which must be free to change without anybody noticing.
const LOCKS: [&str; 6] = [
    "parking_lot",
    "Mutex",
    "MutexGuard",
    "RwLock",
    "Condvar",
    "ReentrantMutex",
];

#[test]
fn modules_use_only_their_own_level_and_lower_ones() {
    let lib = read("src/lib.rs");
    let mut used = Vec::new();
    let complaints: Vec<String> = files("src")
        .iter()
        .filter(|(path, _)| path != "src/lib.rs" && !is_test(path))
        .flat_map(|(path, text)| layers(&path["src/".len()..], text, &lib, &mut used))
        .collect();
    assert_clean(&complaints);
    for (file, what, _) in UPWARD {
        assert!(
            used.contains(&(file, what)),
            "{file} no longer names {what}: take it off the list UPWARD"
        );
    }
}

#[test]
fn toolkit_uses_only_the_public_interface() {
    let lib = read("src/lib.rs");
    let (insiders, complaints): (Vec<_>, Vec<_>) = files("src")
        .iter()
        .filter(|(path, _)| !is_test(path))
        .flat_map(|(path, text)| internals(&path["src/".len()..], text, &lib))
        .partition(|(module, _)| INSIDERS.iter().any(|(insider, _)| insider == module));
    let complaints: Vec<String> = complaints.into_iter().map(|(_, text)| text).collect();
    assert_clean(&complaints);
    for (module, _) in INSIDERS {
        assert!(
            insiders.iter().any(|(insider, _)| insider == module),
            "{module} uses the public interface alone: take it off the list INSIDERS"
        );
    }
}

#[test]
fn banned_words_stay_where_they_belong() {
    let complaints: Vec<String> = ["src", "tests"]
        .into_iter()
        .flat_map(files)
        .flat_map(|(path, text)| banned(&path, &text))
        .collect();
    assert_clean(&complaints);
}

#[test]
fn every_thread_is_made_after_a_check_for_room() {
    let complaints: Vec<String> = files("src")
        .iter()
        .flat_map(|(path, text)| room_first(path, text))
        .collect();
    assert_clean(&complaints);
}

#[test]
fn no_lock_type_is_in_a_public_signature() {
    let complaints: Vec<String> = files("src")
        .iter()
        .flat_map(|(path, text)| locks_shown(path, text))
        .collect();
    assert_clean(&complaints);
}

#[test]
fn files_are_short_enough_to_read() {
    let complaints: Vec<String> = files("src")
        .iter()
        .flat_map(|(path, text)| length(path, text))
        .collect();
    assert_clean(&complaints);
    for (path, _) in LONG {
        assert!(
            Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(),
            "{path} is gone: take it off the list LONG"
        );
    }
}

#[test]
fn the_rule_of_the_levels_can_fail() {
    let lib = "pub use id::{NAME_BYTES_MAX, ServiceId}; pub use supervisor::Supervisor;";
    let complaints = |path: &str, text: &str| layers(path, text, lib, &mut Vec::new()).len();
    assert_eq!(
        complaints("event.rs", "use crate::driver::panic::catch;"),
        1
    );
    assert_eq!(complaints("driver/mark.rs", "use crate::event::Event;"), 0);
    // Inside a list, in the middle of the code, over a re-export, over the parent module.
    assert_eq!(
        complaints("exit.rs", "use crate::{error::Error, spec::{Spec, X}};"),
        2
    );
    assert_eq!(
        complaints("id.rs", "fn f() { crate::supervisor::MAX_SERVICES; }"),
        1
    );
    assert_eq!(complaints("id.rs", "fn f(s: &crate::Supervisor) {}"), 1);
    assert_eq!(
        complaints("driver/run.rs", "fn f(id: crate::ServiceId) {}"),
        0
    );
    assert_eq!(complaints("machine/mod.rs", "use super::driver::Core;"), 1);
    assert_eq!(
        complaints("machine/end.rs", "use super::super::driver::Core;"),
        1
    );
    assert_eq!(
        complaints("machine/end.rs", "use super::{Machine, child::Child};"),
        0
    );
    let deep = "machine/tests/mod.rs";
    assert_eq!(complaints(deep, "use super::super::driver::Core;"), 1);
    assert_eq!(complaints(deep, "use super::harness::Rig;"), 0);
    // An exception holds for one file and one name.
    assert_eq!(
        complaints("service.rs", "use crate::supervisor::Supervisor;"),
        0
    );
    assert_eq!(
        complaints("service.rs", "use crate::supervisor::SupervisorBuilder;"),
        1
    );
    assert_eq!(
        complaints("spec.rs", "use crate::supervisor::Supervisor;"),
        1
    );
    // Nobody may hide in a module that has no level.
    assert_eq!(complaints("helpers.rs", ""), 1);
    assert_eq!(complaints("id.rs", "use crate::helpers::help;"), 1);
    // Words are no code.
    assert_eq!(
        complaints("id.rs", "/// [`x`](crate::driver::x)\n// crate::driver"),
        0
    );
    assert_eq!(
        complaints("id.rs", "#[cfg(test)] mod tests { use crate::driver::x; }"),
        0
    );
}

#[test]
fn the_rule_of_the_toolkit_can_fail() {
    let lib = "pub use id::ServiceId; mod driver; pub mod services;";
    let named = |path: &str, text: &str| internals(path, text, lib).len();
    assert_eq!(named("services/pool.rs", "use crate::driver::catch;"), 1);
    assert_eq!(
        named("services/pool.rs", "use crate::{ServiceId, link::X};"),
        1
    );
    assert_eq!(named("services/pool.rs", "use super::super::id::Id;"), 1);
    // What is public goes by its public name.
    assert_eq!(named("services/pool.rs", "use crate::id::ServiceId;"), 1);
    assert_eq!(named("services/pool.rs", "use crate::ServiceId;"), 0);
    // Its own modules are its own business.
    assert_eq!(named("services/pool.rs", "use crate::services::job;"), 0);
    assert_eq!(
        named("services/mod.rs", "pub(in crate::services) fn f() {}"),
        0
    );
    assert_eq!(named("signals.rs", "use crate::driver::catch;"), 1);
    assert_eq!(named("supervisor.rs", "use crate::driver::catch;"), 0);
}

#[test]
fn every_ban_can_fail() {
    for ban in BANS {
        let somewhere = |folder: &str| match folder.strip_suffix('/') {
            Some(folder) => format!("{folder}/somewhere.rs"),
            None => folder.to_owned(),
        };
        for within in ban.within {
            let complaints = banned(&somewhere(within), &format!("\n  {} ;", ban.code));
            assert!(
                complaints
                    .iter()
                    .any(|c| c.contains(ban.why) && c.contains(":2:")),
                "{} in {within}: {complaints:?}",
                ban.code
            );
        }
        for path in ban.but_in {
            assert!(
                !banned(path, ban.code).iter().any(|c| c.contains(ban.why)),
                "{} in {path}",
                ban.code
            );
        }
        let quoted = format!(
            "// {0}\n/* {0} /* {0} */ */ const X: &str = \"\\\"{0}\";",
            ban.code
        );
        let quoted = format!("{quoted} const Y: &str = r#\"\"{}\"#;", ban.code);
        assert_eq!(banned("src/somewhere.rs", &quoted), Vec::<String>::new());
    }
    assert_eq!(
        banned("src/link/x.rs", "fn f(failed: Failure) {}"),
        Vec::<String>::new()
    );
    assert_eq!(
        banned("src/x.rs", "fn f() { names.join(\", \"); }"),
        Vec::<String>::new()
    );
}

#[test]
fn the_rule_of_room_can_fail() {
    let good = "fn f() { limits::take_room()?; std::thread::Builder::new(); }";
    assert_eq!(room_first("src/x.rs", good), Vec::<String>::new());
    assert_eq!(
        room_first("src/x.rs", "fn f() { thread::Builder::new(); }").len(),
        1
    );
    let late = "fn f() { thread::Builder::new(); take_room()?; }";
    assert_eq!(room_first("src/x.rs", late).len(), 1);
    let elsewhere = "fn g() { take_room()?; } fn f() { thread::Builder::new(); }";
    assert_eq!(room_first("src/x.rs", elsewhere).len(), 1);
}

#[test]
fn the_rule_of_locks_can_fail() {
    let shown = |text: &str| locks_shown("src/x.rs", text).len();
    assert_eq!(shown("pub fn f(m: &parking_lot::Mutex<u8>) {}"), 1);
    assert_eq!(shown("pub fn f()\n -> MutexGuard<'_, u8>\n{}"), 1);
    assert_eq!(shown("pub const fn f() -> Condvar {}"), 1);
    assert_eq!(shown("pub(crate) fn f(m: &Mutex<u8>) {}"), 0);
    assert_eq!(shown("pub fn f() { Mutex::new(1); }"), 0);
}

#[test]
fn the_rule_of_length_can_fail() {
    assert_eq!(length("src/x.rs", &"\n".repeat(LINES_MAX)), None);
    assert!(length("src/x.rs", &"\n".repeat(LINES_MAX + 1)).is_some());
    // Listed and long: fine. Listed and short: off the list.
    assert_eq!(length(LONG[0].0, &"\n".repeat(LINES_MAX + 1)), None);
    assert!(length(LONG[0].0, "").is_some());
}

#[test]
fn code_is_read_as_tokens() {
    let texts = |text: &str| -> Vec<String> { tokens(text).into_iter().map(|t| t.text).collect() };
    assert_eq!(
        texts("a::b!(1_u8)"),
        ["a", ":", ":", "b", "!", "(", "1_u8", ")"]
    );
    assert_eq!(texts("x // y\n/* z */ w"), ["x", "w"]);
    assert_eq!(
        texts(r##"f("a\"b" r#"c"d"# b"e" br"f" 'g' '\'' b'h')"##).join(" "),
        format!("f ( {}{LITERAL} )", format!("{LITERAL} ").repeat(6))
    );
    assert_eq!(texts("&'static str"), ["&", "'", "static", "str"]);
    assert_eq!(
        texts("a #[cfg(test)] mod t { mod u { b } c } d"),
        ["a", "d"]
    );
    assert_eq!(texts("a #[cfg(test)]\nmod t; b"), ["a", "b"]);
    assert_eq!(tokens("a\n\"\n\"\nb")[2].line, 4);
}

/// What a file of `src` names of higher levels. `path` is relative to `src`; `used` collects the
/// exceptions it needed.
fn layers(
    path: &str,
    text: &str,
    lib: &str,
    used: &mut Vec<(&'static str, &'static str)>,
) -> Vec<String> {
    let own = module_of(path);
    let Some(own_level) = level(own) else {
        return vec![format!(
            "src/{path}: {own} has no level; give it one in LEVELS"
        )];
    };
    let home = reexports(lib);
    let mut complaints = Vec::new();
    for (line, named) in paths_from_root(path, text) {
        let first = named.split("::").next().unwrap_or(&named);
        // A name that lib.rs hands out counts as the module it comes from.
        let module = match home.get(first) {
            Some(module) if level(first).is_none() => module.as_str(),
            _ => first,
        };
        match level(module) {
            None => complaints.push(format!("src/{path}:{line}: {named} has no level")),
            Some(level) if level <= own_level => {}
            Some(_) => {
                let exception = UPWARD.iter().find(|(file, what, _)| {
                    *file == path
                        && named
                            .strip_prefix(what)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
                });
                match exception {
                    Some((file, what, _)) => used.push((file, what)),
                    None => complaints.push(format!("src/{path}:{line}: {named} is above {own}")),
                }
            }
        }
    }
    complaints
}

/// What one of [`OUTSIDERS`] names that no user of the crate could: its module, and the complaint.
/// `path` is relative to `src`.
fn internals(path: &str, text: &str, lib: &str) -> Vec<(String, String)> {
    let own = module_of(path);
    if !OUTSIDERS.contains(&own) {
        return Vec::new();
    }
    let home = reexports(lib);
    paths_from_root(path, text)
        .into_iter()
        .filter(|(_, named)| {
            let first = named.split("::").next().unwrap_or(named);
            first != own && !home.contains_key(first)
        })
        .map(|(line, named)| {
            let complaint = format!("src/{path}:{line}: {named} is not in the public interface");
            (own.to_owned(), complaint)
        })
        .collect()
}

/// The module at the crate's root that a file of `src` belongs to.
fn module_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

/// The names that lib.rs hands out, with the module each comes from.
fn reexports(lib: &str) -> BTreeMap<String, String> {
    let tokens = tokens(lib);
    let mut home = BTreeMap::new();
    for at in find(&tokens, "pub use") {
        let mut paths = Vec::new();
        tree(&tokens, at + 2, "", &mut paths);
        for (_, path) in paths {
            if let (Some((module, _)), Some((_, name))) =
                (path.split_once("::"), path.rsplit_once("::"))
            {
                home.insert(name.to_owned(), module.to_owned());
            }
        }
    }
    home
}

/// Every path that begins at the crate's root, without `crate::`, and its line.
fn paths_from_root(path: &str, text: &str) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let mut paths = Vec::new();
    for at in find(&tokens, "crate::") {
        tree(&tokens, at + 3, "", &mut paths);
    }
    // As many of them as the file's module is deep lead to the root; a folder's mod.rs is as deep as the folder.
    let depth = path.matches('/').count() + usize::from(!path.ends_with("/mod.rs"));
    let from_super = "super::".repeat(depth);
    for at in find(&tokens, &from_super) {
        let begins = at == 0 || tokens[at - 1].text != ":";
        if begins {
            tree(&tokens, at + depth * 3, "", &mut paths);
        }
    }
    paths
}

/// The paths of a use tree or a plain path that begins at `at`. Answers where it ends.
fn tree(tokens: &[Token], mut at: usize, before: &str, paths: &mut Vec<(usize, String)>) -> usize {
    let mut path = before.to_owned();
    let mut line = 0;
    while let Some(token) = tokens.get(at) {
        line = token.line;
        if token.text == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|t| t.text != "}") {
                at = tree(tokens, at, &path, paths);
                if tokens.get(at).is_some_and(|t| t.text == ",") {
                    at += 1;
                }
            }
            return at + 1;
        }
        path.push_str(&token.text);
        at += 1;
        let goes_on = tokens.get(at).is_some_and(|t| t.text == ":")
            && tokens.get(at + 1).is_some_and(|t| t.text == ":")
            && tokens
                .get(at + 2)
                .is_some_and(|t| t.is_word() || t.text == "{" || t.text == "*");
        if !goes_on {
            break;
        }
        path.push_str("::");
        at += 2;
    }
    if tokens.get(at).is_some_and(|t| t.text == "as") {
        at += 2;
    }
    paths.push((line, path));
    at.max(1)
}

fn banned(path: &str, text: &str) -> Vec<String> {
    let inside = |places: &[&str]| {
        places
            .iter()
            .any(|p| path == *p || (p.ends_with('/') && path.starts_with(p)))
    };
    let tokens = tokens(text);
    BANS.iter()
        // Tests may panic and look at the clock; what holds for them says so.
        .filter(|ban| !is_test(path) || ban.within.contains(&"tests/"))
        .filter(|ban| (inside(ban.within) || is_test(path)) && !inside(ban.but_in))
        .flat_map(|ban| {
            find(&tokens, ban.code)
                .into_iter()
                .map(|at| format!("{path}:{}: {}: {}", tokens[at].line, ban.code, ban.why))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn room_first(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    find(&tokens, "thread::Builder")
        .into_iter()
        .filter(|&at| {
            let function = tokens[..at]
                .iter()
                .rposition(|t| t.text == "fn")
                .unwrap_or(0);
            !tokens[function..at].iter().any(|t| t.text == "take_room")
        })
        .map(|at| {
            format!(
                "{path}:{}: no take_room() before this thread",
                tokens[at].line
            )
        })
        .collect()
}

fn locks_shown(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    ["pub fn", "pub const fn"]
        .iter()
        .flat_map(|public| find(&tokens, public))
        .filter(|&at| {
            tokens[at..]
                .iter()
                .take_while(|t| t.text != "{" && t.text != ";")
                .any(|t| LOCKS.contains(&t.text.as_str()))
        })
        .map(|at| {
            format!(
                "{path}:{}: a lock type in a public signature",
                tokens[at].line
            )
        })
        .collect()
}

fn length(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    match (
        lines > LINES_MAX,
        LONG.iter().any(|(long, _)| *long == path),
    ) {
        (true, false) => Some(format!("{path}: {lines} lines, more than {LINES_MAX}")),
        (false, true) => Some(format!(
            "{path}: {lines} lines, short again: off the list LONG"
        )),
        (true, true) | (false, false) => None,
    }
}

/// What stands for every literal with quotes.
const LITERAL: &str = "\"\"";

#[derive(Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// Where a piece of code occurs: the index of its first token.
fn find(tokens: &[Token], code: &str) -> Vec<usize> {
    let wanted = raw_tokens(code);
    tokens
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, window)| window.iter().zip(&wanted).all(|(t, w)| t.text == w.text))
        .map(|(at, _)| at)
        .collect()
}

/// Words and single characters, without comments, what literals say and `#[cfg(test)]` modules.
fn tokens(text: &str) -> Vec<Token> {
    let all = raw_tokens(text);
    let mut kept = Vec::new();
    let mut skip_to = 0;
    let test_mods = find(&all, "#[cfg(test)] mod");
    for (at, token) in all.iter().enumerate() {
        if test_mods.contains(&at) {
            let mut depth = 0;
            skip_to = all.len();
            for (end, token) in all.iter().enumerate().skip(at) {
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    ";" => {}
                    _ => continue,
                }
                if depth == 0 {
                    skip_to = end + 1;
                    break;
                }
            }
        }
        if at >= skip_to {
            kept.push(Token {
                text: token.text.clone(),
                line: token.line,
            });
        }
    }
    kept
}

fn raw_tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&c) = chars.get(at) {
        let skipped = literal_or_comment(&chars, at);
        if skipped.is_some() && c != '/' {
            tokens.push(Token {
                text: LITERAL.to_owned(),
                line,
            });
        }
        let end = skipped.unwrap_or_else(|| {
            let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
            let word = chars[at..].iter().take_while(|c| is_word(c)).count();
            let end = at + word.max(1);
            if !c.is_whitespace() {
                tokens.push(Token {
                    text: chars[at..end].iter().collect(),
                    line,
                });
            }
            end
        });
        line += chars[at..end].iter().filter(|&&c| c == '\n').count();
        at = end;
    }
    tokens
}

/// Where the comment or the literal that begins here ends.
fn literal_or_comment(chars: &[char], at: usize) -> Option<usize> {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or(' ');
    let len = chars.len();
    match (next(0), next(1)) {
        ('/', '/') => Some(at + chars[at..].iter().take_while(|&&c| c != '\n').count()),
        ('/', '*') => {
            let (mut depth, mut i) = (0, at);
            while i < len {
                match (chars[i], chars.get(i + 1)) {
                    ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
                    ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 {
                    break;
                }
            }
            Some(i)
        }
        ('"', _) => Some(end_of_quoted(chars, at, '"')),
        ('b', '"') => Some(end_of_quoted(chars, at + 1, '"')),
        ('b', '\'') => Some(end_of_quoted(chars, at + 1, '\'')),
        ('b', 'r') => raw_string(chars, at + 2),
        ('r', _) => raw_string(chars, at + 1),
        // A char, not a lifetime: a quote follows after one character or an escape.
        ('\'', '\\') => Some(end_of_quoted(chars, at, '\'')),
        ('\'', _) if next(2) == '\'' => Some(at + 3),
        _ => None,
    }
}

fn end_of_quoted(chars: &[char], begin: usize, quote: char) -> usize {
    let mut i = begin + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// `at` is behind the `r`. `None`: a word that begins with r.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let close: String = format!("\"{}", "#".repeat(hashes));
    let close: Vec<char> = close.chars().collect();
    let body = at + hashes + 1;
    let end = chars[body..].windows(close.len()).position(|w| w == close);
    Some(end.map_or(chars.len(), |end| body + end + close.len()))
}

/// Unit tests inside `src`, and everything under `tests`.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.starts_with("tests/")
}

/// All Rust files below a folder of the repository, as paths from its root and texts.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder);
        let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{folder}: {e}"));
        for entry in entries.map_while(Result::ok) {
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(name);
            } else if name.ends_with(".rs") {
                let text = read(&name);
                found.push((name, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn assert_clean(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
