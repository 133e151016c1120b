//! What a stop wakes, besides the service's own threads.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::life::Wake;

/// Has something woken for as long as it is held. Who asks for a stop never has the last reference to
/// that, behind which there may be values of the user's: it is dropped with this, by who waits.
pub(crate) struct Waker<W>(Arc<Held<W>>);

struct Held<W>(Mutex<Option<W>>);

impl<W: Wake + Send + 'static> Waker<W> {
    pub(crate) fn new(woken: W) -> Waker<W> {
        Waker(Arc::new(Held(Mutex::new(Some(woken)))))
    }

    pub(crate) fn weak(&self) -> Weak<dyn Wake> {
        let held: Weak<Held<W>> = Arc::downgrade(&self.0);
        held
    }
}

impl<W: Wake + Send> Wake for Held<W> {
    fn wake(&self) {
        if let Some(woken) = &*self.0.lock() {
            woken.wake();
        }
    }
}

impl<W> Drop for Waker<W> {
    fn drop(&mut self) {
        // Waits for who is waking right now.
        let woken = self.0.0.lock().take();
        drop(woken);
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, Sender, bounded};

    use super::*;
    use crate::link::life::Life;

    /// Says on which thread it is dropped, and wakes when it is let.
    struct Value {
        wakes: Sender<()>,
        go_on: Receiver<()>,
        dropped_on: Sender<std::thread::ThreadId>,
    }

    impl Wake for Value {
        fn wake(&self) {
            let told = self.wakes.send(());
            assert!(told.is_ok() && self.go_on.recv().is_ok());
        }
    }

    impl Drop for Value {
        fn drop(&mut self) {
            let told = self.dropped_on.send(std::thread::current().id());
            assert!(told.is_ok());
        }
    }

    #[test]
    fn who_asks_for_a_stop_never_drops_what_it_wakes() {
        let (wakes, is_waking) = bounded(1);
        let (let_go_on, go_on) = bounded(1);
        let (dropped_on, dropped) = bounded(1);
        let waker = Waker::new(Value {
            wakes,
            go_on,
            dropped_on,
        });
        let life = Life::new();
        life.on_stop_wake(waker.weak());
        std::thread::scope(|scope| {
            scope.spawn(|| life.finish());
            assert!(is_waking.recv().is_ok());
            // It has its reference by now, and keeps it for as long as it is not let go on.
            let waits = scope.spawn(move || {
                drop(waker);
                std::thread::current().id()
            });
            assert!(
                dropped
                    .recv_timeout(std::time::Duration::from_millis(20))
                    .is_err()
            );
            assert!(let_go_on.send(()).is_ok());
            assert_eq!(waits.join().ok(), dropped.recv().ok());
        });
        // And forgotten, it isn't woken.
        drop(life.finish());
    }
}
