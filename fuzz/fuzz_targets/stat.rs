//! `/proc/<pid>/stat`, in which each process may say what it likes for its name.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rustix::process::Pid;

/// It is not public: taken as it is.
#[allow(dead_code, reason = "reading the file is not what is looked at")]
#[path = "."]
mod command {
    #[path = "../../src/services/command/stat.rs"]
    pub mod stat;

    pub fn parse(stat: &[u8]) -> Option<(bool, Option<super::Pid>, super::Pid)> {
        let stat = stat::Stat::parse(stat)?;
        Some((stat.is_zombie(), stat.parent, stat.group))
    }
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    parent: i32,
    group: i32,
    is_zombie: bool,
    name: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let _ = command::parse(input.name);
    // As the kernel says it: never negative.
    let (parent, group) = (input.parent & i32::MAX, input.group & i32::MAX);
    let state = if input.is_zombie { 'Z' } else { 'S' };
    let mut stat = b"4711 (".to_vec();
    stat.extend(input.name);
    stat.extend(format!(") {state} {parent} {group} 4711 34816 4711 4194304\n").bytes());
    let expected =
        Pid::from_raw(group).map(|group| (input.is_zombie, Pid::from_raw(parent), group));
    assert_eq!(command::parse(&stat), expected);
});
