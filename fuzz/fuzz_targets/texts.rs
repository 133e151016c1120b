//! Errors, panics, statuses and log texts of any content, through a service that runs: what is told of
//! them is whole, and what is for one line stays in one.
#![no_main]

use std::time::Duration;

use backstay::{Context, End, Errors, Exceeded, FailureKind, Limit, Restart, Spec, Supervisor};
use backstay_fuzz::{dot, is_one_line, mermaid};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Arbitrary, Debug)]
struct Input {
    how: How,
    text: String,
    second: Option<String>,
    status: String,
    log: String,
}

#[derive(Clone, Copy, Arbitrary, PartialEq, Debug)]
enum How {
    Error,
    Panic,
    Caught,
}

fuzz_target!(|input: Input| {
    // A hook of the fuzzer ends the process at a panic that is not quiet.
    let app = Supervisor::builder("app").quiet_panics().build().unwrap();
    let events = app.subscribe(64);
    let (how, text, second) = (input.how, input.text.clone(), input.second.clone());
    let (status, log) = (input.status.clone(), input.log.clone());
    let service = move |ctx: &Context| {
        ctx.set_status(status.clone());
        ctx.log(log.clone());
        let mut errors = Errors::new();
        match how {
            How::Error => errors.push(text.clone()),
            How::Panic => std::panic::panic_any(text.clone()),
            How::Caught => {
                let caught = backstay::Failure::catch(|| std::panic::panic_any(text.clone()));
                errors.push_result(caught.map_err(Into::into));
            }
        }
        errors.push_result(second.clone().map_or(Ok(()), |text| Err(text.into())));
        errors.into_result()
    };
    let limit = Limit::budget(0, 0).then(Exceeded::StopService);
    let spec = Spec::new("texts", service)
        .restart(Restart::OnFailure)
        .limit(limit);
    let id = app.add_spec(spec).unwrap();
    app.start().unwrap();
    let end = app.wait_service(id, PATIENCE).unwrap();
    let End::GivenUp { failure } = &end else {
        panic!("{end:?}")
    };
    let kind = match how {
        How::Error => FailureKind::Error,
        How::Panic | How::Caught => FailureKind::Panic,
    };
    assert_eq!(failure.kind(), kind);
    assert!(failure.message().contains(&input.text));
    assert!(is_one_line(&failure.to_string()), "{failure:?}");

    let report = app.report();
    let text = report.to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(is_one_line), "{text:?}");
    assert_eq!(report.services()[0].status(), Some(&*input.status));
    dot::parse(&report.to_dot()).unwrap();
    mermaid::parse(&report.to_mermaid()).unwrap();
    let json = serde_json::to_string(&report).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["services"][0]["status"], input.status);
    assert_eq!(
        json["services"][0]["last_failure"]["message"],
        failure.message()
    );

    assert!(app.stop().is_empty());
    for event in events {
        let json = serde_json::to_string(&event).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["word"], event.word());
        assert!(event.to_string().starts_with(event.path()));
    }
});
