//! The data of one restart of several: who starts together and when, also when two become one.

use crate::id::ChildId;
use crate::machine::Moment;
use crate::machine::graph::Rank;
use crate::machine::message::Cause;
use crate::machine::wave::Wave;
use std::time::Duration;

fn rank(n: u64) -> Rank {
    Rank {
        place: n,
        id: ChildId(n),
    }
}

fn at(secs: u64) -> Moment {
    Moment::at(Duration::from_secs(secs))
}

/// One cohort of these members, which starts at `secs`.
fn wave(members: &[u64], secs: u64, by_input: bool) -> Wave {
    let mut wave = Wave::default();
    add(&mut wave, members, secs, by_input);
    wave
}

fn add(wave: &mut Wave, members: &[u64], secs: u64, by_input: bool) {
    let cohort = wave.new_cohort(at(secs), by_input);
    for &n in members {
        wave.members.insert(rank(n), cohort);
    }
}

/// When a member starts, and whether for an input.
fn starts(wave: &Wave, n: u64) -> (Moment, bool) {
    let cohort = wave.cohorts[wave.cohort(wave.members[&rank(n)])];
    (cohort.start_at, cohort.by_input)
}

#[test]
fn cohorts_of_a_wave_that_is_taken_over_keep_their_times() {
    let mut new = wave(&[1], 1, false);
    let mut old = wave(&[2], 2, true);
    add(&mut old, &[3], 3, false);
    new.absorb(old);
    assert_eq!(starts(&new, 1), (at(1), false));
    assert_eq!(starts(&new, 2), (at(2), true));
    assert_eq!(starts(&new, 3), (at(3), false));
}

#[test]
fn cohorts_with_a_member_in_common_become_one() {
    for (inputs, both) in [
        ([true, true], true),
        ([true, false], false),
        ([false, true], false),
    ] {
        let mut new = wave(&[9], 0, false);
        add(&mut new, &[1, 2], 1, inputs[0]);
        let mut old = wave(&[8], 0, false);
        add(&mut old, &[2, 3], 5, inputs[1]);
        new.absorb(old);
        for n in 1..=3 {
            assert_eq!(starts(&new, n), (at(5), both), "{n}");
        }
        assert_eq!(starts(&new, 9), (at(0), false));
        assert_eq!(starts(&new, 8), (at(0), false));
    }
}

#[test]
fn cohorts_that_are_one_stay_so_when_their_wave_is_taken_over() {
    let mut old = wave(&[8], 0, false);
    add(&mut old, &[1], 1, false);
    add(&mut old, &[2], 2, false);
    let (a, b) = (old.members[&rank(1)], old.members[&rank(2)]);
    old.unite(a, b);
    let mut new = wave(&[9], 0, false);
    add(&mut new, &[7], 7, false);
    new.absorb(old);
    assert_eq!(starts(&new, 1), (at(2), false));
    assert_eq!(starts(&new, 2), (at(2), false));
    let cohort = new.cohort(new.members[&rank(2)]);
    new.delay(cohort, at(4));
    assert_eq!(starts(&new, 1), (at(4), false));
}

#[test]
fn wave_is_by_hand_only_if_all_of_it_is() {
    for (new, old) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut wave = Wave {
            by_hand: new,
            ..Wave::default()
        };
        wave.absorb(Wave {
            by_hand: old,
            ..Wave::default()
        });
        assert_eq!(wave.by_hand, new && old);
    }
}

#[test]
fn cohorts_that_nobody_is_in_are_forgotten_when_there_are_too_many() {
    let mut wave = wave(&[1, 2], 1, false);
    add(&mut wave, &[3], 3, true);
    // Two for each of three members, and eight to spare.
    for _ in 2..14 {
        wave.new_cohort(at(0), false);
    }
    wave.tidy();
    assert_eq!(wave.cohorts.len(), 14);
    wave.new_cohort(at(0), false);
    wave.tidy();
    assert_eq!(wave.cohorts.len(), 2);
    assert_eq!(starts(&wave, 1), (at(1), false));
    assert_eq!(starts(&wave, 2), (at(1), false));
    assert_eq!(starts(&wave, 3), (at(3), true));
}

#[test]
fn service_that_leaves_a_wave_leaves_all_of_it() {
    let mut wave = wave(&[1], 0, false);
    wave.stop.insert(rank(1), Cause::Ordered);
    wave.askable.insert(rank(1));
    wave.forget(rank(1));
    assert!(wave.stop.is_empty() && wave.askable.is_empty() && wave.members.is_empty());
}

#[test]
fn service_that_gets_another_place_keeps_its_part_in_a_wave() {
    let mut wave = wave(&[1], 3, true);
    wave.stop.insert(rank(1), Cause::Ordered);
    wave.askable.insert(rank(1));
    let moved = Rank {
        place: 7,
        id: ChildId(1),
    };
    wave.move_member(rank(1), moved);
    assert_eq!(wave.stop.get(&moved), Some(&Cause::Ordered));
    assert!(wave.askable.contains(&moved) && wave.members.contains_key(&moved));
    assert_eq!((wave.stop.len(), wave.members.len()), (1, 1));
}
