//! The dispatcher thread of a tree: calls observers and writes log records, in order, so that
//! neither can hold up a supervisor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::limits;
use super::mark::{self, Mark};
use super::panic::guarded;
use crate::event::{Event, EventKind};
use crate::link::hub::{Delivery, Emitter, Post};

pub(crate) fn new_post() -> Arc<Post> {
    Arc::new(Post::new(spawn))
}

fn spawn(post: Arc<Post>) -> bool {
    limits::take_room().is_ok()
        && std::thread::Builder::new()
            .name("backstay-events".to_owned())
            .spawn(move || work(&post))
            .is_ok()
}

fn work(post: &Arc<Post>) {
    let _marked = mark::enter(Mark {
        dispatcher: Some(post.clone()),
        ..Mark::default()
    });
    while let Some(delivery) = post.next() {
        deliver(post, delivery);
    }
}

fn deliver(post: &Arc<Post>, delivery: Delivery) {
    let Delivery {
        event,
        hubs,
        dropped_before,
    } = delivery;
    for (i, hub) in hubs.iter().enumerate() {
        for observer in &hub.observers {
            let Err(message) = guarded(|| observer(&event)) else {
                continue;
            };
            if !hub.observer_panicked.swap(true, Ordering::AcqRel) {
                // To the supervisor whose observer it is, and above.
                let emitter = Emitter {
                    hubs: hubs[i..].into(),
                    post: post.clone(),
                };
                let message: Arc<str> = Arc::from(format!("observer: {message}"));
                if post.is_closed() {
                    // The tree is over, and nobody is left to be told but the log.
                    drop(guarded(|| log::warn!(target: event.path(), "{message}")));
                }
                emitter.emit(
                    &Arc::from(event.path()),
                    event.incarnation(),
                    EventKind::HookPanicked { message },
                );
            }
        }
    }
    if dropped_before > 0 {
        drop(guarded(|| {
            log::warn!(target: event.path(), "{dropped_before} events were dropped: an observer or the logger is too slow");
        }));
    }
    drop(guarded(|| write(&event)));
    drop(super::panic::guarded_drop(event));
}

/// A record: the target is the path, the text says the incarnation.
fn write(event: &Event) {
    let level = event.level();
    match event.incarnation() {
        0 => log::log!(target: event.path(), level, "{}", event.kind()),
        n => log::log!(target: event.path(), level, "[{n}] {}", event.kind()),
    }
}
