//! Services that need each other: a config file, a database, a cache and a TCP service, wired up by
//! typed keys.
//!
//! ```text
//! config ──► database ──► cache ──► api
//!    ├──────────────────────────────►┘
//!    └─────► heartbeat
//! ```
//!
//! Each says what it needs and what it provides. From that follows who starts after whom, and who
//! restarts when something fails or changes: first somebody drops the table that the database reads, then
//! the config file is edited. Each time the tree and the graph are shown, with who has restarted. It ends by
//! itself.
//!
//! Run with `cargo run -p wiring`.

mod api;
mod cache;
mod config;
mod database;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, io};

use backstay::{BoxError, Context, Events, Report, ServiceReport, ServiceResult, Spec, Supervisor};

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<ExitCode, BoxError> {
    let folder = Folder::new()?;
    let config_file = folder.0.join("wiring.conf");
    let (first, second) = (folder.0.join("first.db"), folder.0.join("second.db"));
    config::write(&config_file, &first)?;

    // Added in whatever order; the keys know better.
    let app = Supervisor::new("app");
    app.add_all([
        api::spec(),
        cache::spec(),
        database::spec(),
        Spec::new("heartbeat", heartbeat).needs(&config::CONFIG),
        config::spec(config_file.clone()),
    ])?;
    let events = app.subscribe(1000);
    println!("== The start\n");
    app.start()?;
    tell_until_ready(&events, "app.api", 1);
    app.wait_ready(PATIENCE)?;
    show("After the start", &app.report());
    println!("The api says: {}\n", ask(&app, "hello")?);

    println!("== Somebody drops the table\n");
    rusqlite::Connection::open(&first)?.execute("DROP TABLE notes", ())?;
    tell_until_ready(&events, "app.api", 2);
    show("After the drop", &app.report());
    println!("The api says: {}\n", ask(&app, "hello")?);

    println!("== Somebody edits the config file\n");
    config::write(&config_file, &second)?;
    tell_until_ready(&events, "app.api", 3);
    show("After the edit", &app.report());
    println!("The api says: {}\n", ask(&app, "hello")?);

    let stopped = app.stop();
    println!("{stopped}");
    Ok(ExitCode::from(stopped.exit_code()))
}

/// Depends on the configuration alone, so it doesn't care about databases.
fn heartbeat(ctx: &Context) -> ServiceResult {
    let config = ctx.get(&config::CONFIG)?;
    loop {
        ctx.set_status(format!("beats every {:?}", config.interval));
        ctx.sleep(config.interval)?;
    }
}

/// As a tree and as a graph, and who has restarted.
fn show(when: &str, report: &Report) {
    println!("== {when}, as a tree\n\n{report}\n");
    println!(
        "== {when}, as a graph\n\n```mermaid\n{}```\n",
        report.to_mermaid()
    );
    let runs = |service: &ServiceReport| format!("{} {}", service.name(), service.incarnation());
    let runs: Vec<String> = report.services().iter().map(runs).collect();
    println!("Incarnations: {}", runs.join(", "));
}

/// Prints what happens until that incarnation is ready.
fn tell_until_ready(events: &Events, path: &str, incarnation: u64) {
    while let Some(event) = events.recv_timeout(PATIENCE) {
        println!("{event}");
        if event.path() == path && event.word() == "ready" && event.incarnation() == incarnation {
            break;
        }
    }
    println!();
}

/// A client. The api has another address after each start.
fn ask(app: &Supervisor, question: &str) -> Result<String, BoxError> {
    let address = app.get(&api::ADDRESS, PATIENCE)?;
    let mut stream = TcpStream::connect(*address)?;
    writeln!(stream, "{question}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// For the files; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("wiring-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {e}", self.0.display());
        }
    }
}
