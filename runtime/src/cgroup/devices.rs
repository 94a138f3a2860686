//! Which devices a cgroup's processes may open and make: the rules of `linux.resources.devices` as a program that the
//! kernel runs at each access.
//!
//! The rules mean what they meant in cgroup v1 (runtime spec, "Allowed Device list"): nothing is allowed at first,
//! and of the rules that speak of a device and of one kind of access (read, write, mknod) the last one decides. An
//! access of several kinds at once, such as opening for reading and writing, is allowed if each of them is. So the
//! program goes through the rules backwards and crosses off what has been allowed.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rbox_sys::bpf::Instruction;

use super::Error;

/// One rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// [`BLOCK`] or [`CHARACTER`]; `None`: both.
    kind: Option<i32>,
    /// `None`: any.
    major: Option<i32>,
    minor: Option<i32>,
    /// Of [`MKNOD`], [`READ`] and [`WRITE`].
    access: i32,
}

// linux/bpf.h: BPF_DEVCG_DEV_*, BPF_DEVCG_ACC_*.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;

/// What every container may use, whatever its spec says: any node may be made (opening it is another thing), and the
/// devices that a container's /dev has (runtime spec, "Default Devices"), with the terminals. /dev/net/tun is here
/// because runc and crun allow it and images have come to rely on that.
const DEFAULTS: [Rule; 12] = [
    Rule { allow: true, kind: Some(CHARACTER), major: None, minor: None, access: MKNOD },
    Rule { allow: true, kind: Some(BLOCK), major: None, minor: None, access: MKNOD },
    character(1, Some(3)),    // null
    character(1, Some(5)),    // zero
    character(1, Some(7)),    // full
    character(1, Some(8)),    // random
    character(1, Some(9)),    // urandom
    character(5, Some(0)),    // tty
    character(5, Some(1)),    // console
    character(5, Some(2)),    // ptmx
    character(136, None),     // pts
    character(10, Some(200)), // net/tun
];

const fn character(major: i32, minor: Option<i32>) -> Rule {
    Rule { allow: true, kind: Some(CHARACTER), major: Some(major), minor, access: ALL }
}

/// The program for these rules, with the defaults after them.
pub(super) fn program(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Instruction>, Error> {
    let rules = rules.iter().enumerate().map(|(at, rule)| check(at, rule)).collect::<Result<Vec<_>, _>>()?;
    Ok(emit(rules.iter().chain(&DEFAULTS)))
}

fn check(at: usize, rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let refuse = |field: &str, why: String| Err(Error::refused(format!("linux.resources.devices[{at}].{field}"), why));
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(BLOCK),
        Some(LinuxDeviceType::C) => Some(CHARACTER),
        Some(other) => return refuse("type", format!("'{}' is none of a, b and c", other.as_str())),
    };
    // -1 is how runc writes "any" into the specs that it makes.
    let number = |field, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => match i32::try_from(number) {
            Ok(number @ 0..) => Ok(Some(number)),
            _ => refuse(field, format!("{number} is no device number")).map(|_: Rule| None),
        },
    };
    let mut access = 0;
    for letter in rule.access().iter().flat_map(|access| access.chars()) {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return refuse("access", format!("'{other}' is none of r, w and m")),
        };
    }
    if access == 0 {
        return refuse("access", "it is empty; it must have some of r, w and m".into());
    }
    let (major, minor) = (number("major", rule.major())?, number("minor", rule.minor())?);
    Ok(Rule { allow: rule.allow(), kind, major, minor, access })
}

// The operations used, as linux/bpf_common.h and linux/bpf.h compose them.
/// `destination = *(u32 *)(source + offset)`
const LOAD_WORD: u8 = 0x61;
/// `destination = source`
const MOVE: u8 = 0xbf;
/// `destination = immediate`
const MOVE_CONSTANT: u8 = 0xb7;
/// `destination &= immediate`
const AND: u8 = 0x57;
/// `destination >>= immediate`
const SHIFT_RIGHT: u8 = 0x77;
/// `if destination == immediate, skip offset instructions`
const SKIP_IF_EQUAL: u8 = 0x15;
/// `if destination != immediate, skip offset instructions`
const SKIP_IF_NOT: u8 = 0x55;
/// Ends the program with register 0 as its answer.
const EXIT: u8 = 0x95;

