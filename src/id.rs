//! Identities: which supervisor, which service, and what a name may look like.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind};

/// The longest name of a service or a supervisor, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Names one service of one supervisor for as long as that supervisor lives.
///
/// An id is handed out by [`Supervisor::add`](crate::Supervisor::add) and its siblings and is
/// never used again, also not for a later service of the same name. Given to another supervisor
/// it is refused with [`ErrorKind::WrongSupervisor`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    pub(crate) supervisor: SupervisorId,
    pub(crate) child: ChildId,
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceId({}.{})", self.supervisor.0, self.child.0)
    }
}

/// A supervisor of this process. Not an `AtomicU64`: small targets have none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SupervisorId(usize);

impl SupervisorId {
    pub(crate) fn fresh() -> SupervisorId {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        SupervisorId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A service within its supervisor, numbered in order of adding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ChildId(pub(crate) u64);

/// A map by service. The ids are counted, not chosen by anybody, so that they need no hash that resists
/// an attack.
pub(crate) type ChildMap<V> = HashMap<ChildId, V, BuildHasherDefault<ChildHasher>>;

/// Spreads a counter over all bits.
#[derive(Default)]
pub(crate) struct ChildHasher(u64);

impl Hasher for ChildHasher {
    fn write_u64(&mut self, n: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A name is 1 to [`NAME_BYTES_MAX`] bytes without a dot (the separator of paths), white space or
/// control characters.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 64 bytes"
    } else if name.contains('.') {
        "has a dot, which separates the parts of a path"
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "has white space or a control character"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::BadName,
        format!("bad name {name:?}: the name {why}"),
    ))
}
