//! The configuration: a TOML file, read at the start and again at SIGHUP.
//!
//! Each section is a value of its own under a key of its own. At a reload the sections that differ
//! are provided anew, and so the services that need those restart, and no others.

use std::fs;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstay::crossbeam_channel::{Receiver, select};
use backstay::{Context, Key, Service, ServiceResult};
use serde::Deserialize;

/// Where devices come in.
pub const INTAKE: Key<Intake> = Key::new("intake");
/// Where the database is.
pub const DATA: Key<Data> = Key::new("data");
/// Where lines go to.
pub const UPLOAD: Key<Upload> = Key::new("upload");
/// How long lines are kept.
pub const RETENTION: Key<Retention> = Key::new("retention");

/// The whole file. What is not in it is as in [`Config::default`].
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[data]`
    pub data: Data,
    /// `[intake]`
    pub intake: Intake,
    /// `[upload]`
    pub upload: Upload,
    /// `[retention]`
    pub retention: Retention,
    /// `[limits]`, of the process: a change needs a restart.
    pub limits: Limits,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Made if it is not there.
    pub folder: PathBuf,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intake {
    pub tcp: SocketAddr,
    pub udp: SocketAddr,
    /// A terminal device; "pty" makes one, to try things; unset there is none.
    pub serial: Option<PathBuf>,
    /// How many TCP connections are served at a time; more wait.
    pub connections_max: NonZeroUsize,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upload {
    /// Host and port of the peer; unset nothing is uploaded.
    pub peer: Option<String>,
    /// How many lines go into one request.
    pub batch_lines: NonZeroU32,
    /// How long the uploader waits when there was nothing to upload, in milliseconds.
    pub idle_ms: NonZeroU32,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    pub keep_hours: NonZeroU32,
    /// The disk is finite: the oldest lines beyond these go, uploaded or not.
    pub lines_max: NonZeroU32,
    /// How often it is looked after, in seconds.
    pub every_s: NonZeroU32,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// More failures than that within a minute, the uploader's aside, end the process.
    pub failures_per_minute: NonZeroU32,
    /// A unix socket that takes orders to fail: for tests alone. See [`crate::faults`].
    pub fault_socket: Option<PathBuf>,
}

impl Default for Data {
    fn default() -> Data {
        Data {
            folder: "/var/lib/gateway".into(),
        }
    }
}

impl Default for Intake {
    fn default() -> Intake {
        let local = SocketAddr::from(([127, 0, 0, 1], 7007));
        Intake {
            tcp: local,
            udp: local,
            serial: None,
            connections_max: count(256),
        }
    }
}

impl Default for Upload {
    fn default() -> Upload {
        Upload {
            peer: None,
            batch_lines: number(1_000),
            idle_ms: number(250),
        }
    }
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            keep_hours: number(24 * 7),
            lines_max: number(10_000_000),
            every_s: number(60),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            failures_per_minute: number(60),
            fault_socket: None,
        }
    }
}

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

fn count(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}

impl Retention {
    /// How often it is looked after.
    pub fn every(&self) -> Duration {
        Duration::from_secs(self.every_s.get().into())
    }
}

impl Config {
    /// What is used without a file: everything on this machine, at ports and in a folder that are free.
    pub fn demo() -> Config {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = std::env::temp_dir().join(format!("gateway-{}", std::process::id()));
        Config {
            data: Data { folder },
            intake: Intake {
                tcp: any,
                udp: any,
                serial: Some("pty".into()),
                ..Intake::default()
            },
            ..Config::default()
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// One line: the file, the line in it, and what is wrong there.
    pub fn load(file: &Path) -> Result<Config, String> {
        let shown = file.display();
        let text = fs::read_to_string(file).map_err(|e| format!("{shown}: {e}"))?;
        toml::from_str(&text).map_err(|e| {
            let before = e
                .span()
                .and_then(|span| text.get(..span.start))
                .unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("{shown}:{line}: {}", e.message().replace('\n', "; "))
        })
    }
}

/// Provides the sections, and again those that have changed when `reload` rings.
pub fn service(file: Option<PathBuf>, first: Config, reload: Receiver<()>) -> impl Service {
    // What is in the value outlives a restart of the service.
    let current = Mutex::new(first);
    move |ctx: &Context| -> ServiceResult {
        let mut now = lock(&current).clone();
        publish(ctx, None, &now)?;
        loop {
            select! {
                recv(reload) -> _ => {}
                recv(ctx.stop_signal()) -> _ => return Ok(()),
            }
            let Some(file) = &file else {
                ctx.log("there is no file to read: the gateway was started without");
                continue;
            };
            match Config::load(file) {
                Ok(next) => {
                    publish(ctx, Some(&now), &next)?;
                    ctx.log(format!("read {} again", file.display()));
                    *lock(&current) = next.clone();
                    now = next;
                }
                Err(why) => ctx.log(format!("kept the configuration as it was: {why}")),
            }
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