// Registers, and what they hold here.
const ANSWER: u8 = 0;
/// `struct bpf_cgroup_dev_ctx`: access and kind of device, major, minor.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The kinds of access that are asked for and that no rule has allowed yet.
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn emit<'a>(rules: impl DoubleEndedIterator<Item = &'a Rule>) -> Vec<Instruction> {
    let mut program = vec![
        // The kind of device is in the lower half of the first word, the access in the upper.
        Instruction::new(LOAD_WORD, KIND, CONTEXT, 0, 0),
        Instruction::new(MOVE, WANTED, KIND, 0, 0),
        Instruction::new(AND, KIND, 0, 0, 0xffff),
        Instruction::new(SHIFT_RIGHT, WANTED, 0, 0, 16),
        Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.rev() {
        let conditions = [(KIND, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)];
        let conditions: Vec<_> =
            conditions.iter().filter_map(|(register, value)| Some((*register, (*value)?))).collect();
        if conditions.is_empty() && rule.access == ALL {
            // It decides all that is left; the verifier refuses programs with instructions that are never reached.
            program.extend(answer(rule.allow));
            return program;
        }
        let mut verdict = if rule.allow {
            vec![
                Instruction::new(AND, WANTED, 0, 0, ALL & !rule.access),
                Instruction::new(SKIP_IF_NOT, WANTED, 0, 2, 0),
            ]
        } else {
            vec![
                Instruction::new(MOVE, SCRATCH, WANTED, 0, 0),
                Instruction::new(AND, SCRATCH, 0, 0, rule.access),
                Instruction::new(SKIP_IF_EQUAL, SCRATCH, 0, 2, 0),
            ]
        };
        verdict.extend(answer(rule.allow));
        let end = program.len() + conditions.len() + verdict.len();
        for (register, value) in conditions {
            let skip = end - program.len() - 1;
            program.push(Instruction::new(SKIP_IF_NOT, register, 0, skip as i16, value));
        }
        program.append(&mut verdict);
    }
    program.extend(answer(false));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [Instruction::new(MOVE_CONSTANT, ANSWER, 0, 0, i32::from(allow)), Instruction::new(EXIT, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would: 1 is "allowed". It panics on what the kernel's verifier refuses: a jump
    /// out of the program, an unknown operation, a register that was never set.
    fn run(program: &[Instruction], kind: i32, major: i32, minor: i32, access: i32) -> bool {
        let context = [access << 16 | kind, major, minor].map(|word| word as u32);
        let mut registers: [Option<u64>; 11] = [None; 11];
        let mut at = 0;
        loop {
            let (code, destination, source, offset, immediate) = program[at].parts();
            let (destination, constant) = (usize::from(destination), i64::from(immediate) as u64);
            let value = |register: usize| registers[register].expect("a register that was set");
            at += 1;
            match code {
                LOAD_WORD => {
                    assert_eq!(source, CONTEXT);
                    registers[destination] = Some(context[offset as usize / 4].into());
                }
                MOVE => registers[destination] = Some(value(source.into())),
                MOVE_CONSTANT => registers[destination] = Some(constant),
                AND => registers[destination] = Some(value(destination) & constant),
                SHIFT_RIGHT => registers[destination] = Some(value(destination) >> constant),
                SKIP_IF_EQUAL if value(destination) == constant => at += offset as usize,
                SKIP_IF_NOT if value(destination) != constant => at += offset as usize,
                SKIP_IF_EQUAL | SKIP_IF_NOT => {}
                EXIT => return value(0) == 1,
                other => panic!("unknown operation {other:#x}"),
            }
        }
    }

    fn parse(rules: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(rules).expect("device rules")
    }

    /// `c 1:3 rw`, asked of the program for `rules`.
    fn asks(rules: &str, question: &str) -> bool {
        let program = program(&parse(rules)).expect("a program");
        let words: Vec<&str> = question.split([' ', ':']).collect();
        let kind = if words[0] == "c" { CHARACTER } else { BLOCK };
        let bit = |letter| match letter {
            'r' => READ,
            'w' => WRITE,
            _ => MKNOD,
        };
        let access = words[3].chars().map(bit).sum();
        run(&program, kind, words[1].parse().expect("major"), words[2].parse().expect("minor"), access)
    }

    #[test]
    fn nothing_but_the_defaults_is_allowed_without_rules() {
        for rules in ["[]", r#"[{"allow": false, "access": "rwm"}]"#] {
            for question in ["c 1:3 rw", "c 1:9 r", "c 5:0 rw", "c 5:2 rw", "c 136:77 rw", "c 10:200 rw", "b 8:0 m"] {
                assert!(asks(rules, question), "{question}");
            }
            for question in ["c 1:1 r", "c 1:4 rw", "b 8:0 r", "b 8:0 rm", "c 4:64 w", "b 1:3 r", "c 1:11 r"] {
                assert!(!asks(rules, question), "{question}");
            }
        }
    }

    #[test]
    fn the_last_rule_that_speaks_of_an_access_decides_it() {
        let rules = r#"[
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "access": "rw"},
            {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"}
        ]"#;
        assert!(asks(rules, "b 8:0 rw"));
        assert!(asks(rules, "b 8:1 r"));
        assert!(!asks(rules, "b 8:1 w"));
        // Both at once are not allowed by the earlier rule that allows both.
        assert!(!asks(rules, "b 8:1 rw"));
        assert!(!asks(rules, "c 8:0 r"));
    }

    #[test]
    fn permissions_of_several_rules_add_up() {
        let rules = r#"[
            {"allow": true, "type": "c", "major": 4, "minor": 64, "access": "r"},
            {"allow": true, "type": "c", "major": 4, "minor": -1, "access": "w"}
        ]"#;
        assert!(asks(rules, "c 4:64 rw"));
        assert!(asks(rules, "c 4:64 rwm"));
        assert!(asks(rules, "c 4:65 w"));
        assert!(!asks(rules, "c 4:65 rw"));
    }

    #[test]
    fn all_but_some() {
        let rules = r#"[
            {"allow": true, "type": "a", "access": "rwm"},
            {"allow": false, "type": "c", "major": 1, "minor": 1, "access": "rw"}
        ]"#;
        assert!(asks(rules, "b 259:3 rwm"));
        assert!(!asks(rules, "c 1:1 r"));
        let reset = r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "a", "access": "rwm"}]"#;
        assert!(!asks(reset, "b 259:3 r"));
        let read_only = r#"[{"allow": true, "access": "r"}]"#;
        assert!(asks(read_only, "b 259:3 r") && asks(read_only, "b 259:3 rm") && !asks(read_only, "b 259:3 rw"));
    }

    #[test]
    fn what_is_no_rule_is_refused_by_name() {
        for (rules, said) in [
            (r#"[{"allow": true, "type": "p", "access": "r"}]"#, "devices[0].type"),
            (r#"[{"allow": true, "access": "r"}, {"allow": true, "major": -2, "access": "r"}]"#, "devices[1].major"),
            (r#"[{"allow": true, "minor": 4294967296, "access": "r"}]"#, "devices[0].minor"),
            (r#"[{"allow": true, "access": "rx"}]"#, "devices[0].access"),
            (r#"[{"allow": true}]"#, "devices[0].access"),
        ] {
            let error = program(&parse(rules)).expect_err(rules).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn nothing_is_unreachable_after_a_rule_for_everything() {
        let all = Rule { allow: true, kind: None, major: None, minor: None, access: ALL };
        // Those before it can never decide anything.
        assert_eq!(emit([character(1, None), all].iter()).len(), 8);
    }
}
