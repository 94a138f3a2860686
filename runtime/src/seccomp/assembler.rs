//! Classic BPF, written from its end.
//!
//! A jump of classic BPF goes forward only, and a conditional one by 255 instructions at most. Written from the end, all
//! that an instruction can jump to is there already; what is too far away gets a stepping stone: a copy of the return,
//! or an unconditional jump, whose distance has 32 bits.

use rbox_sys::seccomp::Instruction;

use super::rules::Action;

// <linux/bpf_common.h>
pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const RETURN: u16 = 0x06;

/// A conditional jump's comparison of the accumulator with its operand.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(super) enum Test {
    Equal = 0x15,
    AtLeast = 0x35,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The verdict, given by whichever return is near.
    Return(Action),
    /// The instruction with so many after it.
    At(usize),
}

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The foremost return of each verdict.
    returns: Vec<(Action, usize)>,
}

impl Assembler {
    /// The program, which begins at `start`.
    pub(super) fn finish(mut self, start: Target) -> Vec<Instruction> {
        self.next_is(start);
        self.reversed.reverse();
        self.reversed
    }

    /// `yes` if the accumulator stands the test, `no` otherwise.
    pub(super) fn branch(&mut self, test: Test, operand: u32, mut yes: Target, mut no: Target) -> Target {
        if yes == no {
            return yes;
        }
        loop {
            match (self.distance(yes), self.distance(no)) {
                (Some(jt), Some(jf)) => return self.push(Instruction { code: test as u16, jt, jf, k: operand }),
                // A stone for one moves the other away by an instruction; so both are looked at again.
                (None, _) => yes = self.stone(yes),
                (_, None) => no = self.stone(no),
            }
        }
    }

    /// Loads the 32-bit word at this offset of `seccomp_data`.
    pub(super) fn load(&mut self, offset: u32, then: Target) -> Target {
        self.next_is(then);
        self.push(Instruction { code: LOAD_WORD, jt: 0, jf: 0, k: offset })
    }

    /// Leaves of the accumulator what is in the mask.
    pub(super) fn and(&mut self, mask: u32, then: Target) -> Target {
        self.next_is(then);
        self.push(Instruction { code: AND, jt: 0, jf: 0, k: mask })
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::At(self.reversed.len() - 1)
    }

    /// Makes `target` the foremost instruction.
    fn next_is(&mut self, target: Target) {
        if self.distance(target) != Some(0) {
            self.stone(target);
        }
    }

    fn stone(&mut self, target: Target) -> Target {
        match target {
            Target::Return(action) => {
                let position = self.reversed.len();
                self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: action.0 });
                match self.returns.iter_mut().find(|(known, _)| *known == action) {
                    Some((_, foremost)) => *foremost = position,
                    None => self.returns.push((action, position)),
                }
                target
            }
            Target::At(position) => {
                // A program too long for this distance is refused for its length, later.
                let k = u32::try_from(self.reversed.len() - position - 1).unwrap_or(u32::MAX);
                self.push(Instruction { code: JUMP, jt: 0, jf: 0, k })
            }
        }
    }

    /// How many instructions are between the one to be written next and the target, if few enough.
    fn distance(&self, target: Target) -> Option<u8> {
        let position = match target {
            Target::At(position) => position,
            Target::Return(action) => self.returns.iter().find(|(known, _)| *known == action)?.1,
        };
        u8::try_from(self.reversed.len() - position - 1).ok()
    }
}
