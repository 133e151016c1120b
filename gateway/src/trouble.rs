//! What ends the gateway with an exit code of its own: mistakes of whoever set it up.

use std::fmt;

use backstay::{BoxError, Failure};
use rusqlite::ErrorCode;

/// Wrong usage of the command line.
pub const EXIT_USAGE: u8 = 2;
/// The configuration was refused.
pub const EXIT_CONFIG: u8 = 4;
/// An address or a serial line can't be used.
pub const EXIT_ADDRESS: u8 = 5;
/// The data folder can't be written.
pub const EXIT_FOLDER: u8 = 6;
/// The database is corrupt.
pub const EXIT_CORRUPT: u8 = 7;

/// Something that no restart makes better, unless somebody does something about it.
#[derive(Debug)]
pub struct Trouble {
    /// The exit code of the process.
    pub code: u8,
    text: String,
}

impl Trouble {
    /// What is wrong with `what`, in one line.
    pub fn new(code: u8, what: impl fmt::Display, why: impl fmt::Display) -> Trouble {
        let text = format!("{what}: {why}").replace('\n', " ");
        Trouble { code, text }
    }

    /// Of a database. Errors that come and go, such as a full disk, stay as they are.
    pub fn of_database(file: impl fmt::Display, why: rusqlite::Error) -> BoxError {
        let code = match why.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => EXIT_CORRUPT,
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => EXIT_FOLDER,
            _ => return why.into(),
        };
        Trouble::new(code, file, why).into()
    }

    /// What a failure is about, if it is one of these.
    pub fn of(failure: &Failure) -> Option<&Trouble> {
        failure.error()?.downcast_ref()
    }

    /// For `Spec::fatal_if`: whether the process shall end. At the first start somebody is there
    /// to read why; later on an address may become free again. A corrupt database stays one.
    pub fn is_fatal(failure: &Failure) -> bool {
        Trouble::of(failure).is_some_and(|it| failure.incarnation() == 1 || it.code == EXIT_CORRUPT)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Trouble {}
