//! The configuration of the gateway: a file is taken or refused in one line that says where.
#![no_main]

use backstay_fuzz::is_one_line;
use gateway::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(why) = Config::parse(text, "gateway.toml") {
        assert!(is_one_line(&why), "{why:?}");
        let rest = why.strip_prefix("gateway.toml:").unwrap();
        let (line, what) = rest.split_once(": ").unwrap();
        let line: usize = line.parse().unwrap();
        assert!(
            (1..=text.matches('\n').count() + 1).contains(&line),
            "{why}"
        );
        assert!(!what.is_empty());
    }
});
