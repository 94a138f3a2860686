//! A checked filter → a program.
//!
//! ```text
//! load arch ─ native? ─ other? ─ … ─ kill
//!                │         └─▶ load number ─ tree
//!                └─▶ load number ─ tree over ranges of numbers ─▶ verdict
//!                                                             └─▶ arguments ─▶ verdict, or the default
//! ```
//!
//! Neighbouring numbers with one verdict are one range, and the ranges are the leaves of a binary tree. The kernel runs
//! the filter once for each number while it is installed, and keeps which are allowed whatever their arguments (Linux
//! 5.11); so the length of the paths counts at a container's start above all.
//!
//! An argument of 64 bits is compared in two words. Neighbouring rules that each look at one argument become one
//! function of its value: which verdict holds from which value on. That is a tree over the upper word whose leaves are
//! trees over the lower one.

use oci_spec::runtime::LinuxSeccompOperator as Operator;
use rbox_sys::seccomp::Instruction;

use super::arch::{AUDIT_X86_64, Arch, X32_BIT};
use super::assembler::{Assembler, Target, Test};
use super::rules::{Action, Condition, Filter, Rule, Table, Verdict};

/// Offsets in `seccomp_data` (<linux/seccomp.h>).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program of a filter.
pub(super) fn program(filter: &Filter) -> Vec<Instruction> {
    let mut emitter = Emitter { assembler: Assembler::default(), default: filter.default };
    let mut entries: Vec<(u32, Target)> = Vec::new();
    // From the last to the native one, which so comes to stand first.
    for table in filter.tables.iter().rev() {
        let audit = table.arch.audit();
        if entries.iter().all(|(known, _)| *known != audit) {
            let same = filter.tables.iter().filter(|other| other.arch.audit() == audit);
            entries.push((audit, emitter.calls(audit, &same.collect::<Vec<_>>())));
        }
    }
    // libseccomp's answer to other architectures, which neither runc nor crun changes.
    let mut other = Target::Return(Action::KILL_THREAD);
    for (audit, entry) in entries {
        other = emitter.assembler.branch(Test::Equal, audit, entry, other);
    }
    let start = emitter.assembler.load(ARCH, other);
    emitter.assembler.finish(start)
}

/// From each number or value on, until the next: where to go.
type Ranges = Vec<(u32, Target)>;

struct Emitter {
    assembler: Assembler,
    default: Action,
}

impl Emitter {
    /// All calls of one AUDIT_ARCH; x86-64 and x32 share theirs.
    fn calls(&mut self, audit: u32, tables: &[&Table]) -> Target {
        let mut ranges = Ranges::new();
        if audit == AUDIT_X86_64 {
            let of = |arch| tables.iter().find(|table| table.arch == arch).copied();
            self.calls_of_x86_64(of(Arch::X86_64), of(Arch::X32), &mut ranges);
        } else {
            for table in tables {
                self.calls_of(table, None, &mut ranges);
            }
        }
        let tree = self.tree(&mut ranges);
        self.assembler.load(NUMBER, tree)
    }

    /// Numbers with bit 30 are x32's; bit 31 belongs to neither.
    fn calls_of_x86_64(&mut self, x86_64: Option<&Table>, x32: Option<&Table>, ranges: &mut Ranges) {
        const BEYOND: u32 = 1 << 31;
        let kill = Target::Return(Action::KILL_THREAD);
        match x86_64 {
            Some(table) => self.calls_of(table, Some(X32_BIT), ranges),
            None => ranges.push((0, kill)),
        }
        match (x32, x86_64.and_then(|table| table.last)) {
            (Some(table), last) => {
                self.calls_of(table, Some(BEYOND), ranges);
                let of_64 = if last.is_some() { Action::ENOSYS } else { self.default };
                let of_32 = if table.last.is_some() { Action::ENOSYS } else { self.default };
                let of_64 = if x86_64.is_some() { Target::Return(of_64) } else { kill };
                ranges.push((BEYOND, of_64));
                ranges.push((BEYOND | X32_BIT, Target::Return(of_32)));
            }
            (None, last) => {
                ranges.push((X32_BIT, kill));
                if last.is_some() {
                    ranges.push((BEYOND, Target::Return(Action::ENOSYS)));
                    ranges.push((BEYOND | X32_BIT, kill));
                }
                // A tracer skips a call by this number, and that is no call of x32 (seccomp(2), SECCOMP_RET_TRACE).
                ranges.push((u32::MAX, Target::Return(self.default)));
            }
        }
    }

    /// Those of one table, from its first number up to `end`.
    fn calls_of(&mut self, table: &Table, end: Option<u32>, ranges: &mut Ranges) {
        let default = Target::Return(self.default);
        // Numbers newer than all that the profile knows get ENOSYS, so that programs try what they did before (runc).
        let unnamed = table.last.map(|last| last + 1);
        let mut next = table.arch.base();
        let gap = |ranges: &mut Ranges, from: u32, to: Option<u32>| {
            if to.is_some_and(|to| from >= to) {
                return;
            }
            match unnamed {
                Some(unnamed) if unnamed <= from => ranges.push((from, Target::Return(Action::ENOSYS))),
                Some(unnamed) if to.is_none_or(|to| unnamed < to) => {
                    ranges.extend([(from, default), (unnamed, Target::Return(Action::ENOSYS))]);
                }
                _ => ranges.push((from, default)),
            }
        };
        for (number, verdict) in &table.calls {
            gap(ranges, next, Some(*number));
            let target = match verdict {
                Verdict::Always(action) => Target::Return(*action),
                Verdict::First(rules) => self.rules(rules, table.arch.is_64()),
            };
            ranges.push((*number, target));
            next = number + 1;
        }
        gap(ranges, next, end);
    }

