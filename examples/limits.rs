//! A service in a crash loop meets the default limit: five failures restart it at once, the sixth
//! makes the supervisor pause, and the service beside it runs on.
//!
//! `cargo run --example limits`

use std::time::Duration;

use backstay::{Context, Event, Supervisor};

fn main() -> Result<(), backstay::Error> {
    let app = Supervisor::builder("app")
        .quiet_panics() // the events below say it all
        .on_event(|event: &Event| println!("{event}"))
        .build()?;
    app.add("steady", |ctx: &Context| {
        ctx.set_status("untouched");
        ctx.wait_stop();
        Ok(())
    })?;
    app.add("flaky", |ctx: &Context| {
        panic!("start {} goes wrong, too", ctx.incarnation())
    })?;

    let events = app.subscribe(256);
    app.start()?;
    while let Some(event) = events.recv_timeout(Duration::from_secs(5)) {
        if event.word() == "paused" {
            break;
        }
    }

    // A pause holds up restarts for 15 s or more, but nothing else: not the report, not a stop.
    println!("\n{}\n", app.report());
    println!("{}", app.stop());
    Ok(())
}
