//! Figures taken in turns, and how they are printed.

use std::time::Duration;

/// Some figures, each with one value per round.
#[derive(Default)]
pub struct Rounds {
    rows: Vec<(String, Vec<f64>)>,
}

impl Rounds {
    pub fn add(&mut self, name: &str, value: f64) {
        match self.rows.iter_mut().find(|(n, _)| n == name) {
            Some((_, values)) => values.push(value),
            None => self.rows.push((name.to_owned(), vec![value])),
        }
    }

    /// Microseconds for each of `n`.
    pub fn add_time(&mut self, name: &str, time: Duration, n: u64) {
        self.add(name, time.as_secs_f64() * 1e6 / n as f64);
    }

    pub fn median(&self, name: &str) -> f64 {
        let values = self.sorted(name);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub fn min(&self, name: &str) -> f64 {
        self.sorted(name).first().copied().unwrap_or(f64::NAN)
    }

    /// The median of the rounds' ratios: what drifts, drifts for both.
    pub fn ratio(&self, name: &str, to: &str) -> f64 {
        let (own, other) = (self.values(name), self.values(to));
        let mut ratios: Vec<f64> = own.iter().zip(other).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The ratio of the best rounds: the least disturbed ones.
    pub fn ratio_of_best(&self, name: &str, to: &str) -> f64 {
        self.min(name) / self.min(to)
    }

    fn values(&self, name: &str) -> &[f64] {
        let row = self.rows.iter().find(|(n, _)| n == name);
        row.map_or(&[], |(_, values)| values)
    }

    fn sorted(&self, name: &str) -> Vec<f64> {
        let mut values = self.values(name).to_vec();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// Prints figures and remembers which missed their targets.
#[derive(Default)]
pub struct Verdicts {
    missed: Vec<String>,
}

impl Verdicts {
    /// A figure without a target.
    pub fn say(&self, name: &str, value: &str) {
        println!("{name}: {value}");
    }

    /// A figure that must be at most `max`.
    pub fn at_most(&mut self, name: &str, value: &str, measure: f64, max: f64) {
        let word = if measure <= max { "met" } else { "MISSED" };
        println!("{name}: {value} ({measure:.2}, target at most {max}: {word})");
        if measure.is_nan() || measure > max {
            self.missed.push(name.to_owned());
        }
    }

    /// A figure that must be at least `min`.
    pub fn at_least(&mut self, name: &str, value: &str, measure: f64, min: f64) {
        let word = if measure >= min { "met" } else { "MISSED" };
        println!("{name}: {value} ({measure:.2}, target at least {min}: {word})");
        if measure.is_nan() || measure < min {
            self.missed.push(name.to_owned());
        }
    }

    /// Fails only when asked to: a loaded machine misses targets, too.
    pub fn exit_code(&self) -> std::process::ExitCode {
        if self.missed.is_empty() {
            return std::process::ExitCode::SUCCESS;
        }
        println!("missed: {}", self.missed.join(", "));
        match std::env::var_os("BACKSTAY_BENCH_STRICT") {
            Some(strict) if strict == "1" => std::process::ExitCode::FAILURE,
            Some(_) | None => std::process::ExitCode::SUCCESS,
        }
    }
}
