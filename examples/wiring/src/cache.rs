//! Keeps the notes in memory.

use std::collections::HashMap;

use backstay::{Context, Key, ServiceResult, Spec};

use crate::database::DATABASE;

pub type Cache = HashMap<String, String>;

pub const CACHE: Key<Cache> = Key::new("cache");

pub fn spec() -> Spec {
    Spec::new("cache", run).needs(&DATABASE).provides(&CACHE)
}

fn run(ctx: &Context) -> ServiceResult {
    let notes: Cache = ctx.get(&DATABASE)?.notes()?.into_iter().collect();
    ctx.provide(&CACHE, notes)?;
    ctx.wait_stop();
    Ok(())
}
