//! `gateway`: the demonstration; `gateway --config FILE`: the real thing. Exit codes are in the README.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gateway::config::Config;
use gateway::demo::{self, devices, pty::Pty};
use gateway::tree;
use gateway::trouble::{EXIT_CONFIG, EXIT_USAGE, Trouble};

const USAGE: &str = "usage: gateway [--config FILE]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => match demo::config() {
            Ok((config, line)) => run(None, config, Some(line)),
            Err(why) => refuse(EXIT_CONFIG, why),
        },
        ["--config", file] => match Config::load(Path::new(file)) {
            Ok(config) => run(Some(file.into()), config, None),
            Err(why) => refuse(EXIT_CONFIG, why),
        },
        // What the demonstration starts as its devices.
        ["simulate", tcp, udp] => match (tcp.parse(), udp.parse()) {
            (Ok(tcp), Ok(udp)) => {
                devices::run(tcp, udp).map_or_else(|e| refuse(1, e), |()| ExitCode::SUCCESS)
            }
            _ => refuse(EXIT_USAGE, USAGE),
        },
        _ => refuse(EXIT_USAGE, USAGE),
    }
}

fn run(file: Option<PathBuf>, config: Config, line: Option<Pty>) -> ExitCode {
    let ended = tree::build(file, config, line).and_then(|app| {
        app.run()?;
        Ok(app.stop())
    });
    match ended {
        Ok(report) if report.is_empty() => report.exit_code().into(),
        Ok(report) => refuse(report.exit_code(), report),
        Err(e) => match e.failure().and_then(Trouble::of) {
            Some(trouble) => refuse(trouble.code, trouble),
            None => refuse(1, e),
        },
    }
}

fn refuse(code: u8, why: impl std::fmt::Display) -> ExitCode {
    eprintln!("gateway: {why}");
    code.into()
}
