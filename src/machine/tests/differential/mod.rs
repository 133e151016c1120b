//! Thousands of generated histories on the machine and on the real Erlang/OTP supervisor: after
//! every operation the answer, the order of starts and stops, who is up and who gave up must agree.
//! Where we differ on purpose a [`Rule`] says so, and is checked like everything else.
//!
//! OTP's side is `tests/otp/differential.erl`, one process for all histories. Without Erlang on the
//! `PATH` the test says that it is skipped. About eight seconds.

mod history;
mod ours;

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, id};

use history::{Draw, History};
use ours::{Answer, Rule};

const SEED: u64 = 20;
const HISTORIES: usize = 5000;
const PROGRAM: &str = "tests/otp/differential.erl";
/// Each cut costs a start of Erlang.
const CUTS_MAX: usize = 60;

#[test]
fn differential_against_erlang_otp() {
    let mut draw = Draw::new(SEED);
    let histories: Vec<History> = (0..HISTORIES).map(|_| draw.history()).collect();
    let Some(theirs) = otp(&histories) else {
        // Not through the macro, which only shows it when a test fails.
        let skipped = "differential_against_erlang_otp: SKIPPED, there is no `escript` (Debian: erlang-base) on the PATH";
        writeln!(std::io::stderr(), "{skipped}").expect("standard error");
        return;
    };
    let mut rules: BTreeMap<Rule, usize> = BTreeMap::new();
    let mut operations = 0;
    let mut failing: Vec<(History, usize)> = Vec::new();
    for (history, theirs) in histories.iter().zip(&theirs) {
        let ours = ours::answers(history);
        operations += ours.len() - 1;
        if let Some(place) = first_difference(&ours, theirs, &mut rules) {
            failing.push((history.until(place), place));
        }
    }
    println!("{HISTORIES} histories, {operations} operations; rules: {rules:?}");
    let shortest = failing.iter().min_by_key(|(_, place)| *place);
    if let Some((history, _)) = shortest {
        let count = failing.len();
        panic!(
            "{count} of {HISTORIES} histories differ; the shortest, cut down:\n{}",
            side_by_side(&cut_down(history.clone()))
        );
    }
    for rule in Rule::ALL {
        assert!(rules.contains_key(&rule), "{rule:?} was never needed");
    }
}

/// OTP's lines for each history; `None` without Erlang.
fn otp(histories: &[History]) -> Option<Vec<Vec<String>>> {
    let folder = std::env::temp_dir().join(format!("backstay-otp-{}", id()));
    fs::create_dir_all(&folder).expect("a folder for the histories");
    let (asked, answered) = (folder.join("histories"), folder.join("answers"));
    let terms: String = histories
        .iter()
        .enumerate()
        .map(|(number, history)| format!("{{{number},{history}}}.\n"))
        .collect();
    fs::write(&asked, terms).expect("the histories are written");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(PROGRAM);
    let run = Command::new("escript")
        .arg(program)
        .args([&asked, &answered])
        .output();
    let answers = match run {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("escript: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "escript: {output:?}");
            Some(fs::read_to_string(&answered).expect("the answers"))
        }
    };
    fs::remove_dir_all(&folder).expect("the folder is ours");
    let mut lines = vec![Vec::new(); histories.len()];
    for line in answers?.lines() {
        let (number, line) = line.split_once(' ').expect("a number and an answer");
        lines[number.parse::<usize>().expect("a number")].push(line.to_owned());
    }
    Some(lines)
}

/// The first answer that no rule makes equal. Counts the rules that were needed.
fn first_difference(
    ours: &[Answer],
    theirs: &[String],
    rules: &mut BTreeMap<Rule, usize>,
) -> Option<usize> {
    for (place, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        if !agree(ours, theirs) {
            return Some(place);
        }
        for &rule in &ours.rules {
            let needed = rule != Rule::NewsDuringASetRestart || ours.line != *theirs;
            *rules.entry(rule).or_default() += usize::from(needed);
        }
    }
    (ours.len() != theirs.len()).then(|| ours.len().min(theirs.len()))
}

/// Word for word; under [`Rule::NewsDuringASetRestart`] the way may differ, but not where it leads
/// nor what is started last.
fn agree(ours: &Answer, theirs: &str) -> bool {
    let strict = !ours.rules.contains(&Rule::NewsDuringASetRestart);
    if strict || ours.line == theirs {
        return ours.line == theirs;
    }
    let (ours, theirs) = (parts(&ours.line), parts(theirs));
    ours.0 == theirs.0
        && ours.2 == theirs.2
        && ours.3 == theirs.3
        && (ours.3 != "up" || starts_at_the_end(ours.1) == starts_at_the_end(theirs.1))
}

/// What was said, starts and stops, who is up, how it ended.
fn parts(line: &str) -> (&str, &str, &str, &str) {
    let mut parts = line.split('|').map(str::trim);
    let mut next = || parts.next().expect("four parts");
    (next(), next(), next(), next())
}

fn starts_at_the_end(entries: &str) -> &str {
    let stop = entries.rfind('-').map_or(0, |at| at + 1);
    entries[stop..]
        .find('+')
        .map_or("", |at| &entries[stop + at..])
}

/// Leaves out whatever can be left out while they still differ.
fn cut_down(mut history: History) -> History {
    for _ in 0..CUTS_MAX {
        let smaller = history.smaller();
        let Some(theirs) = otp(&smaller) else { break };
        let differs = |(history, theirs): &(History, Vec<String>)| {
            first_difference(&ours::answers(history), theirs, &mut BTreeMap::new()).is_some()
        };
        match smaller.into_iter().zip(theirs).find(differs) {
            Some((smaller, _)) => history = smaller,
            None => break,
        }
    }
    history
}

fn side_by_side(history: &History) -> String {
    use std::fmt::Write;
    let ours = ours::answers(history);
    let theirs = otp(std::slice::from_ref(history)).map_or_else(Vec::new, |mut all| all.remove(0));
    let mut text = format!("{{0,{history}}}.\nat once: {}\n", history.at_once);
    for place in 0..ours.len().max(theirs.len()) {
        match place.checked_sub(1).and_then(|p| history.operations.get(p)) {
            Some(operation) => writeln!(text, "{operation}"),
            None => writeln!(text, "the start"),
        }
        .expect("a string");
        let said = ours.get(place);
        let rules: Vec<_> = said.iter().flat_map(|s| &s.rules).collect();
        let expected = said.map_or("nothing, it is over", |s| &s.line);
        let theirs = theirs.get(place).map_or("nothing, it is over", |s| s);
        writeln!(
            text,
            "    machine  {expected}  {rules:?}\n    OTP      {theirs}"
        )
        .expect("a string");
    }
    text
}
