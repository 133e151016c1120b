//! The gateway as a process: what it answers, what it refuses, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rig;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gateway::demo::pty::Pty;
use gateway::terminal::Terminal;
use rig::{PATIENCE, Process, Site, ask, wait_for};
use rusqlite::Connection;
use rustix::process::geteuid;

/// Nobody, on every Linux.
const NOBODY: u32 = 65_534;

/// It ends by itself, having said nothing but this.
#[track_caller]
fn assert_refuses(process: Process, code: i32, texts: &[&str]) {
    let (status, said) = process.end();
    assert_eq!(status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for text in ["gateway: "].iter().chain(texts) {
        assert!(said.contains(text), "no {text:?} in {said:?}");
    }
}

#[track_caller]
fn assert_stops(gateway: Process) {
    gateway.signal("TERM");
    let (status, said) = gateway.end();
    assert_eq!(status.code(), Some(0), "{said}");
}

/// The tree as it says it at SIGUSR1, when that contains `text`.
#[track_caller]
fn wait_tree(gateway: &Process, text: &str) {
    wait_for(text, || {
        gateway.signal("USR1");
        gateway.count(text) > 0
    });
}

fn stored(site: &Site) -> i64 {
    let database = Connection::open(site.database()).unwrap();
    database
        .query_row("SELECT count(*) FROM lines", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn without_an_argument_it_demonstrates_itself() {
    let gateway = Process::start(&mut Command::new(env!("CARGO_BIN_EXE_gateway")));
    let place = gateway.wait_says("database ");
    let file = place.split("database ").nth(1).unwrap().to_owned();
    // It can be told to read its configuration again.
    let config = Path::new(&file).with_file_name("gateway.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("every_s = 60", "every_s = 6o")).unwrap();
    gateway.signal("HUP");
    gateway.wait_says(&format!(
        "{}:{}: ",
        config.display(),
        line_of(&text, "every_s")
    ));
    // The devices' lines arrive, and go on to the peer.
    gateway.wait_says("gateway.tcp.6");
    wait_tree(&gateway, "the peer has everything up to");
    assert!(fs::exists(&file).unwrap());
    gateway.signal("INT");
    let (status, said) = gateway.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!fs::exists(&file).unwrap());
    assert!(!said.contains("failed"), "{said}");
}

#[test]
fn a_line_that_is_no_good_is_answered_with_the_reason_and_counted() {
    let site = Site::new("lines");
    let gateway = site.start();
    let mut device = site.connect();
    let long = "x".repeat(257);
    let lines = [
        b"pump 1 temperature 21.5\n".as_slice(),
        b"pump one temperature 21.5\n",
        b"pump 2 temperature \xff\n",
        long.as_bytes(),
        b"\n\r\npump 2 temperature\n",
        b"pump 1 temperature 21.5\r\npump 2 temperature -3\n",
    ];
    let answers = ask(&mut device, &lines.concat(), 7);
    let expected = [
        "ok pump 1",
        "err malformed: bad sequence number",
        "err not UTF-8",
        "err too long",
        "err malformed: no value",
        "ok pump 1",
        "ok pump 2",
    ];
    assert_eq!(answers, expected);
    wait_tree(
        &gateway,
        "2 stored, 1 sent again, 0 busy, 0 too old, 2 malformed, 1 oversize, 1 not UTF-8",
    );
    assert_eq!(stored(&site), 2);
    assert_stops(gateway);
}

#[test]
fn datagrams_and_a_serial_line_are_answered_as_well() {
    let mut site = Site::new("ways");
    let line = Pty::new().unwrap();
    site.serial = Some(line.device.clone());
    let gateway = site.start();
    gateway.wait_says("udp");

    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.connect((site.ip, site.udp)).unwrap();
    device.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 512];
    for (datagram, answer) in [
        (b"valve 7 open 1".as_slice(), b"ok valve 7\n".as_slice()),
        (b"valve 7 open 1\n", b"ok valve 7\n"),
        (b"valve", b"err malformed: no sequence number\n"),
        (&[b'x'; 400], b"err too long\n"),
        (b"\x80", b"err not UTF-8\n"),
    ] {
        device.send(datagram).unwrap();
        let n = device.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..n], *answer);
    }

    let mut serial = Terminal::new(line.other_end.try_clone().unwrap()).unwrap();
    serial.write_all(b"boiler 1 pressure 3").unwrap();
    serial.write_all(b"\nboiler 2\n").unwrap();
    let expected = b"ok boiler 1\nerr malformed: no metric\n";
    let mut answers = Vec::new();
    while answers.len() < expected.len() {
        let n = serial.read(&mut bytes).unwrap();
        answers.extend_from_slice(&bytes[..n]);
    }
    assert_eq!(answers, expected);
    assert_eq!(stored(&site), 2);
    assert_stops(gateway);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let site = Site::new("kill");
    let gateway = site.start();
    let mut device = site.connect();
    assert_eq!(
        ask(&mut device, b"pump 1 t 1\npump 2 t 2\n", 2),
        ["ok pump 1", "ok pump 2"]
    );
    gateway.signal("KILL");
    drop(gateway.end());
    let gateway = site.start_again();
    let mut device = site.connect();
    assert_eq!(
        ask(&mut device, b"pump 2 t 2\npump 3 t 3\n", 2),
        ["ok pump 2", "ok pump 3"]
    );
    assert_eq!(stored(&site), 3);
    assert_stops(gateway);
}

