//! Lines on their way to the peer: one service reads batches from the database, another one posts
//! them. They are a group: if one fails, both begin again from what is known to be there.
//!
//! The peer may get a batch twice, if its answer or our note of it is lost. Device and sequence
//! number tell it so.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use backstay::crossbeam_channel::select;
use backstay::{BoxError, Context, Key, ServiceResult};
use rusqlite::{Connection, OpenFlags, params};

use crate::config::UPLOAD;
use crate::http;
use crate::store::STORE;
use crate::tree::Shared;

/// Where the peer of the demonstration is.
pub const PEER: Key<SocketAddr> = Key::new("peer");

/// Lines as they are posted.
#[derive(Debug)]
pub struct Batch {
    /// The greatest id in it.
    last: i64,
    body: String,
}

/// Hands on batch after batch, in the order of commits.
pub fn reader(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let upload = ctx.get(&UPLOAD)?;
    let database =
        Connection::open_with_flags(&*ctx.get(&STORE)?, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut last = database.query_row("SELECT id FROM uploaded", [], |row| row.get(0))?;
    loop {
        gateway.faults.strike("upload-read")?;
        let Some(batch) = read(&database, last, upload.batch_lines.get())? else {
            ctx.sleep(Duration::from_millis(upload.idle_ms.get().into()))?;
            continue;
        };
        last = batch.last;
        select! {
            send(gateway.handover.0, batch) -> sent => sent?,
            recv(ctx.stop_signal()) -> _ => return Ok(()),
        }
    }
}

/// Posts what it is handed, and has it noted.
pub fn sender(gateway: &Shared, ctx: &Context) -> ServiceResult {
    // The configured peer, or that of the demonstration; without one it waits for either.
    let peer = match &ctx.get(&UPLOAD)?.peer {
        Some(peer) => peer.clone(),
        None => ctx.get(&PEER)?.to_string(),
    };
    loop {
        let batch = select! {
            recv(gateway.handover.1) -> batch => batch?,
            recv(ctx.stop_signal()) -> _ => return Ok(()),
        };
        gateway.faults.strike("upload-send")?;
        http::post(ctx, &peer, "/lines", batch.body.as_bytes())?;
        gateway.write(ctx, move |transaction| {
            transaction.execute("UPDATE uploaded SET id = ?1 WHERE id < ?1", [batch.last])
        })?;
        ctx.set_status(format!("the peer has everything up to {}", batch.last));
    }
}

fn read(database: &Connection, after: i64, lines_max: u32) -> Result<Option<Batch>, BoxError> {
    let mut select = database.prepare_cached(
        "SELECT id, device, seq, metric, value FROM lines WHERE id > ? ORDER BY id LIMIT ?",
    )?;
    let mut rows = select.query(params![after, lines_max])?;
    let mut batch = Batch {
        last: after,
        body: String::new(),
    };
    while let Some(row) = rows.next()? {
        batch.last = row.get(0)?;
        let (device, metric) = (row.get_ref(1)?.as_str()?, row.get_ref(3)?.as_str()?);
        let (seq, value): (i64, f64) = (row.get(2)?, row.get(4)?);
        writeln!(batch.body, "{device} {seq} {metric} {value}")?;
    }
    Ok((batch.last > after).then_some(batch))
}
