//! Rules together: what `--egress` and `--egress-file` say.
//!
//! Where anything is allowed by a rule, whatever no rule allows is refused; without such a rule, whatever no rule
//! denies is allowed. What a rule denies is refused in either case, in whichever order they are given.

use std::net::IpAddr;

use super::name::Name;
use super::rule::{InvalidRule, Rule};

/// Where a guest may go. Anywhere, at first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Nothing else, where there is a list.
    allow: Option<Vec<Rule>>,
    deny: Vec<Rule>,
}

/// Why a text is none of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// One of them is none.
    #[error(transparent)]
    Rule(#[from] InvalidRule),
    /// Of a file.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: Box<InvalidPolicy>,
    },
    /// The option begins with something else.
    #[error("invalid egress rules {0:?}: they are allow=RULE,…, deny=RULE,… or none")]
    Kind(String),
    /// The line begins with something else.
    #[error("invalid egress rule {0:?}: a line is 'allow RULE', 'deny RULE' or a comment after '#'")]
    Word(String),
    /// A list without anything in it is more likely a mistake.
    #[error("no egress rule is given; nothing at all gets out with none")]
    Empty,
    /// `none` and rules cannot both be meant.
    #[error("egress is none, and there are rules as well")]
    Both,
}

impl Policy {
    /// Nothing gets out.
    pub fn nothing() -> Self {
        Self { allow: Some(Vec::new()), deny: Vec::new() }
    }

    /// Adds what one `--egress` says: `allow=RULE,…`, `deny=RULE,…` or `none`.
    pub fn add(&mut self, option: &str) -> Result<(), InvalidPolicy> {
        if option == "none" {
            if !self.is_open() && !self.is_closed() {
                return Err(InvalidPolicy::Both);
            }
            *self = Self::nothing();
            return Ok(());
        }
        let kind = || InvalidPolicy::Kind(option.to_owned());
        let (word, rules) = option.split_once('=').ok_or_else(kind)?;
        let effect = Effect::parse(word).ok_or_else(kind)?;
        if rules.is_empty() {
            return Err(InvalidPolicy::Empty);
        }
        rules.split(',').try_for_each(|rule| self.add_rule(effect, rule.trim()))
    }

    /// Adds what an `--egress-file` has: `allow RULE` or `deny RULE` on a line, and comments from `#` on.
    pub fn add_file(&mut self, text: &str) -> Result<(), InvalidPolicy> {
        let mut any = false;
        for (line, number) in text.lines().zip(1..) {
            let line = line.split('#').next().unwrap_or(line).trim();
            if line.is_empty() {
                continue;
            }
            any = true;
            self.add_line(line).map_err(|why| InvalidPolicy::Line { line: number, why: Box::new(why) })?;
        }
        if any { Ok(()) } else { Err(InvalidPolicy::Empty) }
    }

    fn add_line(&mut self, line: &str) -> Result<(), InvalidPolicy> {
        let word = || InvalidPolicy::Word(line.to_owned());
        let (effect, rule) = line.split_once(char::is_whitespace).ok_or_else(word)?;
        self.add_rule(Effect::parse(effect).ok_or_else(word)?, rule.trim())
    }

    fn add_rule(&mut self, effect: Effect, rule: &str) -> Result<(), InvalidPolicy> {
        if self.is_closed() {
            return Err(InvalidPolicy::Both);
        }
        let rule = rule.parse()?;
        match effect {
            Effect::Allow => self.allow.get_or_insert_default().push(rule),
            Effect::Deny => self.deny.push(rule),
        }
        Ok(())
    }

