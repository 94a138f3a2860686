//! From pieces to a tree.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::Value;

use super::lex::{self, Piece, Token};
use super::{Error, Result, functions};

/// How deep blocks and parentheses may stand in each other: the evaluation follows them on the stack.
const DEEPEST: usize = 64;

/// A step of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// As it is.
    Text(String),
    /// Prints a value, or gives it to a variable.
    Print(Pipeline),
    /// `if … else if … else`: the first of these that holds.
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// `with … else with … else`: as `if`, and what held is the dot.
    With(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// `range … else`
    Range(Pipeline, Vec<Node>, Vec<Node>),
    /// Ends the innermost range.
    Break,
    /// Goes on with the next round of it.
    Continue,
}

/// Commands, each of which is given what the one before it made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    /// The variables that are given the value.
    pub(super) variables: Vec<String>,
    /// Whether they are new.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// An operand, or something that is called with operands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub(super) head: Operand,
    pub(super) arguments: Vec<Operand>,
}

/// Something that has a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// A literal.
    Literal(Value),
    /// The dot, and fields of it.
    Dot(Vec<String>),
    /// A variable, and fields of it; the one without a name is what the whole template is given.
    Variable(String, Vec<String>),
    /// A pipeline in parentheses, and fields of its value.
    Nested(Box<Pipeline>, Vec<String>),
    /// A function.
    Function(String),
}

/// Parses a template.
pub(super) fn parse(template: &str) -> Result<Vec<Node>> {
    let mut parser =
        Parser { pieces: lex::pieces(template)?.into_iter(), variables: vec![String::new()], depth: 0, ranges: 0 };
    let (body, end) = parser.block()?;
    match end {
        None => Ok(body),
        Some(_) => Err(Error("{{end}} or {{else}} without an if, with or range before it".into())),
    }
}

/// What ends a block; `else` with the words behind it.
enum End {
    End,
    Else(Vec<Token>),
}

struct Parser {
    pieces: IntoIter<Piece>,
    /// Those that can be used here.
    variables: Vec<String>,
    depth: usize,
    /// How many ranges this is in.
    ranges: usize,
}

type Tokens = Peekable<IntoIter<Token>>;

