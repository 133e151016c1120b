//! What a failed job leads to.

use std::sync::Arc;

use crate::{BoxError, ERRORS_KEPT};

type Excludes = Arc<dyn Fn(&BoxError) -> bool + Send + Sync>;
type Handler = Arc<dyn Fn(&BoxError) + Send + Sync>;

#[derive(Clone)]
pub(in crate::services) struct Rules {
    pub(in crate::services) continue_on_error: bool,
    pub(in crate::services) continue_on_panic: bool,
    pub(in crate::services) excludes: Vec<Excludes>,
    pub(in crate::services) handlers: Vec<Handler>,
    pub(in crate::services) keep: usize,
}

impl Rules {
    pub(in crate::services) fn new() -> Rules {
        Rules {
            continue_on_error: false,
            continue_on_panic: false,
            excludes: Vec::new(),
            handlers: Vec::new(),
            keep: ERRORS_KEPT,
        }
    }
}

/// The builder methods of those who have `rules: Rules`.
macro_rules! rules_methods {
    () => {
        /// Goes on after errors. They are kept for the answer, or handed to
        /// [`on_error`](Self::on_error). An error with an [`Exit`](crate::Exit) in it ends it all the
        /// same: it says so.
        pub fn continue_on_error(mut self) -> Self {
            self.rules.continue_on_error = true;
            self
        }

        /// Goes on after panics, which are kept or handed on like errors. An error that is a panic's
        /// [`Failure`](crate::Failure), alone or in an [`Errors`](crate::Errors), is a panic.
        pub fn continue_on_panic(mut self) -> Self {
            self.rules.continue_on_panic = true;
            self
        }

        /// Errors of which `f` says true count as Ok: they end nothing, are not kept, and no handler
        /// is told. It is not asked about panics, nor about an [`Exit`](crate::Exit). Runs on the
        /// worker. If it panics, that is no yes, and the panic is kept. May be given several times: one
        /// yes is enough.
        pub fn exclude(
            mut self,
            f: impl Fn(&crate::BoxError) -> bool + Send + Sync + 'static,
        ) -> Self {
            self.rules.excludes.push(std::sync::Arc::new(f));
            self
        }

        /// Calls `f` with each error and each panic, also with one that ends it all; then nothing is
        /// kept. Runs on the worker, several at a time. If it panics, that panic is kept, and all
        /// goes on. May be given several times.
        pub fn on_error(mut self, f: impl Fn(&crate::BoxError) + Send + Sync + 'static) -> Self {
            self.rules.handlers.push(std::sync::Arc::new(f));
            self
        }

        /// Keeps the first `n` errors for the answer and counts the others
        /// ([`Errors::dropped`](crate::Errors::dropped)); [`ERRORS_KEPT`](crate::ERRORS_KEPT) unless
        /// set. Zero keeps none.
        pub fn keep_errors(mut self, n: usize) -> Self {
            self.rules.keep = n;
            self
        }
    };
}

pub(in crate::services) use rules_methods;