    /// Whether it refuses nothing.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// Whether it lets nothing out.
    pub fn is_closed(&self) -> bool {
        self.allow.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether there is a list of what is allowed.
    pub(super) fn is_list_of_allowed(&self) -> bool {
        self.allow.is_some()
    }

    /// Whether any rule is about names.
    pub(super) fn has_names(&self) -> bool {
        self.allow.iter().flatten().chain(&self.deny).any(Rule::is_of_names)
    }

    /// Whether anything may be asked about this name.
    pub(super) fn may_be_asked(&self, name: &Name) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|rules| rules.iter().any(|rule| rule.has_name(name)));
        allowed && !self.denies_all_of(name)
    }

    /// Whether this name is denied, and not only some of its ports.
    pub(super) fn denies_all_of(&self, name: &Name) -> bool {
        self.deny.iter().any(|rule| rule.is_for_all_ports() && rule.has_name(name))
    }

    /// Whether a rule denies any port of this name.
    pub(super) fn denies_some_of(&self, name: &Name) -> bool {
        self.deny.iter().any(|rule| rule.has_name(name))
    }

    pub(super) fn denies_name(&self, name: &Name, port: Option<u16>) -> bool {
        self.deny.iter().any(|rule| rule.has_port(port) && rule.has_name(name))
    }

    pub(super) fn denies_address(&self, address: IpAddr, port: Option<u16>) -> bool {
        self.deny.iter().any(|rule| rule.has_port(port) && rule.has_address(address))
    }

    /// Whether a rule denies this port of any name.
    pub(super) fn denies_names_at(&self, port: Option<u16>) -> bool {
        self.deny.iter().any(|rule| rule.is_of_names() && rule.has_port(port))
    }

    /// Whether this address needs no name.
    pub(super) fn allows_address(&self, address: IpAddr, port: Option<u16>) -> bool {
        self.allow
            .as_ref()
            .is_none_or(|rules| rules.iter().any(|rule| rule.has_port(port) && rule.has_address(address)))
    }

    /// Whether a rule that is not about names allows this address, whatever its port.
    pub(super) fn names_address(&self, address: IpAddr) -> bool {
        self.allow.iter().flatten().any(|rule| rule.has_address(address))
    }

    pub(super) fn allows_name(&self, name: &Name, port: Option<u16>) -> bool {
        self.allow.as_ref().is_none_or(|rules| rules.iter().any(|rule| rule.has_port(port) && rule.has_name(name)))
    }
}

#[derive(Debug, Clone, Copy)]
enum Effect {
    Allow,
    Deny,
}

impl Effect {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "allow" => Some(Self::Allow),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(options: &[&str]) -> Result<Policy, InvalidPolicy> {
        let mut policy = Policy::default();
        options.iter().try_for_each(|option| policy.add(option))?;
        Ok(policy)
    }

    #[test]
    fn a_file_says_what_options_say() {
        let mut file = Policy::default();
        let text = "# the registry\nallow example.com:443 # and no more\n\n  allow\t10.0.0.0/8\r\ndeny *.evil.net\n";
        file.add_file(text).expect("rules");
        assert_eq!(policy(&["allow=example.com:443,10.0.0.0/8", "deny=*.evil.net"]), Ok(file));
        assert_eq!(policy(&["none"]), Ok(Policy::nothing()));
        assert_eq!(policy(&[]), Ok(Policy::default()));
    }

    #[test]
    fn errors_say_where_they_are() {
        for (options, why) in [
            (&["allow"][..], "allow=RULE"),
            (&["permit=a"], "allow=RULE"),
            (&["allow="], "no egress rule is given"),
            (&["allow=a,,b"], r#"invalid egress rule "": it is empty"#),
            (&["none", "allow=a"], "none, and there are rules"),
            (&["deny=a", "none"], "none, and there are rules"),
        ] {
            let error = policy(options).expect_err("an error").to_string();
            assert!(error.contains(why), "{error}");
        }
        for (text, why) in [
            ("allow a\ndeny b:x", r#"line 2: invalid egress rule "b:x": "x" is no port"#),
            ("example.com", "line 1: invalid egress rule \"example.com\": a line is"),
            ("permit example.com", "a line is 'allow RULE'"),
            ("allow a b", "letters, digits"),
            ("# nothing\n\n", "no egress rule is given"),
        ] {
            let error = Policy::default().add_file(text).expect_err("an error").to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_denied_is_not_allowed() {
        let policy = policy(&["allow=*.example.com", "deny=bad.example.com,worse.example.com:25"]).expect("rules");
        let name = |text: &str| text.parse::<Name>().expect("a name");
        assert!(policy.may_be_asked(&name("good.example.com")));
        assert!(policy.may_be_asked(&name("worse.example.com")));
        assert!(!policy.may_be_asked(&name("bad.example.com")));
        assert!(!policy.may_be_asked(&name("example.com")));
        assert!(policy.denies_name(&name("worse.example.com"), Some(25)));
        assert!(!policy.denies_name(&name("worse.example.com"), Some(26)));
    }
}
