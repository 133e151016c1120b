//! Times of any length, wherever one may be given: nothing overflows, nothing waits longer than asked.
#![no_main]

use std::time::Duration;

use backstay::{Backoff, Context, Exceeded, Key, Limit, Spec, Supervisor};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const KEY: Key<u32> = Key::new("key");

#[derive(Clone, Copy, Arbitrary, Debug)]
enum Time {
    Zero,
    Nanos(u16),
    Any(Duration),
    Max,
}

impl Time {
    fn get(self) -> Duration {
        match self {
            Time::Zero => Duration::ZERO,
            Time::Nanos(n) => Duration::from_nanos(n.into()),
            Time::Any(time) => time,
            Time::Max => Duration::MAX,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Input {
    stop: Time,
    ready: Time,
    backoff: Time,
    reset: Time,
    pause: Time,
    bounce: Time,
    sleep: Time,
    window: Time,
    wait: Time,
    fails: u8,
}

fuzz_target!(|input: Input| {
    let limit = Limit::window(1, input.window.get()).then(Exceeded::Pause {
        time: input.pause.get(),
        jitter: 1.0,
    });
    let app = Supervisor::builder("app")
        .stop_timeout(input.stop.get())
        .service_stop_timeout(input.stop.get())
        .bounce_delay(input.bounce.get())
        .limit(limit)
        .build();
    let Ok(app) = app else {
        assert!(input.window.get().is_zero());
        return;
    };
    let (sleep, fails) = (input.sleep.get(), u64::from(input.fails % 4));
    let spec = Spec::new("a", move |ctx: &Context| {
        if ctx.incarnation() <= fails {
            return Err("fails".into());
        }
        ctx.ready();
        ctx.provide(&KEY, 1)?;
        let _woken = ctx.sleep(sleep);
        ctx.wait_stop();
        Ok(())
    });
    let backoff = Backoff::exponential(input.backoff.get(), Duration::MAX);
    let spec = spec
        .provides(&KEY)
        .ready_timeout(input.ready.get())
        .stop_timeout(input.stop.get())
        .backoff(backoff.reset_after(input.reset.get()));
    let Ok(id) = app.add_spec(spec) else {
        assert!(input.ready.get().is_zero());
        return;
    };
    app.start().unwrap();
    // Those that need not come are waited for a short time only.
    let brief = input.wait.get().min(Duration::from_micros(200));
    let _late = app.wait_ready(brief);
    let _late = app.get(&KEY, brief);
    let _late = app.wait_service(id, brief);
    assert!(app.wait_timeout(brief).is_none_or(|end| end.is_err()));
    assert_eq!(app.report().to_string().lines().count(), 2);
    app.restart_service(id).unwrap_or_default();
    let _late = app.remove_and_wait(id, brief);
    app.stop();
    // It has ended, so nothing of these waits.
    let longest = input.wait.get();
    assert!(app.wait_timeout(longest).is_some());
    assert!(app.wait_ready(longest).is_err());
    assert!(app.get(&KEY, longest).is_err());
    let _end = app.wait_service(id, longest);
});
