//! Reads a file, and reads it again when it has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use backstay::{BoxError, Context, Key, Spec};

/// What the others need to know.
pub struct Config {
    pub database: PathBuf,
    pub listen: String,
    pub interval: Duration,
}

pub const CONFIG: Key<Config> = Key::new("config");

/// How often it looks whether the file has changed.
const EVERY: Duration = Duration::from_millis(50);

pub fn spec(file: PathBuf) -> Spec {
    let watch = move |ctx: &Context| {
        let mut text = fs::read_to_string(&file)?;
        ctx.provide(&CONFIG, parse(&text)?)?;
        loop {
            ctx.sleep(EVERY)?;
            let now = fs::read_to_string(&file)?;
            if now != text {
                // Whoever has the old value is started anew with this one.
                ctx.provide(&CONFIG, parse(&now)?)?;
                text = now;
            }
        }
    };
    Spec::new("config", watch).provides(&CONFIG)
}

/// Lines of `key = value`.
fn parse(text: &str) -> Result<Config, BoxError> {
    let find = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let line = lines.find(|(k, _)| k.trim() == key);
        line.map(|(_, value)| value.trim().to_owned())
            .ok_or_else(|| format!("the config file has no line for {key}"))
    };
    Ok(Config {
        database: find("database")?.into(),
        listen: find("listen")?,
        interval: Duration::from_millis(find("interval_ms")?.parse()?),
    })
}

/// Writes such a file, so that nobody ever sees the half of it.
pub fn write(file: &Path, database: &Path) -> io::Result<()> {
    let draft = file.with_extension("draft");
    let database = database.display();
    let text = format!("database = {database}\nlisten = 127.0.0.1:0\ninterval_ms = 200\n");
    fs::write(&draft, text)?;
    fs::rename(draft, file)
}