#[test]
fn wrong_usage() {
    for args in [&["--config"][..], &["--help"], &["simulate"]] {
        let gateway = Process::start(Command::new(env!("CARGO_BIN_EXE_gateway")).args(args));
        assert_refuses(gateway, 2, &["usage: gateway [--config FILE]"]);
    }
}

/// The number of the line that `part` begins in.
#[track_caller]
fn line_of(text: &str, part: &str) -> usize {
    text[..text.find(part).unwrap()].matches('\n').count() + 1
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_file_and_line() {
    let site = Site::new("config");
    let file = site.config();
    let name = file.to_str().unwrap();
    let good = site.text();
    assert_refuses(site.start_again(), 4, &[name, "No such file"]);
    for (from, to, text) in [
        ("keep_hours", "keep_ours", "unknown field `keep_ours`"),
        ("keep_hours = 1000", "keep_hours = 0", "nonzero"),
        ("keep_hours = 1000", "keep_hours = \"long\"", "invalid type"),
        ("tcp = \"127.", "tcp = \"here.", "invalid socket address"),
        ("[upload]", "[uplaod]", "unknown field `uplaod`"),
        ("[upload]", "[upload", ""),
    ] {
        let line = line_of(&good, from);
        fs::write(&file, good.replace(from, to)).unwrap();
        assert_refuses(site.start_again(), 4, &[&format!("{name}:{line}: "), text]);
    }
    let line = line_of(&good, "[retention]");
    fs::write(&file, good.replace("every_s = 1\n", "")).unwrap();
    let texts = [&format!("{name}:{line}: "), "missing field `every_s`"];
    assert_refuses(site.start_again(), 4, &texts);
    fs::write(&file, b"\xff\xfe").unwrap();
    assert_refuses(site.start_again(), 4, &[name, "UTF-8"]);
}

#[test]
fn the_example_is_a_good_configuration() {
    let example = include_str!("../gateway.toml");
    gateway::config::Config::parse(example, "gateway.toml").unwrap();
    // Also with everything that it has in comments.
    let settings = example.lines().map(|line| match line.strip_prefix("# ") {
        Some(setting) if setting.contains(" = ") => setting,
        _ => line,
    });
    let all: Vec<&str> = settings.collect();
    let config = gateway::config::Config::parse(&all.join("\n"), "gateway.toml").unwrap();
    assert!(config.intake.serial.is_some() && config.upload.peer.is_some());
    assert!(config.limits.fault_socket.is_some());
}

#[test]
fn hangup_has_the_file_read_again() {
    let mut site = Site::new("hangup");
    let gateway = site.start();
    let mut device = site.connect();
    assert_eq!(ask(&mut device, b"pump 1 t 1\n", 1), ["ok pump 1"]);

    // A mistake changes nothing.
    let good = site.text();
    fs::write(site.config(), good.replace("every_s = 1", "every_s = -1")).unwrap();
    gateway.signal("HUP");
    let line = gateway.wait_says("kept the configuration as it was");
    let place = format!("gateway.toml:{}: ", line_of(&good, "every_s"));
    assert!(line.contains(&place), "{line}");
    assert_eq!(ask(&mut device, b"pump 2 t 1\n", 1), ["ok pump 2"]);

    // A new port: devices move, and who has nothing to do with it runs on.
    let old = site.tcp;
    site.tcp = site.free_port();
    fs::write(site.config(), site.text()).unwrap();
    gateway.signal("HUP");
    gateway.wait_says(&format!("tcp {}:{}", site.ip, site.tcp));
    assert_eq!(ask(&mut site.connect(), b"pump 3 t 1\n", 1), ["ok pump 3"]);
    assert!(TcpListener::bind((site.ip, old)).is_ok());
    gateway.signal("USR1");
    gateway.wait_says("gateway.watchdog (");
    let said = gateway.said();
    let of = |name: &str| said.lines().rfind(|line| line.contains(name)).unwrap();
    assert!(of("gateway.tcp (").contains("incarnation 2"), "{said}");
    assert!(!of("gateway.writer (").contains("incarnation"), "{said}");
    assert!(!of("gateway.retention (").contains("incarnation"), "{said}");

    // A port that somebody has is no reason to end: it is tried again.
    let taken = TcpListener::bind((site.ip, 0)).unwrap();
    site.tcp = taken.local_addr().unwrap().port();
    fs::write(site.config(), site.text()).unwrap();
    gateway.signal("HUP");
    gateway.wait_says("in use");
    drop(taken);
    assert_eq!(ask(&mut site.connect(), b"pump 4 t 1\n", 1), ["ok pump 4"]);
    assert_stops(gateway);
}

#[test]
fn a_port_in_use_ends_it_at_the_start() {
    let mut site = Site::new("port");
    let taken = TcpListener::bind((site.ip, 0)).unwrap();
    site.tcp = taken.local_addr().unwrap().port();
    let address = format!("{}:{}", site.ip, site.tcp);
    assert_refuses(site.start(), 5, &[&address, "in use"]);

    let mut site = Site::new("port");
    let taken = UdpSocket::bind((site.ip, 0)).unwrap();
    site.udp = taken.local_addr().unwrap().port();
    let address = format!("{}:{}", site.ip, site.udp);
    assert_refuses(site.start(), 5, &[&address, "in use"]);

    let mut site = Site::new("port");
    site.serial = Some(site.folder.path().join("ttyX"));
    assert_refuses(site.start(), 5, &["ttyX: ", "No such file"]);
    fs::write(site.folder.path().join("ttyX"), "").unwrap();
    assert_refuses(site.start(), 5, &["ttyX: "]);
}

#[test]
fn a_folder_that_cannot_be_written_ends_it_at_the_start() {
    let site = Site::new("readonly");
    let (text, _faults) = site
        .text()
        .split_once("fault_socket")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    fs::write(site.config(), text).unwrap();
    let folder = site.folder.path().to_owned();
    // A program that nobody may read can't be run by nobody.
    let program = folder.join("gateway");
    fs::copy(env!("CARGO_BIN_EXE_gateway"), &program).unwrap();
    let start = || {
        let mut command = Command::new(&program);
        command.arg("--config").arg(site.config()).current_dir("/");
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Process::start(&mut command)
    };
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    assert_refuses(
        start(),
        6,
        &[site.data().to_str().unwrap(), "Permission denied"],
    );

    // Nor a database in it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(site.data()).unwrap();
    fs::write(site.database(), "").unwrap();
    fs::set_permissions(site.database(), fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(site.data(), fs::Permissions::from_mode(0o555)).unwrap();
    assert_refuses(start(), 6, &[site.database().to_str().unwrap()]);
    fs::set_permissions(site.data(), fs::Permissions::from_mode(0o755)).unwrap();

    // A file in its place.
    let site = Site::new("readonly");
    fs::write(site.data(), "").unwrap();
    assert_refuses(site.start(), 6, &[site.data().to_str().unwrap()]);
}

#[test]
fn a_corrupt_database_ends_it() {
    let site = Site::new("corrupt");
    fs::create_dir(site.data()).unwrap();
    fs::write(site.database(), "this is no database, ".repeat(100)).unwrap();
    assert_refuses(
        site.start(),
        7,
        &[site.database().to_str().unwrap(), "not a database"],
    );

    // In the middle of one, where only those who look see it.
    fs::remove_file(site.database()).unwrap();
    let gateway = site.start();
    let lines: String = (0..2_000).map(|n| format!("pump {n} t 1\n")).collect();
    ask(&mut site.connect(), lines.as_bytes(), 2_000);
    assert_stops(gateway);
    let mut bytes = fs::read(site.database()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0x5a);
    fs::write(site.database(), bytes).unwrap();
    assert_refuses(site.start(), 7, &[site.database().to_str().unwrap()]);
}

#[test]
fn a_full_disk_makes_devices_wait() {
    let site = Site::new("full");
    let gateway = site.start();
    let mut device = site.connect();
    assert_eq!(ask(&mut device, b"pump 1 t 1\n", 1), ["ok pump 1"]);
    gateway.limit_files(Some(4_096));
    assert_eq!(ask(&mut device, b"pump 2 t 1\n", 1), ["busy pump 2"]);
    gateway.limit_files(None);
    wait_for("there is room again", || {
        ask(&mut device, b"pump 2 t 1\n", 1) == ["ok pump 2"]
    });
    assert_eq!(stored(&site), 2);
    assert_stops(gateway);
}

#[test]
fn old_lines_go_and_do_not_come_back() {
    let site = Site::new("retention");
    let text = site
        .text()
        .replace("lines_max = 100000000", "lines_max = 10");
    fs::write(site.config(), text).unwrap();
    let gateway = site.start_again();
    let mut device = site.connect();
    let lines: String = (1..=2_500).map(|n| format!("pump {n} t 1\n")).collect();
    ask(&mut device, lines.as_bytes(), 2_500);
    wait_for("the oldest are gone", || stored(&site) == 10);
    // Nobody knows whether that one was stored: it is not acknowledged.
    let answers = ask(
        &mut device,
        b"pump 2490 t 1\npump 2491 t 1\npump 2501 t 1\n",
        3,
    );
    let expected = [
        "err pump 2490 older than what is kept",
        "ok pump 2491",
        "ok pump 2501",
    ];
    assert_eq!(answers, expected);
    assert_stops(gateway);
}

#[test]
fn a_writer_that_hangs_is_replaced() {
    let site = Site::new("hang");
    let gateway = site.start();
    let mut device = site.connect();
    assert_eq!(ask(&mut device, b"pump 1 t 1\n", 1), ["ok pump 1"]);
    site.fault("writer", "hang");
    wait_for("it is replaced", || {
        let answer = ask(&mut device, b"pump 2 t 1\n", 1);
        gateway.count("gateway.writer [1] abandoned") > 0 && answer == ["ok pump 2"]
    });
    gateway.wait_says("gateway.writer [1] ended late");
    assert_eq!(stored(&site), 2);

    // A stop waits for nobody who hangs, and says whom it has left behind.
    site.fault("writer", "hang");
    wait_for("it hangs", || gateway.count("fault: writer hang") == 2);
    gateway.signal("TERM");
    let (status, said) = gateway.end();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("gateway: did not stop in time"), "{said}");
}

#[test]
fn what_the_peer_misses_arrives_later_and_once() {
    let mut site = Site::new("peer");
    site.peer = Some(site.free_port());
    let gateway = site.start();
    let mut device = site.connect();
    let lines: String = (1..=2_500).map(|n| format!("pump {n} t 1\n")).collect();
    ask(&mut device, lines.as_bytes(), 2_500);
    gateway.wait_says("Connection refused");
    let peer = site.peer();
    wait_for("everything arrives", || {
        site.ask_peer().as_deref() == Some("2500 lines of 1 devices, 0 came again\n")
    });
    assert_stops(peer);
    assert_stops(gateway);
}

#[test]
fn a_peer_that_is_silent_holds_nobody_up() {
    let mut site = Site::new("silent");
    // It accepts, and never answers.
    let silent = TcpListener::bind((site.ip, 0)).unwrap();
    site.peer = Some(silent.local_addr().unwrap().port());
    let gateway = site.start();
    let mut device = site.connect();
    assert_eq!(ask(&mut device, b"pump 1 t 1\n", 1), ["ok pump 1"]);
    let (_connection, _) = silent.accept().unwrap();
    // The uploader needs the database, so it has to end before the writer starts again.
    site.fault("writer", "error");
    let begun = Instant::now();
    wait_for("it takes lines again", || {
        ask(&mut device, b"pump 2 t 1\n", 1) == ["ok pump 2"]
    });
    // Less than the uploader's patience.
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_stops(gateway);
}

#[test]
fn a_serial_line_that_hangs_up_is_opened_again() {
    let mut site = Site::new("hangup-line");
    let line = Pty::new().unwrap();
    // A name that stays the same, as udev gives one.
    let name = site.folder.path().join("ttyPump");
    symlink(&line.device, &name).unwrap();
    site.serial = Some(name.clone());
    let gateway = site.start();
    gateway.wait_says("database");
    drop(line);
    gateway.wait_says("gateway.serial [1] failed");
    let line = Pty::new().unwrap();
    fs::remove_file(&name).unwrap();
    symlink(&line.device, &name).unwrap();
    let mut serial = Terminal::new(line.other_end.try_clone().unwrap()).unwrap();
    let mut answer = [0; 64];
    wait_for("it answers", || {
        serial.write_all(b"boiler 1 pressure 3\n").unwrap();
        serial.read(&mut answer).is_ok()
    });
    assert!(answer.starts_with(b"ok boiler 1\n"));
    assert_stops(gateway);
}

#[test]
fn a_crash_loop_ends_it() {
    let site = Site::new("loop");
    let text = site
        .text()
        .replace("failures_per_minute = 60", "failures_per_minute = 2");
    fs::write(site.config(), text).unwrap();
    let gateway = site.start_again();
    gateway.wait_says("database");
    for n in 1..=3 {
        site.fault("retention", "error");
        // The last one is told once more: it is why the gateway ends.
        wait_for("it fails", || gateway.count("gateway.retention") >= n);
    }
    let (status, said) = gateway.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.lines().last().unwrap().starts_with("gateway: "),
        "{said}"
    );
}

#[test]
fn the_peer_refuses_what_makes_no_sense() {
    let mut site = Site::new("http");
    site.peer = Some(site.free_port());
    let peer = site.peer();
    wait_for("it listens", || site.ask_peer().is_some());
    for (request, status) in [
        (
            "POST /lines HTTP/1.1\r\ncontent-length: 10\r\n\r\npump 1 t 1",
            "200 OK",
        ),
        (
            "POST /lines HTTP/1.1\r\ncontent-length: 4\r\n\r\npump",
            "400 Bad Request",
        ),
        ("GET /lines HTTP/1.1\r\n\r\n", "404 Not Found"),
    ] {
        let answer = site.request(request.as_bytes()).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
    }
    // No answer, and no harm.
    let endless = "x".repeat(100_000);
    for request in [
        "nonsense\r\n\r\n",
        "POST /lines HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        &endless,
    ] {
        assert_eq!(site.request(request.as_bytes()).unwrap_or_default(), "");
    }
    assert_eq!(
        site.ask_peer().as_deref(),
        Some("1 lines of 1 devices, 0 came again\n")
    );
    assert_stops(peer);
}
