//! A report as a graph, without the words of a language for graphs: what `to_dot` and `to_mermaid`
//! write down.

use std::collections::HashMap;

use super::{Report, ServiceReport, State};
use crate::key::{KeyReport, KeyRole};

/// The whole picture.
pub(super) struct Drawing<'a> {
    pub(super) root: Shape<'a>,
    pub(super) arrows: Vec<Arrow<'a>>,
}

/// Something in the picture; each has a number of its own, so that names may be as they like.
pub(super) enum Shape<'a> {
    /// A service.
    Service {
        number: usize,
        name: &'a str,
        state: State,
        incarnation: u64,
    },
    /// Who would provide a key, if there were somebody.
    Nobody { number: usize },
    /// A supervisor, and what it has around it. If it gives or takes values itself, it is inside as
    /// a service, too.
    Supervisor {
        number: usize,
        name: &'a str,
        state: State,
        inside: Vec<Shape<'a>>,
    },
}

/// From a provider to who takes the value.
pub(super) struct Arrow<'a> {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) key: &'a str,
    pub(super) is_wanted: bool,
    pub(super) is_there: bool,
}

/// How a state looks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Look {
    Up,
    Changing,
    Waiting,
    AtRest,
    Lost,
}

impl Look {
    pub(super) fn of(state: State) -> Look {
        match state {
            State::Running | State::Ready => Look::Up,
            State::Starting | State::Stopping => Look::Changing,
            State::Waiting | State::Backoff | State::Paused => Look::Waiting,
            State::Stopped | State::Done => Look::AtRest,
            State::GivenUp | State::Abandoned => Look::Lost,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Look::Up => "up",
            Look::Changing => "changing",
            Look::Waiting => "waiting",
            Look::AtRest => "resting",
            Look::Lost => "lost",
        }
    }

    /// Light enough for black letters.
    pub(super) fn color(self) -> &'static str {
        match self {
            Look::Up => "#c8e6c9",
            Look::Changing => "#bbdefb",
            Look::Waiting => "#fff9c4",
            Look::AtRest => "#eeeeee",
            Look::Lost => "#ffcdd2",
        }
    }
}

/// The second line of a service's text.
pub(super) fn state_line(state: State, incarnation: u64) -> String {
    if incarnation > 1 {
        format!("{state}, incarnation {incarnation}")
    } else {
        state.to_string()
    }
}

impl<'a> Drawing<'a> {
    pub(super) fn of(report: &'a Report) -> Drawing<'a> {
        let mut pen = Pen::default();
        let number = pen.number();
        let root = if report.services.is_empty() {
            Shape::Service {
                number,
                name: &report.path,
                state: report.state,
                incarnation: 0,
            }
        } else {
            Shape::Supervisor {
                number,
                name: &report.path,
                state: report.state,
                inside: pen.draw(&report.services, Vec::new()),
            }
        };
        Drawing {
            root,
            arrows: pen.arrows,
        }
    }
}

#[derive(Default)]
struct Pen<'a> {
    numbers: usize,
    arrows: Vec<Arrow<'a>>,
}

impl<'a> Pen<'a> {
    fn number(&mut self) -> usize {
        let number = self.numbers;
        self.numbers += 1;
        number
    }

    /// The services of one supervisor, after what is inside of it already.
    fn draw(
        &mut self,
        services: &'a [ServiceReport],
        mut inside: Vec<Shape<'a>>,
    ) -> Vec<Shape<'a>> {
        // A key is known in one supervisor, so a provider is one of these.
        let mut numbers: HashMap<&str, usize> = HashMap::with_capacity(services.len());
        for service in services {
            let number = self.number();
            numbers.insert(service.path(), number);
            inside.push(self.shape(service, number));
        }
        let mut nobody: HashMap<&str, usize> = HashMap::new();
        for service in services {
            let Some(&to) = numbers.get(service.path()) else {
                continue;
            };
            for key in &service.keys {
                let is_wanted = match key.role {
                    KeyRole::Provides => continue,
                    KeyRole::Needs => false,
                    KeyRole::Wants => true,
                };
                let provider = key.provider().and_then(|path| numbers.get(path).copied());
                let from = provider.unwrap_or_else(|| {
                    *nobody.entry(&key.name).or_insert_with(|| {
                        let number = self.number();
                        inside.push(Shape::Nobody { number });
                        number
                    })
                });
                self.arrow(from, to, key, is_wanted);
            }
        }
        inside
    }

    fn shape(&mut self, service: &'a ServiceReport, number: usize) -> Shape<'a> {
        let own = |number| Shape::Service {
            number,
            name: service.name(),
            state: service.state,
            incarnation: service.incarnation,
        };
        if service.services.is_empty() {
            return own(number);
        }
        let (frame, first) = if service.keys.is_empty() {
            (number, Vec::new())
        } else {
            (self.number(), vec![own(number)])
        };
        Shape::Supervisor {
            number: frame,
            name: service.name(),
            state: service.state,
            inside: self.draw(&service.services, first),
        }
    }

    fn arrow(&mut self, from: usize, to: usize, key: &'a KeyReport, is_wanted: bool) {
        self.arrows.push(Arrow {
            from,
            to,
            key: &key.name,
            is_wanted,
            is_there: key.is_there,
        });
    }
}
