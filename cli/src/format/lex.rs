//! From a template's text to its pieces: what is printed as it is, and the words of each action.

use super::{Error, Result};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// As it is.
    Text(String),
    /// What stands between `{{` and `}}`.
    Action(Vec<Token>),
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`
    Dot,
    /// `.Name`; whether white space stood before it, for `(index .A 0).Name` is one operand and `. .Name` two.
    Field(String, bool),
    /// `$name`, without the dollar.
    Variable(String),
    /// A function, a keyword or a constant.
    Word(String),
    /// `"text"` or `` `text` ``
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other.
    Float(f64),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Splits a template.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim_start = false;
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        // `{{- ` takes the white space before it away, ` -}}` that after it.
        let trims =
            |action: &str| action.strip_prefix('-').is_some_and(|rest| rest.starts_with([' ', '\t', '\n', '\r']));
        let text = if trim_start { text.trim_start() } else { text };
        let text = if action.is_some_and(trims) { text.trim_end() } else { text };
        if !text.is_empty() {
            // As Docker and Podman read them: a shell has no easy way to type a tab.
            pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
        }
        let Some(action) = action else { return Ok(pieces) };
        let action = if trims(action) { &action[1..] } else { action };
        (rest, trim_start) = match action.trim_start().strip_prefix("/*") {
            Some(comment) => {
                let (_, after) = comment.split_once("*/").ok_or_else(|| Error("a comment has no end: */".into()))?;
                end(after).ok_or_else(|| Error("a comment has {{ and }} to itself: {{/* … */}}".into()))?
            }
            None => {
                let mut lexer = Lexer { rest: action, tokens: Vec::new() };
                let ended = lexer.run()?;
                pieces.push(Piece::Action(lexer.tokens));
                ended
            }
        };
    }
}

/// What follows `}}` or ` -}}`, which may have white space before it; and whether it was the latter.
fn end(text: &str) -> Option<(&str, bool)> {
    let trimmed = text.trim_start();
    if let Some(after) = trimmed.strip_prefix("}}") {
        return Some((after, false));
    }
    let after = trimmed.strip_prefix("-}}")?;
    (trimmed.len() < text.len()).then_some((after, true))
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    /// Reads one action to its end; gives what follows, and whether white space there is taken away.
    fn run(&mut self) -> Result<(&'a str, bool)> {
        loop {
            if let Some(ended) = end(self.rest) {
                return Ok(ended);
            }
            let trimmed = self.rest.trim_start();
            let spaced = trimmed.len() < self.rest.len();
            self.rest = trimmed;
            let Some(first) = self.rest.chars().next() else {
                return Err(Error("an action has no end: }}".into()));
            };
            let token = match first {
                '(' => self.skip(1, Token::Open),
                ')' => self.skip(1, Token::Close),
                '|' => self.skip(1, Token::Pipe),
                ',' => self.skip(1, Token::Comma),
                ':' if self.rest.starts_with(":=") => self.skip(2, Token::Declare),
                '=' => self.skip(1, Token::Assign),
                '"' => Token::Text(self.quoted()?),
                '`' => Token::Text(self.raw()?),
                '.' => {
                    self.rest = &self.rest[1..];
                    match self.name() {
                        name if !name.is_empty() => Token::Field(name.to_owned(), spaced),
                        _ if self.rest.starts_with(|c: char| c.is_ascii_digit()) => {
                            return Err(Error(format!(
                                "a number begins with a digit: write 0.{}",
                                self.name_or_digits()
                            )));
                        }
                        _ => Token::Dot,
                    }
                }
                '$' => {
                    self.rest = &self.rest[1..];
                    Token::Variable(self.name().to_owned())
                }
                '0'..='9' | '+' | '-' => self.number()?,
                c if c.is_alphabetic() || c == '_' => Token::Word(self.name().to_owned()),
                other => return Err(Error(format!("{other:?} means nothing between {{{{ and }}}}"))),
            };
            self.tokens.push(token);
        }
    }

    fn skip(&mut self, length: usize, token: Token) -> Token {
        self.rest = &self.rest[length..];
        token
    }

    /// Letters, digits and `_`, the first no digit; may be empty.
    fn name(&mut self) -> &'a str {
        if self.rest.starts_with(|c: char| c.is_numeric()) { "" } else { self.name_or_digits() }
    }

    fn name_or_digits(&mut self) -> &'a str {
        let length = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name
    }

    fn raw(&mut self) -> Result<String> {
        let (text, rest) = self.rest[1..].split_once('`').ok_or_else(|| Error("a text has no end: `".into()))?;
        self.rest = rest;
        Ok(text.to_owned())
    }

    fn quoted(&mut self) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(same @ ('\\' | '"' | '\'')) => text.push(same),
                    Some(other) => {
                        return Err(Error(format!(
                            "\\{other} means nothing in a text: there are \\n \\t \\r \\\\ \\\""
                        )));
                    }
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err(Error("a text has no end: \"".into()))
    }

    fn number(&mut self) -> Result<Token> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let length = self.rest[1..].find(|c| !is_part(c)).map_or(self.rest.len(), |length| length + 1);
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        if let Ok(number) = text.parse() {
            return Ok(Token::Integer(number));
        }
        // Rust knows words for numbers that are none.
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.map(Token::Float).ok_or_else(|| Error(format!("{text:?} is not a number")))
    }
}