impl Parser {
    /// Up to what ends the block, or the template.
    fn block(&mut self) -> Result<(Vec<Node>, Option<End>)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let mut tokens = tokens.into_iter().peekable();
            let keyword = match tokens.peek() {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" | "else" | "break" | "continue" => {
                    tokens.next();
                    let rest: Vec<Token> = tokens.collect();
                    if keyword == "else" {
                        return Ok((nodes, Some(End::Else(rest))));
                    }
                    if !rest.is_empty() {
                        return Err(Error(format!("nothing can follow {keyword:?} within its {{{{ and }}}}")));
                    }
                    if keyword == "end" {
                        return Ok((nodes, Some(End::End)));
                    }
                    if self.ranges == 0 {
                        return Err(Error(format!("{keyword:?} outside of a range")));
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "if" | "with" | "range" => {
                    tokens.next();
                    nodes.push(self.control(&keyword, tokens)?);
                }
                "define" | "template" | "block" => {
                    return Err(Error(format!("{keyword:?} is not there: a format is one template")));
                }
                _ => nodes.push(Node::Print(self.whole_pipeline(tokens, false)?)),
            }
        }
        Ok((nodes, None))
    }

    fn control(&mut self, keyword: &str, tokens: Tokens) -> Result<Node> {
        self.enter()?;
        let known = self.variables.len();
        let is_range = keyword == "range";
        let pipeline = self.whole_pipeline(tokens, is_range)?;
        self.ranges += usize::from(is_range);
        let (body, mut end) = self.block()?;
        self.ranges -= usize::from(is_range);
        let mut cases = vec![(pipeline, body)];
        let mut otherwise = Vec::new();
        loop {
            match end {
                None => return Err(Error(format!("{keyword:?} without its {{{{end}}}}"))),
                Some(End::End) => break,
                Some(End::Else(rest)) if rest.is_empty() => {
                    let (body, ended) = self.block()?;
                    if !matches!(ended, Some(End::End)) {
                        return Err(Error(format!("what follows the {{{{else}}}} of {keyword:?} is not {{{{end}}}}")));
                    }
                    otherwise = body;
                    break;
                }
                // `else if` of an `if`, `else with` of a `with`.
                Some(End::Else(rest)) => {
                    let mut tokens = rest.into_iter().peekable();
                    if is_range || tokens.next() != Some(Token::Word(keyword.to_owned())) {
                        return Err(Error(format!("the {{{{else}}}} of {keyword:?} has words that mean nothing")));
                    }
                    let pipeline = self.whole_pipeline(tokens, false)?;
                    let (body, ended) = self.block()?;
                    cases.push((pipeline, body));
                    end = ended;
                }
            }
        }
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If(cases, otherwise),
            "with" => Node::With(cases, otherwise),
            _ => {
                let (pipeline, body) = cases.swap_remove(0);
                Node::Range(pipeline, body, otherwise)
            }
        })
    }

    fn whole_pipeline(&mut self, mut tokens: Tokens, of_range: bool) -> Result<Pipeline> {
        let pipeline = self.pipeline(&mut tokens, of_range)?;
        match tokens.next() {
            None => Ok(pipeline),
            Some(Token::Close) => Err(Error("a ) without its (".into())),
            Some(_) => Err(Error("a = or , where it means nothing".into())),
        }
    }

    fn pipeline(&mut self, tokens: &mut Tokens, of_range: bool) -> Result<Pipeline> {
        let (variables, declares, mut first) = self.variables_of(tokens, of_range)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let command = self.command(tokens, first.take())?;
            if !commands.is_empty() && matches!(command.head, Operand::Literal(_)) {
                return Err(Error("only a function can follow |".into()));
            }
            commands.push(command);
            match tokens.peek() {
                Some(Token::Pipe) => tokens.next(),
                _ => break,
            };
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, declares, commands })
    }

    /// `$x :=`, `$x =`, `$key, $value :=`; or else the first operand, where that is a variable.
    fn variables_of(&mut self, tokens: &mut Tokens, of_range: bool) -> Result<(Vec<String>, bool, Option<Operand>)> {
        let Some(Token::Variable(name)) = tokens.next_if(|token| matches!(token, Token::Variable(_))) else {
            return Ok((Vec::new(), false, None));
        };
        let mut names = vec![name];
        if of_range && tokens.next_if_eq(&Token::Comma).is_some() {
            match tokens.next() {
                Some(Token::Variable(name)) => names.push(name),
                _ => return Err(Error("range has one or two variables: {{range $key, $value := .Field}}".into())),
            }
        }
        let declares = match tokens.next_if(|token| matches!(token, Token::Declare | Token::Assign)) {
            Some(token) => token == Token::Declare,
            None if names.len() > 1 => return Err(Error("a := must follow the variables of a range".into())),
            None => {
                let operand = self.variable(names.remove(0), tokens)?;
                return Ok((Vec::new(), false, Some(operand)));
            }
        };
        if names.iter().any(String::is_empty) {
            return Err(Error("$ alone is what the template is given, and cannot be set".into()));
        }
        if !declares {
            names.iter().try_for_each(|name| self.known(name))?;
        }
        Ok((names, declares, None))
    }

    fn command(&mut self, tokens: &mut Tokens, first: Option<Operand>) -> Result<Command> {
        let head = match first {
            Some(operand) => operand,
            None => self.operand(tokens)?.ok_or_else(|| Error("a value is missing".into()))?,
        };
        let mut arguments = Vec::new();
        while let Some(operand) = self.operand(tokens)? {
            arguments.push(operand);
        }
        Ok(Command { head, arguments })
    }

    /// None where the command ends.
    fn operand(&mut self, tokens: &mut Tokens) -> Result<Option<Operand>> {
        let ends =
            |token: &Token| matches!(token, Token::Close | Token::Pipe | Token::Comma | Token::Declare | Token::Assign);
        let Some(token) = tokens.next_if(|token| !ends(token)) else { return Ok(None) };
        Ok(Some(match token {
            Token::Dot => Operand::Dot(Vec::new()),
            Token::Field(name, _) => {
                let mut fields = vec![name];
                fields.extend(more_fields(tokens));
                Operand::Dot(fields)
            }
            Token::Variable(name) => self.variable(name, tokens)?,
            Token::Text(text) => Operand::Literal(text.into()),
            Token::Integer(number) => Operand::Literal(number.into()),
            Token::Float(number) => Operand::Literal(number.into()),
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Literal(true.into()),
                "false" => Operand::Literal(false.into()),
                "nil" => Operand::Literal(Value::Null),
                _ => {
                    functions::check(&word)?;
                    Operand::Function(word)
                }
            },
            Token::Open => {
                self.enter()?;
                let pipeline = self.pipeline(tokens, false)?;
                self.depth -= 1;
                if tokens.next() != Some(Token::Close) {
                    return Err(Error("a ( without its )".into()));
                }
                Operand::Nested(Box::new(pipeline), more_fields(tokens))
            }
            Token::Close | Token::Pipe | Token::Comma | Token::Declare | Token::Assign => return Ok(None),
        }))
    }

    fn variable(&self, name: String, tokens: &mut Tokens) -> Result<Operand> {
        self.known(&name)?;
        Ok(Operand::Variable(name, more_fields(tokens)))
    }

    fn known(&self, name: &str) -> Result<()> {
        let known = self.variables.iter().any(|known| known == name);
        if known { Ok(()) } else { Err(Error(format!("no variable ${name} is set here"))) }
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error(format!("blocks and parentheses stand in each other more than {DEEPEST} deep")));
        }
        Ok(())
    }
}

/// `.Name.Name` right behind an operand.
fn more_fields(tokens: &mut Tokens) -> Vec<String> {
    let mut fields = Vec::new();
    while let Some(Token::Field(name, _)) = tokens.next_if(|token| matches!(token, Token::Field(_, false))) {
        fields.push(name);
    }
    fields
}
