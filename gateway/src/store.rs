//! The database: one service writes, everybody else asks it to.
//!
//! SQLite has one writer at a time anyhow. With one thread for it nobody waits for a lock, and what
//! comes while a commit is on its way to the disk goes into the next one together.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstay::crossbeam_channel::{Receiver, bounded, select};
use backstay::{BoxError, Context, Error, ErrorKind, Key, ServiceResult};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::config::DATA;
use crate::line::{Fate, Record};
use crate::tree::{Gateway, Shared};
use crate::trouble::{EXIT_CORRUPT, EXIT_FOLDER, Trouble};

/// The file of a database that is there, with all its tables.
pub const STORE: Key<PathBuf> = Key::new("store");

/// How many writes may wait for the writer.
pub const QUEUE_MAX: usize = 1_000;

/// How many writes go into one commit.
const BATCH_MAX: usize = 256;

/// How long whoever wants something written waits for it. Then the answer is "busy".
const PATIENCE: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS lines (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        device TEXT NOT NULL, seq INTEGER NOT NULL,
        metric TEXT NOT NULL, value REAL NOT NULL, received INTEGER NOT NULL,
        UNIQUE (device, seq));
    CREATE TABLE IF NOT EXISTS pruned (device TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS uploaded (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL);
    INSERT OR IGNORE INTO uploaded VALUES (1, 0);";

/// Something to be done in the next transaction, and what tells whoever wanted it that it is committed.
pub type Write = Box<dyn FnOnce(&Transaction<'_>) -> rusqlite::Result<Tell> + Send>;
pub type Tell = Box<dyn FnOnce() + Send>;

impl Gateway {
    /// Has `f` write, and returns when that is committed.
    ///
    /// # Errors
    /// Not in time, the writer has failed, or the service that waits shall stop. (One that needs what the
    /// writer provides would hold up the restart of the writer that it waits for.) Perhaps it is written.
    pub fn write<R: Send + 'static>(
        &self,
        ctx: &Context,
        f: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, Error> {
        let busy = || Error::new(ErrorKind::Timeout, "the writer is busy");
        let (tell, told) = bounded(1);
        let write: Write = Box::new(move |transaction| {
            let answer = f(transaction)?;
            Ok(Box::new(move || drop(tell.send(answer))))
        });
        select! {
            send(self.writes.0, write) -> sent => sent.map_err(|_| busy())?,
            recv(ctx.stop_signal()) -> _ => return Err(busy()),
            default(PATIENCE) => return Err(busy()),
        }
        select! {
            recv(told) -> answer => answer.map_err(|_| busy()),
            recv(ctx.stop_signal()) -> _ => Err(busy()),
            default(PATIENCE) => Err(busy()),
        }
    }
}

/// Commits what waits, and then says so to whoever wanted it.
pub fn writer(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let file = ctx.get(&DATA)?.folder.join("gateway.db");
    let mut database = open(&file, ctx.incarnation() == 1)?;
    ctx.provide(&STORE, file.clone())?;
    let waiting = &gateway.writes.1;
    loop {
        let first = select! {
            recv(waiting) -> write => write?,
            recv(ctx.stop_signal()) -> _ => return Ok(()),
        };
        gateway.faults.strike("writer")?;
        let tell = commit(&mut database, first, waiting)
            .map_err(|e| Trouble::of_database(file.display(), e))?;
        gateway.committed.fetch_add(tell.len(), Ordering::Relaxed);
        tell.into_iter().for_each(|tell| tell());
    }
}

/// This write, and those that wait, in one transaction.
fn commit(
    database: &mut Connection,
    first: Write,
    waiting: &Receiver<Write>,
) -> rusqlite::Result<Vec<Tell>> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut tell = vec![first(&transaction)?];
    while tell.len() < BATCH_MAX {
        let Ok(next) = waiting.try_recv() else { break };
        tell.push(next(&transaction)?);
    }
    transaction.commit()?;
    Ok(tell)
}

/// `check` reads all of it.
fn open(file: &Path, check: bool) -> Result<Connection, BoxError> {
    let shown = file.display();
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).map_err(|e| Trouble::new(EXIT_FOLDER, folder.display(), e))?;
    let opened = Connection::open(file).and_then(|database| {
        database.execute_batch(SCHEMA)?;
        let check = match check {
            true => "PRAGMA quick_check(1)",
            false => "SELECT 'ok'",
        };
        let found: String = database.query_row(check, [], |row| row.get(0))?;
        Ok((database, found))
    });
    match opened.map_err(|e| Trouble::of_database(&shown, e))? {
        (database, found) if found == "ok" => Ok(database),
        (_, found) => Err(Trouble::new(EXIT_CORRUPT, shown, found).into()),
    }
}

/// Stores lines, each once.
///
/// # Errors
/// SQLite's.
pub fn insert(transaction: &Transaction<'_>, records: &[Record]) -> rusqlite::Result<Vec<Fate>> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO lines (device, seq, metric, value, received) SELECT ?1, ?2, ?3, ?4, unixepoch()
         WHERE ?2 > coalesce((SELECT seq FROM pruned WHERE device = ?1), -1)
         ON CONFLICT (device, seq) DO NOTHING",
    )?;
    let mut find =
        transaction.prepare_cached("SELECT 1 FROM lines WHERE device = ? AND seq = ?")?;
    let mut store = |r: &Record| {
        if insert.execute(params![r.device, r.seq, r.metric, r.value])? == 1 {
            return Ok(Fate::Stored);
        }
        let there = find
            .query_row(params![r.device, r.seq], |_| Ok(()))
            .optional()?;
        Ok(there.map_or(Fate::TooOld, |()| Fate::Again))
    };
    records.iter().map(&mut store).collect()
}

/// Removes lines that were received more than `keep_s` seconds ago, and the oldest beyond `lines_max`:
/// up to `at_once`, and answers how many. Remembers for each device up to which number.
///
/// # Errors
/// SQLite's.
pub fn prune(
    transaction: &Transaction<'_>,
    keep_s: i64,
    lines_max: u32,
    at_once: u32,
) -> rusqlite::Result<usize> {
    let keep_from: i64 = transaction.query_row(
        "SELECT max(coalesce((SELECT id FROM lines WHERE received >= unixepoch() - ?1 ORDER BY id LIMIT 1), last + 1),
                    last + 1 - ?2) FROM (SELECT coalesce(max(id), 0) AS last FROM lines)",
        params![keep_s, lines_max],
        |row| row.get(0),
    )?;
    transaction.execute(
        "INSERT INTO pruned SELECT device, max(seq) FROM
             (SELECT device, seq FROM lines WHERE id < ?1 ORDER BY id LIMIT ?2) GROUP BY device
         ON CONFLICT (device) DO UPDATE SET seq = max(seq, excluded.seq)",
        params![keep_from, at_once],
    )?;
    transaction.execute(
        "DELETE FROM lines WHERE id IN (SELECT id FROM lines WHERE id < ?1 ORDER BY id LIMIT ?2)",
        params![keep_from, at_once],
    )
}
