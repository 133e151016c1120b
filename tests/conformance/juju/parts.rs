//! Services that give and take numbers by key, and write down what they do.

use std::sync::{Arc, Mutex};

use backstay::{Context, Key, Service, ServiceResult, Spec};

use crate::common::wait_for;

/// The key of most rows.
pub(crate) const K: Key<u64> = Key::new("k");

/// What services wrote down, in order: "c 2 k=1" when the second run of c begins, with what it has
/// of each input ("k=-": nothing), "c 2 ends" when that run returns.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn new() -> Diary {
        Diary::default()
    }

    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The lines about one service.
    pub(crate) fn of(&self, name: &str) -> Vec<String> {
        let about = |line: &String| line.split(' ').next() == Some(name);
        self.lines().into_iter().filter(about).collect()
    }

    /// How often a service was entered.
    pub(crate) fn starts(&self, name: &str) -> usize {
        let ends = |line: &&String| line.ends_with(" ends");
        let lines = self.of(name);
        lines.len() - lines.iter().filter(ends).count()
    }

    /// Waits until that line is there.
    #[track_caller]
    pub(crate) fn wait(&self, line: &str) {
        wait_for(&format!("{line:?} is in the diary"), || {
            self.lines().iter().any(|l| l == line)
        });
    }

    /// Where that line is.
    #[track_caller]
    pub(crate) fn place(&self, line: &str) -> usize {
        let lines = self.lines();
        let place = lines.iter().position(|l| l == line);
        place.unwrap_or_else(|| panic!("no {line:?} in {lines:?}"))
    }

    /// Begins anew.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap().clear();
    }

    /// A service that keeps this diary, and does the same as `inner`.
    pub(crate) fn part(&self, name: &str, inner: impl Service) -> Part {
        Part {
            name: name.to_owned(),
            diary: self.clone(),
            needs: Vec::new(),
            wants: Vec::new(),
            provides: Vec::new(),
            inner: Box::new(inner),
        }
    }

    /// p of the rows: provides [`K`] at once.
    pub(crate) fn p(&self, inner: impl Service) -> Spec {
        self.part("p", inner).provides(&K).spec()
    }

    /// c of the rows, or another one of the kind: needs [`K`].
    pub(crate) fn c(&self, name: &str, inner: impl Service) -> Spec {
        self.part(name, inner).needs(&K).spec()
    }
}

/// A service in the making: takes all its inputs, and provides the number of its incarnation under
/// each of its keys.
pub(crate) struct Part {
    name: String,
    diary: Diary,
    needs: Vec<Key<u64>>,
    wants: Vec<Key<u64>>,
    provides: Vec<Key<u64>>,
    inner: Box<dyn Service>,
}

impl Part {
    pub(crate) fn needs(mut self, key: &Key<u64>) -> Part {
        self.needs.push(*key);
        self
    }

    pub(crate) fn wants(mut self, key: &Key<u64>) -> Part {
        self.wants.push(*key);
        self
    }

    pub(crate) fn provides(mut self, key: &Key<u64>) -> Part {
        self.provides.push(*key);
        self
    }

    pub(crate) fn spec(self) -> Spec {
        let (needs, wants) = (self.needs.clone(), self.wants.clone());
        let provides = self.provides.clone();
        let spec = Spec::new(self.name.clone(), self);
        let spec = needs.iter().fold(spec, Spec::needs);
        let spec = wants.iter().fold(spec, Spec::wants);
        provides.iter().fold(spec, Spec::provides)
    }
}

impl Service for Part {
    fn run(&self, ctx: &Context) -> ServiceResult {
        let run = format!("{} {}", ctx.name(), ctx.incarnation());
        let input = |key: &Key<u64>| match ctx.get(key) {
            Ok(value) => format!(" {key}={value}"),
            Err(_) => format!(" {key}=-"),
        };
        let inputs: String = self.needs.iter().chain(&self.wants).map(input).collect();
        // Before it provides anything: whoever starts with that comes after it in the diary.
        self.diary.note(format!("{run}{inputs}"));
        for key in &self.provides {
            ctx.provide(key, ctx.incarnation())?;
        }
        let answer = self.inner.run(ctx);
        self.diary.note(format!("{run} ends"));
        answer
    }
}
