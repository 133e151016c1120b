//! What Linux says of a process: a line of text, in which the process has a say, too.

use rustix::process::Pid;

/// What `/proc/<pid>/stat` says, as far as it matters.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Stat {
    state: char,
    /// `None`: outside of what we can see.
    pub(super) parent: Option<Pid>,
    pub(super) group: Pid,
}

impl Stat {
    pub(super) fn read(pid: Pid) -> Option<Stat> {
        Stat::parse(&std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }

    /// `pid (name) state parent group ..`; the name may have anything in it, parentheses too. The group of a
    /// process that is just going away is -1: it is in none.
    pub(super) fn parse(stat: &[u8]) -> Option<Stat> {
        let name_end = stat.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Stat {
            state: fields.next()?.chars().next()?,
            parent: pid(fields.next()?),
            group: pid(fields.next()?)?,
        })
    }

    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// `None`: nobody's. `Pid::from_raw` must not see a negative number.
fn pid(text: &str) -> Option<Pid> {
    let number = text.parse().ok().filter(|number| *number > 0)?;
    Pid::from_raw(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_anything_in_it() {
        let stat = |state, parent| Stat {
            state,
            parent: Pid::from_raw(parent),
            group: Pid::from_raw(7).unwrap(),
        };
        let parsed = |text: &str| Stat::parse(text.as_bytes());
        assert_eq!(parsed("9 (sleep) S 1 7 7 0"), Some(stat('S', 1)));
        assert_eq!(parsed("9 (a) Z 3 (b) R 2 7 7 0"), Some(stat('R', 2)));
        assert_eq!(Stat::parse(b"9 (\xff) Z 0 7 7 0"), Some(stat('Z', 0)));
        assert_eq!(parsed("9 (kthreadd) S 0 0 0"), None);
        assert_eq!(parsed(""), None);
    }

    /// As Linux shows a process while it reaps it.
    #[test]
    fn who_is_going_away_is_in_no_group() {
        assert_eq!(Stat::parse(b"9 (gone) X 0 -1 -1 0 -1"), None);
        assert_eq!(
            Stat::parse(b"9 (gone) X -1 7 7 0"),
            Stat::parse(b"9 (gone) X 0 7 7 0")
        );
        assert_eq!(Stat::parse(b"9 (gone) X 1 99999999999 7 0"), None);
    }
}
