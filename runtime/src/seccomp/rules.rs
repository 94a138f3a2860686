//! `linux.seccomp` checked, and reduced to what each system call of each architecture gets.

use std::cmp::{Ordering, Reverse};

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as SpecAction, LinuxSeccompArg, LinuxSeccompFilterFlag as SpecFlag,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};
use rbox_sys::seccomp::Flags;

use super::arch::Arch;
use super::calls::{self, Call};
use super::{SeccompError, actions};

/// What a filter answers: `SECCOMP_RET_*` with its 16 bits of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const KILL_THREAD: Self = Self(actions::KILL_THREAD);
    pub(super) const ENOSYS: Self = Self(actions::ERRNO | 38);
    const NOTIFY: Self = Self(actions::NOTIFY);

    /// Whether calls that nobody thought of are let through, or answered by a tracer.
    fn lets_pass(self) -> bool {
        matches!(self.0 & actions::ACTION, actions::ALLOW | actions::LOG | actions::TRACE)
    }
}

/// A filter, checked, not yet a program.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) default: Action,
    pub(super) flags: Flags,
    /// The native one first.
    pub(super) tables: Vec<Table>,
}

/// What the calls of one architecture get.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) arch: Arch,
    /// By number, which includes the bit that marks x32.
    pub(super) calls: Vec<(u32, Verdict)>,
    /// The highest number that the profile names, where numbers above it get ENOSYS.
    pub(super) last: Option<u32>,
}

/// What one call gets.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Whatever the arguments.
    Always(Action),
    /// That of the first rule that holds; the default if none does.
    First(Vec<Rule>),
}

/// Where all conditions hold, the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// By argument, of which each occurs once.
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// A comparison of an argument, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) operator: Operator,
    /// Within the mask.
    pub(super) value: u64,
    /// All ones but for [`Operator::ScmpCmpMaskedEq`].
    pub(super) mask: u64,
}

/// A name that the profile has, the call that it names, and the entry that it is in.
type Named<'a> = (&'a str, &'static Call, &'a Entry<'a>);

/// What of a profile means one number.
#[derive(Clone, Copy)]
struct Mention<'a> {
    name: &'a str,
    entry: &'a Entry<'a>,
    /// As a call of a multiplexer: its first argument there.
    multiplexed: Option<u64>,
}

/// One entry of the profile's `syscalls`.
struct Entry<'a> {
    names: &'a [String],
    action: Action,
    /// One of them must hold.
    alternatives: Vec<Vec<Condition>>,
}

impl Filter {
    /// Checks a profile for a kernel of this architecture.
    pub(super) fn new(profile: &LinuxSeccomp, native: Arch) -> Result<Self, SeccompError> {
        let default = action("defaultAction", profile.default_action(), profile.default_errno_ret())?;
        if default == Action::NOTIFY {
            // Even those by which the workload waits for its start.
            return Err(SeccompError::NotifyByDefault);
        }
        let mut arches = vec![native];
        for name in profile.architectures().iter().flatten() {
            let arch = Arch::named(*name, native)?;
            if !arches.contains(&arch) {
                arches.push(arch);
            }
        }
        let syscalls = profile.syscalls().as_deref().unwrap_or_default();
        let entries = syscalls.iter().map(Entry::new).collect::<Result<Vec<_>, _>>()?;
        let names = entries.iter().map(|entry| entry.names.len()).sum();
        let mut named: Vec<Named<'_>> = Vec::with_capacity(names);
        for entry in &entries {
            // A name that no architecture has is of a newer kernel, or a slip: runc and crun pass over both.
            named.extend(entry.names.iter().filter_map(|name| Some((name.as_str(), calls::find(name)?, entry))));
        }
        let tables = arches.into_iter().map(|arch| Table::new(arch, &named, default)).collect::<Result<Vec<_>, _>>()?;
        let notifies = entries.iter().any(|entry| entry.action == Action::NOTIFY);
        Ok(Self { default, flags: flags(profile, notifies)?, tables })
    }
}

