//! The dispatcher threads of a tree: one calls observers, one writes log records, each in order. So
//! neither can hold up a supervisor, nor the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::limits;
use super::mark::{self, Delivered, Mark};
use super::panic::guarded;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, EventKind};
use crate::link::hub::{Audience, Emitter, Hub, Post, Staff};
use crate::link::lane::Delivery;

pub(crate) fn new_post() -> Arc<Post> {
    Arc::new(Post::new(Staff {
        spawn,
        tell_no_thread,
    }))
}

fn spawn(post: &Arc<Post>, audience: Audience) -> Result<(), Error> {
    let name = match audience {
        Audience::Observers => "backstay-events",
        Audience::Log => "backstay-log",
    };
    limits::take_room()?;
    let post = post.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work(&post, audience))
        .map(drop)
        .map_err(|e| Error::new(ErrorKind::Spawn, format!("could not start it: {e}")))
}

/// On whatever thread notices: there is no other.
fn tell_no_thread(path: &str, why: &Error) {
    drop(guarded(|| {
        log::error!(
            target: root_of(path),
            "no thread for events: observers and the log miss them until there is one: {why}"
        );
    }));
}

/// Names have no dots.
fn root_of(path: &str) -> &str {
    path.split_once('.').map_or(path, |(root, _)| root)
}

fn work(post: &Arc<Post>, audience: Audience) {
    let _marked = mark::enter(Mark {
        dispatcher: Some(post.clone()),
        ..Mark::default()
    });
    while let Some(delivery) = post.next(audience) {
        match delivery {
            Delivery::Event(event, hubs) => {
                match audience {
                    Audience::Observers => observe(post, &event, &hubs),
                    Audience::Log => drop(guarded(|| write(&event))),
                }
                let_go(post, event, &hubs);
            }
            Delivery::Lost(count, path) => drop(guarded(|| tell_lost(audience, count, &path))),
        }
    }
}

fn observe(post: &Arc<Post>, event: &Event, hubs: &[Arc<Hub>]) {
    for (i, hub) in hubs.iter().enumerate() {
        for observer in &hub.observers {
            let Err(message) = guarded(|| observer(event)) else {
                continue;
            };
            if !hub.observer_panicked.swap(true, Ordering::AcqRel) {
                // To the supervisor whose observer it is, and above.
                let message = format!("observer: {message}");
                tell_panic(
                    post,
                    &hubs[i..],
                    event.shared_path(),
                    event.incarnation(),
                    &message,
                );
            }
        }
    }
}

/// The last reference to a user's error may be this event's.
fn let_go(post: &Arc<Post>, event: Event, hubs: &[Arc<Hub>]) {
    let has_failure = matches!(
        event.kind(),
        EventKind::Failed { .. } | EventKind::GivenUp { .. } | EventKind::Stopped { .. }
    );
    if !has_failure {
        return;
    }
    let _marked = mark::enter(Mark {
        dispatcher: Some(post.clone()),
        delivered: Some(Arc::new(Delivered {
            path: event.shared_path().clone(),
            incarnation: event.incarnation(),
            emitter: Emitter {
                hubs: hubs.into(),
                post: post.clone(),
            },
            quiet: hubs.iter().any(|hub| hub.quiet),
        })),
        ..Mark::default()
    });
    drop(event);
}

fn tell_panic(
    post: &Arc<Post>,
    hubs: &[Arc<Hub>],
    path: &Arc<str>,
    incarnation: u64,
    message: &str,
) {
    let message: Arc<str> = Arc::from(message);
    if post.is_closed() {
        // The tree is over, and nobody is left to be told but the log.
        drop(guarded(|| log::warn!(target: path, "{message}")));
    }
    let emitter = Emitter {
        hubs: hubs.into(),
        post: post.clone(),
    };
    emitter.emit(path, incarnation, EventKind::HookPanicked { message });
}

fn tell_lost(audience: Audience, count: u64, path: &str) {
    let who = match audience {
        Audience::Observers => "observers were",
        Audience::Log => "the logger was",
    };
    log::warn!(
        target: root_of(path),
        "{count} events were dropped: {who} too slow, or had no thread"
    );
}

/// A record: the target is the path, the text says the incarnation.
fn write(event: &Event) {
    let level = event.level();
    match event.incarnation() {
        0 => log::log!(target: event.path(), level, "{}", event.kind()),
        n => log::log!(target: event.path(), level, "[{n}] {}", event.kind()),
    }
}
