//! `gateway`: the demonstration; `gateway --config FILE`: the real thing. Exit codes are in the README.

use std::path::PathBuf;
use std::process::ExitCode;

use gateway::config::Config;
use gateway::demo::{self, devices, pty::Pty};
use gateway::tree;
use gateway::trouble::{EXIT_CONFIG, EXIT_FOLDER, EXIT_USAGE, Trouble};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => match demo::prepare() {
            Ok((file, line)) => run(file, Some(&line)),
            Err(e) => refuse(EXIT_FOLDER, e),
        },
        ["--config", file] => run(file.into(), None),
        // What the demonstration starts as its devices.
        ["simulate", tcp, udp] => match devices::run(tcp, udp) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => refuse(1, e),
        },
        _ => refuse(EXIT_USAGE, "usage: gateway [--config FILE]"),
    }
}

fn run(file: PathBuf, line: Option<&Pty>) -> ExitCode {
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(why) => return refuse(EXIT_CONFIG, why),
    };
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
