//! Failures on demand, for the chaos test: lines `SERVICE panic|error|hang` at a unix socket that
//! the configuration names ([`Limits::fault_socket`](crate::config::Limits)), and usually does not. Each is
//! answered with an empty line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backstay::ServiceResult;
use backstay::services::Listener;

use crate::config::lock;
use crate::tree::Shared;

/// How long a service hangs, deaf to its stop.
const HANG: Duration = Duration::from_secs(4);

/// How many faults wait to be met by their services; further ones are dropped.
const WAITING_MAX: usize = 64;

/// What shall befall which service.
#[derive(Default, Debug)]
pub struct Faults {
    waiting: Mutex<Vec<(String, String)>>,
    /// How many those are: nobody takes the lock for nothing.
    count: AtomicUsize,
}

/// Takes orders.
pub fn service(socket: &Path, gateway: Shared) -> Listener {
    Listener::unix(socket, move |mut stream, _ctx| {
        for line in BufReader::new(stream.try_clone()?).lines() {
            if let Some((service, what)) = line?.split_once(' ') {
                let faults = &gateway.faults;
                let mut waiting = lock(&faults.waiting);
                waiting.push((service.to_owned(), what.to_owned()));
                waiting.truncate(WAITING_MAX);
                faults.count.store(waiting.len(), Ordering::Release);
            }
            stream.write_all(b"\n")?;
        }
        Ok(())
    })
}

impl Faults {
    /// Called by each service where it does its work: here it fails, if that was ordered.
    ///
    /// # Errors
    /// It shall fail so.
    pub fn strike(&self, service: &str) -> ServiceResult {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut waiting = lock(&self.waiting);
        let Some(at) = waiting.iter().position(|(name, _)| name == service) else {
            return Ok(());
        };
        let (_, what) = waiting.remove(at);
        self.count.store(waiting.len(), Ordering::Release);
        drop(waiting);
        println!("fault: {service} {what}");
        match what.as_str() {
            "panic" => panic!("ordered"),
            "hang" => std::thread::sleep(HANG),
            _ => return Err("ordered".into()),
        }
        Ok(())
    }
}