    /// The first rule that holds.
    fn rules(&mut self, rules: &[Rule], wide: bool) -> Target {
        let mut next = Target::Return(self.default);
        let groups: Vec<&[Rule]> =
            rules.chunk_by(|a, b| a.value_of().is_some() && a.value_of() == b.value_of()).collect();
        for group in groups.into_iter().rev() {
            let first = &group[0];
            next =
                match first.value_of() {
                    Some(argument) => {
                        let conditions: Vec<_> =
                            group.iter().map(|rule| (rule.conditions[0], Target::Return(rule.action))).collect();
                        self.value(argument, &conditions, next, wide)
                    }
                    None => first.conditions.iter().rev().fold(Target::Return(first.action), |holds, condition| {
                        match condition.operator {
                            Operator::ScmpCmpMaskedEq => self.masked(condition, holds, next, wide),
                            _ => self.value(condition.argument, &[(*condition, holds)], next, wide),
                        }
                    }),
                };
        }
        next
    }

    /// The bits in the mask, word by word.
    fn masked(&mut self, condition: &Condition, holds: Target, fails: Target, wide: bool) -> Target {
        let (offset, words) = (offset(condition.argument), halves(condition.value));
        halves(condition.mask).into_iter().zip(words).zip([offset + 4, offset]).fold(
            holds,
            |holds, ((mask, value), offset)| {
                let upper = offset % 8 == 4;
                if mask == 0 || upper && !wide {
                    return holds;
                }
                let test = self.assembler.branch(Test::Equal, value, holds, fails);
                let masked = if mask == u32::MAX { test } else { self.assembler.and(mask, test) };
                self.assembler.load(offset, masked)
            },
        )
    }

    /// One argument's value: where the first condition that holds leads.
    fn value(&mut self, argument: u8, conditions: &[(Condition, Target)], fails: Target, wide: bool) -> Target {
        let offset = offset(argument);
        let mut starts = vec![0];
        for (condition, _) in conditions {
            let value = condition.value;
            match condition.operator {
                Operator::ScmpCmpLt | Operator::ScmpCmpGe => starts.push(value),
                Operator::ScmpCmpLe | Operator::ScmpCmpGt => starts.extend(value.checked_add(1)),
                _ => starts.extend([Some(value), value.checked_add(1)].into_iter().flatten()),
            }
        }
        let limit = if wide { u64::MAX } else { u64::from(u32::MAX) };
        starts.retain(|start| *start <= limit);
        starts.sort_unstable();
        starts.dedup();
        let at = |value: u64| {
            conditions.iter().find(|(condition, _)| condition.holds(value)).map_or(fails, |(_, target)| *target)
        };
        let mut upper = Ranges::new();
        for of_word in starts.chunk_by(|a, b| a >> 32 == b >> 32) {
            let [word, _] = halves(of_word[0]);
            let mut lower: Ranges = of_word.iter().map(|start| (halves(*start)[1], at(*start))).collect();
            if lower[0].0 != 0 {
                lower.insert(0, (0, at(u64::from(word) << 32)));
            }
            let tree = self.tree(&mut lower);
            let constant = lower.len() == 1;
            upper.push((word, if constant { tree } else { self.assembler.load(offset, tree) }));
            // The next words are as the end of this one, until a value of theirs says otherwise.
            if let Some(next) = word.checked_add(1) {
                upper.push((next, at(of_word[of_word.len() - 1])));
            }
        }
        if !wide {
            return upper[0].1;
        }
        // Where the next word has values of its own, it is named twice, and the second counts.
        upper.reverse();
        upper.dedup_by_key(|(word, _)| *word);
        upper.reverse();
        let tree = self.tree(&mut upper);
        if upper.len() == 1 { tree } else { self.assembler.load(offset + 4, tree) }
    }

    /// Where the accumulator's value leads. The first range begins at or below all values that can come; neighbours
    /// with one target are made one.
    fn tree(&mut self, ranges: &mut Ranges) -> Target {
        ranges.dedup_by(|later, earlier| later.1 == earlier.1);
        self.subtree(ranges)
    }

    fn subtree(&mut self, ranges: &[(u32, Target)]) -> Target {
        match ranges {
            [(_, only)] => *only,
            // One value among others.
            [(_, around), (value, target), (end, after)] if around == after && *end == value + 1 => {
                self.assembler.branch(Test::Equal, *value, *target, *around)
            }
            [(_, before), (last, target)] if *last == u32::MAX => {
                self.assembler.branch(Test::Equal, *last, *target, *before)
            }
            _ => {
                // An odd number on the left, which leaves most such triples whole.
                let middle = (ranges.len() / 2) | 1;
                let middle = if middle < ranges.len() { middle } else { ranges.len() - 1 };
                let (left, right) = ranges.split_at(middle);
                let least = right[0].0;
                let (right, left) = (self.subtree(right), self.subtree(left));
                self.assembler.branch(Test::AtLeast, least, right, left)
            }
        }
    }
}

impl Rule {
    /// The argument, if the rule looks at the value of one and at nothing else.
    fn value_of(&self) -> Option<u8> {
        match self.conditions[..] {
            [condition] if condition.operator != Operator::ScmpCmpMaskedEq => Some(condition.argument),
            _ => None,
        }
    }
}

/// Where the argument's lower word is; the upper one follows it, all architectures here being little-endian.
fn offset(argument: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(argument)
}

/// The upper word and the lower one.
fn halves(value: u64) -> [u32; 2] {
    [(value >> 32) as u32, value as u32]
}
