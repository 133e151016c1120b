//! What the demonstration and the tests put around the gateway: devices, a peer to upload to, a picture
//! of the tree, and faults.

pub mod devices;
pub mod faults;
pub mod peer;
pub mod pty;

use std::fs;
use std::io::{self, IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::Duration;

use backstay::services::{Cleanup, Command, Interval};
use backstay::{Context, Error, Service, ServiceResult, Spec, Supervisor, service_fn};

use crate::intake::{TCP, UDP};
use crate::upload::PEER;
use pty::Pty;

/// How often the tree is printed: on a terminal, and elsewhere.
const SCREEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// A folder with a configuration, the example with ports that are free, and the line that a simulated device
/// is at.
///
/// # Errors
/// There is no such folder or line to be had.
pub fn prepare() -> io::Result<(PathBuf, Pty)> {
    let pty = Pty::new()?;
    let folder = std::env::temp_dir().join(format!("gateway-{}", process::id()));
    fs::create_dir(&folder)?;
    let serial = format!("serial = {:?}", pty.device);
    let text = include_str!("../../gateway.toml")
        .replace("\"/var/lib/gateway\"", &format!("{folder:?}"))
        .replace("\"0.0.0.0:7007\"", "\"127.0.0.1:0\"")
        .replace("# serial = \"/dev/ttyS1\"", &serial);
    let file = folder.join("gateway.toml");
    fs::write(&file, text)?;
    Ok((file, pty))
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

/// A peer, devices, one of them at the other end of a serial line, and a picture.
///
/// # Errors
/// None before the start.
pub fn add_last(app: &Supervisor, line: &Pty) -> Result<(), Error> {
    let line = line.other_end.clone();
    // Another process of this program.
    let devices = move |ctx: &Context| -> ServiceResult {
        let (tcp, udp) = (ctx.get(&TCP)?.to_string(), ctx.get(&UDP)?.to_string());
        let (program, line) = (std::env::current_exe()?, line.try_clone()?);
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