fn flags(profile: &LinuxSeccomp, notifies: bool) -> Result<Flags, SeccompError> {
    let mut flags = if notifies { Flags::NEW_LISTENER } else { Flags::NONE };
    for flag in profile.flags().iter().flatten() {
        flags = flags.and(match flag {
            SpecFlag::SeccompFilterFlagLog => Flags::LOG,
            SpecFlag::SeccompFilterFlagTsync => Flags::TSYNC,
            SpecFlag::SeccompFilterFlagSpecAllow => Flags::SPEC_ALLOW,
            SpecFlag::SeccompFilterFlagWaitKillableRecv if !notifies => return Err(SeccompError::NothingToWaitFor),
            SpecFlag::SeccompFilterFlagWaitKillableRecv => Flags::WAIT_KILLABLE_RECV,
        });
    }
    Ok(flags)
}

fn action(of: &str, action: SpecAction, errno: Option<u32>) -> Result<Action, SeccompError> {
    const EPERM: u32 = 1;
    // The kernel's MAX_ERRNO; beyond it, a result is no error any more.
    const MAX_ERRNO: u32 = 4095;
    let (bits, limit) = match action {
        SpecAction::ScmpActErrno => (actions::ERRNO, MAX_ERRNO),
        SpecAction::ScmpActTrace => (actions::TRACE, 0xffff),
        _ if errno.is_some() => return Err(SeccompError::NoErrno { of: of.into(), action }),
        SpecAction::ScmpActKill | SpecAction::ScmpActKillThread => return Ok(Action::KILL_THREAD),
        SpecAction::ScmpActKillProcess => return Ok(Action(actions::KILL_PROCESS)),
        SpecAction::ScmpActTrap => return Ok(Action(actions::TRAP)),
        SpecAction::ScmpActNotify => return Ok(Action::NOTIFY),
        SpecAction::ScmpActLog => return Ok(Action(actions::LOG)),
        SpecAction::ScmpActAllow => return Ok(Action(actions::ALLOW)),
    };
    match errno.unwrap_or(EPERM) {
        errno if errno <= limit => Ok(Action(bits | errno)),
        errno => Err(SeccompError::Errno { of: of.into(), errno, limit }),
    }
}

impl<'a> Entry<'a> {
    fn new(call: &'a LinuxSyscall) -> Result<Self, SeccompError> {
        let names = call.names();
        let Some(first) = names.first() else { return Err(SeccompError::NoNames) };
        let conditions = call.args().iter().flatten();
        let conditions = conditions.map(|arg| Condition::new(first, arg)).collect::<Result<Vec<_>, _>>()?;
        let repeated = (1..conditions.len())
            .any(|index| conditions[..index].iter().any(|other| other.argument == conditions[index].argument));
        let alternatives = if repeated {
            // libseccomp takes one condition for an argument; runc and crun then make a rule of each condition, so that
            // one of them is enough. Profiles rely on it.
            conditions.into_iter().map(|condition| vec![condition]).collect()
        } else {
            let mut conditions = conditions;
            conditions.sort_by_key(|condition| condition.argument);
            vec![conditions]
        };
        Ok(Self { names, action: action(first, call.action(), call.errno_ret())?, alternatives })
    }
}

impl Condition {
    fn new(call: &str, arg: &LinuxSeccompArg) -> Result<Self, SeccompError> {
        let argument = match u8::try_from(arg.index()) {
            Ok(index) if index < 6 => index,
            _ => return Err(SeccompError::Argument { call: call.into(), index: arg.index() }),
        };
        let (mask, value) = match arg.op() {
            Operator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0)),
            _ => (u64::MAX, arg.value()),
        };
        Ok(Self { argument, operator: arg.op(), value: value & mask, mask })
    }

    /// The same where arguments have 32 bits: what is above them is neither asked for nor looked at.
    fn narrowed(self) -> Self {
        let low = u64::from(u32::MAX);
        Self { value: self.value & low, mask: self.mask & low, ..self }
    }

    /// Whether it holds for a value.
    pub(super) fn holds(&self, value: u64) -> bool {
        match self.operator {
            Operator::ScmpCmpNe => value != self.value,
            Operator::ScmpCmpLt => value < self.value,
            Operator::ScmpCmpLe => value <= self.value,
            Operator::ScmpCmpEq => value == self.value,
            Operator::ScmpCmpGe => value >= self.value,
            Operator::ScmpCmpGt => value > self.value,
            Operator::ScmpCmpMaskedEq => value & self.mask == self.value,
        }
    }

    /// libseccomp's order of the comparisons that it makes in one place: the later argument first; equality, then upper
    /// bounds from the lowest, then lower bounds from the highest.
    fn order(&self) -> impl Ord + use<> {
        let (class, value) = match self.operator {
            Operator::ScmpCmpEq | Operator::ScmpCmpNe | Operator::ScmpCmpMaskedEq => (0, !self.value),
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => (1, self.value),
            Operator::ScmpCmpGe | Operator::ScmpCmpGt => (2, !self.value),
        };
        (Reverse(self.argument), class, value, Reverse(self.mask))
    }
}

