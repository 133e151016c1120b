//! What an operation costs beside how many services.

use super::flaky::{self, How};
use super::pairs::Pairs;
use super::rounds::{Rounds, Verdicts};

const ROUNDS: usize = 15;

/// Compares the cost at these sizes with that at the first.
pub fn compare(verdicts: &mut Verdicts, sizes: &[usize]) {
    const N: u64 = 500;
    let mut rounds = Rounds::default();
    let crowds: Vec<_> = sizes
        .iter()
        .map(|&size| {
            let pairs = Pairs::new(size);
            let by_itself = flaky::add(pairs.supervisor(), How::Error, |spec| spec);
            let counted = flaky::add(pairs.supervisor(), How::Error, |spec| {
                spec.limit(flaky::out_of_reach())
            });
            let failing = [("failure", by_itself), ("counted failure", counted)];
            (size, pairs, failing)
        })
        .collect();
    for _ in 0..ROUNDS {
        for (size, pairs, failing) in &crowds {
            let (adding, removing) = pairs.apart(N);
            rounds.add_time(&format!("add {size}"), adding, N);
            rounds.add_time(&format!("remove {size}"), removing, N);
            for (what, (go, took)) in failing {
                go.send(N).unwrap();
                rounds.add_time(&format!("{what} {size}"), took.recv().unwrap(), N);
            }
            let reports = (20_000 / size).max(10);
            // The first one after other work finds nothing in the caches, at any size; where few
            // reports make a round it would be a good part of it.
            std::hint::black_box(pairs.supervisor().report());
            let begun = std::time::Instant::now();
            for _ in 0..reports {
                std::hint::black_box(pairs.supervisor().report());
            }
            let entries = (reports * (size + 1)) as u64;
            rounds.add_time(&format!("report entry {size}"), begun.elapsed(), entries);
        }
    }
    let named: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    for what in [
        "add",
        "remove",
        "failure",
        "counted failure",
        "report entry",
    ] {
        let first = format!("{what} {}", sizes[0]);
        let values: Vec<String> = sizes
            .iter()
            .map(|size| format!("{:.2}", rounds.median(&format!("{what} {size}"))))
            .collect();
        let worst = sizes
            .iter()
            .map(|size| rounds.ratio(&format!("{what} {size}"), &first))
            .fold(0.0, f64::max);
        verdicts.at_most(
            &format!("growth: {what} at {} services", named.join(", ")),
            &format!("{} us", values.join(", ")),
            worst,
            1.3,
        );
    }
}
