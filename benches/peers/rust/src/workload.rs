//! What a program is asked for.

use crate::Pairs;

/// Below each supervisor of W6.
pub const BELOW_EACH: usize = 10;

/// The levels of W6 below the root: one, ten, a hundred and a thousand supervisors.
pub const LEVELS: usize = 3;

/// All supervisors of W6.
pub const SUPERVISORS: usize = 1_111;

#[derive(Clone, Copy, Debug)]
pub enum Workload {
    W1 { panics: u64 },
    W1e { errors: u64 },
    W2 { services: u64, panics: u64 },
    W3 { services: usize },
    W4(Pairs),
    W5 { services: usize },
    W6,
}

impl Workload {
    /// From the program's arguments.
    ///
    /// # Panics
    /// They are wrong.
    pub fn from_args() -> Workload {
        let mut args = std::env::args().skip(1);
        let name = args.next().unwrap_or_default();
        let mut number = || -> u64 {
            let text = args.next().unwrap_or_default();
            let number = text.parse();
            number.unwrap_or_else(|_| panic!("a number is missing: {text:?}"))
        };
        match name.as_str() {
            "w1" => Workload::W1 { panics: number() },
            "w1e" => Workload::W1e { errors: number() },
            "w2" => Workload::W2 {
                services: number(),
                panics: number(),
            },
            "w3" => Workload::W3 {
                services: number() as usize,
            },
            "w4" | "w4r" => Workload::W4(Pairs {
                pairs: number(),
                clients: number(),
                until_it_runs: name == "w4r",
            }),
            "w5" => Workload::W5 {
                services: number() as usize,
            },
            "w6" => Workload::W6,
            _ => panic!("no workload {name:?}"),
        }
    }
}