impl Table {
    fn new(arch: Arch, named: &[Named<'_>], default: Action) -> Result<Self, SeccompError> {
        // Arm has calls of its own far above all others; what is between them is no newer call.
        const PRIVATE: u32 = 0xf_0000;
        let mut last = 0;
        let mut found: Vec<Mention<'_>> = Vec::with_capacity(named.len());
        // The number, and below it the place in `found`: what the profile says first stays first. Sorting these is much
        // of what compiling takes, and single words are sorted fastest.
        let mut order: Vec<u64> = Vec::with_capacity(named.len());
        for &(name, call, entry) in named {
            // An entry that says what is said anyway overrides nothing.
            let counts = entry.action != default;
            let mut mention = |number: u32, multiplexed| {
                if counts {
                    order.push(u64::from(number) << 32 | found.len() as u64);
                    found.push(Mention { name, entry, multiplexed });
                }
            };
            let multiplexed = call.multiplexed_on(arch);
            if let Some((number, argument)) = multiplexed {
                mention(number, Some(argument));
            }
            let Some(number) = call.on(arch) else { continue };
            let number = number | arch.base();
            if multiplexed.is_none() && number < PRIVATE | arch.base() {
                last = last.max(number);
            }
            mention(number, None);
        }
        order.sort_unstable();
        let number = |key: u64| (key >> 32) as u32;
        let mut calls = Vec::with_capacity(order.len());
        for of_call in order.chunk_by(|a, b| number(*a) == number(*b)) {
            let mentions = of_call.iter().map(|key| found[*key as u32 as usize]);
            calls.push((number(of_call[0]), Verdict::new(arch, mentions)?));
        }
        let last = (last > arch.base() && !default.lets_pass()).then_some(last);
        Ok(Self { arch, calls, last })
    }
}

impl Verdict {
    /// That of all that the profile says of one number.
    fn new<'a>(arch: Arch, of_call: impl ExactSizeIterator<Item = Mention<'a>> + Clone) -> Result<Self, SeccompError> {
        if of_call.len() == 1
            && let Some(Mention { multiplexed: None, entry, .. }) = of_call.clone().next()
            && entry.alternatives.iter().all(Vec::is_empty)
        {
            return Ok(Self::Always(entry.action));
        }
        let mut rules: Vec<(Rule, &str)> = Vec::new();
        for Mention { name, entry, multiplexed } in of_call {
            for conditions in &entry.alternatives {
                let mut conditions = conditions.clone();
                if let Some(value) = multiplexed {
                    // The multiplexer's first argument says which call; the call's own are behind a pointer, where no
                    // filter looks.
                    conditions.retain(|condition| condition.argument != 0);
                    let condition = Condition { argument: 0, operator: Operator::ScmpCmpEq, value, mask: u64::MAX };
                    conditions.insert(0, condition);
                }
                if !arch.is_64() {
                    conditions.iter_mut().for_each(|condition| *condition = condition.narrowed());
                }
                // A mask of nothing asks for nothing.
                conditions.retain(|condition| condition.mask != 0);
                let action = entry.action;
                if conditions.is_empty() {
                    // As with libseccomp, it overrides all that has conditions, before and after it.
                    return Ok(Self::Always(action));
                }
                match rules.iter().find(|(known, _)| known.conditions == conditions) {
                    Some((known, _)) if known.action != action => {
                        return Err(SeccompError::Contradiction(name.into()));
                    }
                    Some(_) => {}
                    None => rules.push((Rule { conditions, action }, name)),
                }
            }
        }
        rules.sort_by(|(a, _), (b, _)| a.order(b));
        Ok(Self::First(rules.into_iter().map(|(rule, _)| rule).collect()))
    }
}

impl Rule {
    /// Which of two rules is asked first. It matters only where both can hold and their actions differ.
    fn order(&self, other: &Self) -> Ordering {
        let keys = |rule: &Self| rule.conditions.iter().map(Condition::order).collect::<Vec<_>>();
        keys(self).cmp(&keys(other))
    }
}
