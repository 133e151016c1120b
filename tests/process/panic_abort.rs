//! A program in which a panic ends the process can't be supervised, and is told so at the start.

use std::fs::{copy, create_dir_all, write};
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = r#"
fn main() {
    let app = backstay::Supervisor::new("app");
    app.add("a", |_: &backstay::Context| panic!("not started")).unwrap();
    println!("start: {}", app.start().unwrap_err());
    println!("serve: {}", app.serve().unwrap_err());
    let parent = backstay::Supervisor::new("parent");
    parent.add("app", app).unwrap();
    println!("nested: {}", parent.start().unwrap_err());
}
"#;

#[test]
fn panic_abort_is_refused_at_the_start() {
    let library = env!("CARGO_MANIFEST_DIR");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_abort");
    create_dir_all(program.join("src")).unwrap();
    write(program.join("src/main.rs"), PROGRAM).unwrap();
    write(program.join("Cargo.toml"), manifest(library)).unwrap();
    // The versions that are there already.
    copy(
        Path::new(library).join("Cargo.lock"),
        program.join("Cargo.lock"),
    )
    .unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--target-dir", "target"])
        .current_dir(&program)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{stderr}");
    assert_eq!(said.lines().count(), 3, "{said}");
    for line in said.lines() {
        assert!(line.contains("panic = \"abort\""), "{line}");
    }
}

fn manifest(library: &str) -> String {
    format!(
        r#"
[package]
name = "panic_abort"
version = "0.0.0"
edition = "2024"

[dependencies]
backstay = {{ path = {library:?}, default-features = false }}

[profile.dev]
panic = "abort"

[workspace]
"#
    )
}
