//! The configuration: a TOML file, read at the start and again at SIGHUP.
//!
//! Each section is a value of its own under a key of its own. At a reload the sections that differ
//! are provided anew, and so the services that need those restart, and no others.

use std::fs;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay::crossbeam_channel::select;
use backstay::{Context, Key, ServiceResult};
use serde::Deserialize;

use crate::tree::Shared;

/// Where devices come in.
pub const INTAKE: Key<Intake> = Key::new("intake");
/// Where the database is.
pub const DATA: Key<Data> = Key::new("data");
/// Where lines go to.
pub const UPLOAD: Key<Upload> = Key::new("upload");
/// How long lines are kept.
pub const RETENTION: Key<Retention> = Key::new("retention");

/// The whole file. The example, `gateway.toml`, says what everything means.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub data: Data,
    pub intake: Intake,
    pub upload: Upload,
    pub retention: Retention,
    pub limits: Limits,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub folder: PathBuf,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intake {
    pub tcp: SocketAddr,
    pub udp: SocketAddr,
    pub serial: Option<PathBuf>,
    pub connections_max: NonZeroUsize,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    pub peer: Option<String>,
    pub batch_lines: NonZeroU32,
    pub idle_ms: NonZeroU32,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub keep_hours: NonZeroU32,
    pub lines_max: NonZeroU32,
    pub every_s: NonZeroU32,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub failures_per_minute: NonZeroU32,
    pub fault_socket: Option<PathBuf>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// One line: the file, the line in it, and what is wrong there.
    pub fn load(file: &Path) -> Result<Config, String> {
        let name = file.display().to_string();
        let text = fs::read_to_string(file).map_err(|e| format!("{name}: {e}"))?;
        Config::parse(&text, &name)
    }

    /// As [`load`](Config::load), of a file of that name.
    pub fn parse(text: &str, name: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.unwrap_or_default().matches('\n').count() + 1;
            format!("{name}:{line}: {}", e.message().replace('\n', "; "))
        })
    }
}

/// Provides the sections, and those that have changed again when a reading is asked for.
pub fn keep(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let mut now = lock(&gateway.config).clone();
    publish(ctx, None, &now)?;
    loop {
        select! {
            recv(gateway.reload.1) -> _ => gateway.faults.strike("config")?,
            recv(ctx.stop_signal()) -> _ => return Ok(()),
        }
        let file = &gateway.file;
        match Config::load(file) {
            Ok(next) => {
                publish(ctx, Some(&now), &next)?;
                ctx.log(format!("read {} again", file.display()));
                if next.limits != now.limits {
                    ctx.log("a change of [limits] needs a restart of the process");
                }
                *lock(&gateway.config) = next.clone();
                now = next;
            }
            Err(why) => ctx.log(format!("kept the configuration as it was: {why}")),
        }
    }
}

/// Also after a panic: what is in it is whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn publish(ctx: &Context, old: Option<&Config>, new: &Config) -> ServiceResult {
    section(ctx, &DATA, old.map(|old| &old.data), &new.data)?;
    section(ctx, &INTAKE, old.map(|old| &old.intake), &new.intake)?;
    section(ctx, &UPLOAD, old.map(|old| &old.upload), &new.upload)?;
    section(
        ctx,
        &RETENTION,
        old.map(|old| &old.retention),
        &new.retention,
    )
}

fn section<T>(ctx: &Context, key: &Key<T>, old: Option<&T>, new: &T) -> ServiceResult
where
    T: PartialEq + Clone + Send + Sync + 'static,
{
    if old != Some(new) {
        ctx.provide(key, new.clone())?;
    }
    Ok(())
}
