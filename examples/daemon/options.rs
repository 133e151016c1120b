//! The command line.

use std::time::Duration;

pub(crate) const USAGE: &str =
    "usage: daemon [--port N] [--for SECONDS] [--stop-timeout SECONDS] [--stubborn]";

pub(crate) struct Options {
    /// 0: any.
    pub(crate) port: u16,
    /// For ever, unless set.
    pub(crate) run_for: Option<Duration>,
    /// For each service.
    pub(crate) stop_timeout: Duration,
    /// Adds a worker that ignores its stop.
    pub(crate) stubborn: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            port: 0,
            run_for: None,
            stop_timeout: Duration::from_secs(2),
            stubborn: false,
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--port" => options.port = value()?.parse().map_err(|e| format!("{name}: {e}"))?,
                "--for" => options.run_for = Some(seconds(&name, &value()?)?),
                "--stop-timeout" => options.stop_timeout = seconds(&name, &value()?)?,
                "--stubborn" => options.stubborn = true,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(options)
    }
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse().map_err(|e| format!("{name}: {e}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| format!("{name}: {e}"))
}
