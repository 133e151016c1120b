//! The stub peer as a process of its own: `peer ADDRESS`, such as `peer 127.0.0.1:8080`.

use std::process::ExitCode;

use backstay::{Spec, Supervisor};
use gateway::{demo::peer, upload::PEER};

fn main() -> Result<ExitCode, backstay::Error> {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: peer ADDRESS");
        return Ok(ExitCode::from(2));
    };
    let app = Supervisor::new("peer");
    app.add_spec(Spec::new("http", peer::service(&address)).provides(&PEER))?;
    app.run()?;
    Ok(ExitCode::from(app.stop().exit_code()))
}
