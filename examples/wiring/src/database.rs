//! Opens an SQLite file, and looks after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstay::{Context, Key, ServiceResult, Spec};
use rusqlite::Connection;

use crate::config::CONFIG;

/// The notes in a file.
pub struct Database(Mutex<Connection>);

pub const DATABASE: Key<Database> = Key::new("database");

/// How often it looks whether the file is still good.
const EVERY: Duration = Duration::from_millis(50);

pub fn spec() -> Spec {
    Spec::new("database", run)
        .needs(&CONFIG)
        .provides(&DATABASE)
}

fn run(ctx: &Context) -> ServiceResult {
    let config = ctx.get(&CONFIG)?;
    let connection = Connection::open(&config.database)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, text TEXT NOT NULL)",
    )?;
    let name = config.database.file_name().unwrap_or_default();
    let greeting = format!("greetings from {}", name.to_string_lossy());
    connection.execute(
        "INSERT OR REPLACE INTO notes VALUES ('hello', ?1)",
        [greeting],
    )?;
    let database = Arc::new(Database(Mutex::new(connection)));
    ctx.provide(&DATABASE, database.clone())?;
    loop {
        // An error ends this incarnation, and all that use it; the next one makes a new table.
        ctx.set_status(format!("notes: {}", database.notes()?.len()));
        ctx.sleep(EVERY)?;
    }
}

impl Database {
    /// All of them, each with its name.
    pub fn notes(&self) -> rusqlite::Result<Vec<(String, String)>> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = connection.prepare("SELECT name, text FROM notes")?;
        let notes = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        notes.collect()
    }
}
