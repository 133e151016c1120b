//! W1, W1e, W2, W4 and W6 beside what the machine allows. `ratios` compares them in turns and with
//! their targets; this is for following one of them over time.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod load;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use load::flaky::{self, Flaky, How};
use load::pairs::Pairs;
use load::{bare, crowd, tree};

fn restart(c: &mut Criterion) {
    let mut group = c.benchmark_group("W1 restart after a panic");
    bare::install_hook();
    group.bench_function("panic, catch_unwind, trace", |b| {
        b.iter_custom(bare::panics);
    });
    let panics = Flaky::new(How::Panic);
    group.bench_function("backstay", |b| b.iter_custom(|n| panics.round(n)));
    drop(panics);
    group.finish();

    let mut group = c.benchmark_group("W1e restart after an error");
    group.bench_function("round trip", |b| b.iter_custom(bare::round_trips));
    let errors = Flaky::new(How::Error);
    group.bench_function("backstay", |b| b.iter_custom(|n| errors.round(n)));
    group.finish();
}

fn restarts(c: &mut Criterion) {
    const PANICS: u64 = 100_000;
    let mut group = c.benchmark_group("W2 1,000 services, 100,000 panics");
    group
        .throughput(Throughput::Elements(PANICS))
        .sample_size(10);
    group.bench_function("backstay", |b| {
        b.iter_custom(|n| (0..n).map(|_| crowd::panics(1_000, PANICS).time).sum());
    });
    group.finish();
}

fn add_remove(c: &mut Criterion) {
    let mut group = c.benchmark_group("W4 add, remove and wait");
    let pairs = Pairs::new(0);
    for clients in [1, 4] {
        group.bench_function(BenchmarkId::new("spawn, join", clients), |b| {
            b.iter_custom(|n| bare::spawn_joins(n.next_multiple_of(clients), clients));
        });
        group.bench_function(BenchmarkId::new("backstay", clients), |b| {
            b.iter_custom(|n| pairs.round(n.next_multiple_of(clients), clients));
        });
    }
    group.finish();
}

fn trees(c: &mut Criterion) {
    let mut group = c.benchmark_group("W6 1,111 supervisors");
    group.sample_size(20);
    group.bench_function("1,111 spawns, then joins", |b| {
        b.iter(|| bare::Idle::start(tree::SUPERVISORS).stop());
    });
    let sum = |n: u64, f: fn() -> Duration| (0..n).map(|_| f()).sum();
    group.bench_function("start", |b| {
        b.iter_custom(|n| sum(n, || tree::start_and_stop().0));
    });
    group.bench_function("stop", |b| {
        b.iter_custom(|n| sum(n, || tree::start_and_stop().1));
    });
    group.finish();
}

fn growth(c: &mut Criterion) {
    for size in [10, 100, 1_000, 10_000] {
        let pairs = Pairs::new(size);
        let mut group = c.benchmark_group(format!("growth at {size}"));
        group.bench_function("add", |b| b.iter_custom(|n| pairs.apart(n).0));
        group.bench_function("remove", |b| b.iter_custom(|n| pairs.apart(n).1));
        let (go, took) = flaky::add(pairs.supervisor(), How::Error, |spec| spec);
        group.bench_function("failure", |b| {
            b.iter_custom(|n| {
                go.send(n).unwrap();
                took.recv().unwrap()
            });
        });
        group.throughput(Throughput::Elements(size as u64 + 1));
        group.bench_function("report", |b| b.iter(|| pairs.supervisor().report()));
        group.finish();
    }
}

criterion_group! {
    name = workloads;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = restart, restarts, add_remove, trees, growth
}
criterion_main!(workloads);
