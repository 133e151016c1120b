//! What the demonstration and the tests put around the gateway: devices, a peer to upload to, a picture
//! of the tree, and faults.

pub mod devices;
pub mod faults;
pub mod peer;
pub mod pty;

use std::fs;
use std::io::{IsTerminal, stdout};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{self, Stdio};
use std::time::Duration;

use backstay::services::{Cleanup, Command, Interval};
use backstay::{Context, Error, Service, ServiceResult, Spec, Supervisor, service_fn};

use crate::config::Config;
use crate::intake::{TCP, UDP};
use crate::upload::PEER;
use pty::Pty;

/// How often the tree is printed: on a terminal, and elsewhere.
const SCREEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// What is used without a file: the example, with a folder and ports that are free, and the line that a
/// simulated device is at.
///
/// # Errors
/// The system has no such line left.
pub fn config() -> Result<(Config, Pty), String> {
    let pty = Pty::new().map_err(|e| format!("no serial line: {e}"))?;
    let mut config = Config::parse(include_str!("../../gateway.toml"), "gateway.toml")?;
    let folder = format!("gateway-{}", process::id());
    config.data.folder = std::env::temp_dir().join(folder);
    config.intake.tcp = SocketAddr::from(([127, 0, 0, 1], 0));
    config.intake.udp = config.intake.tcp;
    config.intake.serial = Some(pty.device().to_owned());
    Ok((config, pty))
}

/// What is to be added before everything else, so that it stops last: removes the folder then.
///
/// # Errors
/// None before the start.
pub fn add_first(app: &Supervisor, folder: &Path) -> Result<(), Error> {
    let (cleanup, folder) = (Cleanup::new(), folder.to_owned());
    cleanup.push(move || Ok(fs::remove_dir_all(&folder)?))?;
    app.add("cleanup", cleanup)?;
    Ok(())
}

/// A peer, devices, and a picture.
///
/// # Errors
/// None before the start.
pub fn add_last(app: &Supervisor, pty: Pty) -> Result<(), Error> {
    // Another process of this program.
    let devices = move |ctx: &Context| -> ServiceResult {
        let (tcp, udp) = (ctx.get(&TCP)?.to_string(), ctx.get(&UDP)?.to_string());
        let (program, line) = (std::env::current_exe()?, pty.other_end()?);
        Command::from_std(move || {
            let mut command = process::Command::new(&program);
            command.args(["simulate", &tcp, &udp]);
            command.stdin(line.try_clone().map_or(Stdio::null(), Stdio::from));
            command
        })
        .keep_stdio()
        .run(ctx)
    };
    app.add_all([
        Spec::new("peer", peer::service("127.0.0.1:0")).provides(&PEER),
        Spec::new("devices", devices).needs(&TCP).needs(&UDP),
        Spec::new("screen", screen()),
    ])?;
    Ok(())
}

/// Draws the tree again and again.
fn screen() -> impl Service {
    let on_terminal = stdout().is_terminal();
    let [often, seldom] = SCREEN;
    let draw = service_fn(move |ctx| {
        // The time that everything takes to start.
        let _not_ready = ctx.root().wait_ready(Duration::from_secs(1));
        let clear = if on_terminal { "\x1b[H\x1b[2J" } else { "" };
        println!("{clear}{}\n", ctx.root().report());
        Ok(())
    });
    Interval::new(if on_terminal { often } else { seldom }, draw)
}
