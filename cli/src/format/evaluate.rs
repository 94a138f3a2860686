//! From a tree and a value to a text.

use serde_json::Value;

use super::parse::{Command, Node, Operand, Pipeline};
use super::{Error, Result, functions, show};

/// The text that a template makes of `data`.
pub(super) fn evaluate(body: &[Node], data: &Value) -> Result<String> {
    let mut run = Run { output: String::new(), variables: vec![(String::new(), data.clone())] };
    run.nodes(body, data)?;
    Ok(run.output)
}

struct Run {
    output: String,
    /// The innermost last.
    variables: Vec<(String, Value)>,
}

/// How a list of nodes was left.
#[derive(PartialEq)]
enum Flow {
    Through,
    Break,
    Continue,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Through {
                return Ok(flow);
            }
        }
        Ok(Flow::Through)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        match node {
            Node::Text(text) => self.output.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    show::printed(&value, &mut self.output);
                } else {
                    self.set(pipeline, &[value])?;
                }
            }
            Node::If(cases, otherwise) => return self.cases(cases, otherwise, dot, false),
            Node::With(cases, otherwise) => return self.cases(cases, otherwise, dot, true),
            Node::Range(pipeline, body, otherwise) => return self.range(pipeline, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    fn cases(
        &mut self,
        cases: &[(Pipeline, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
        becomes_dot: bool,
    ) -> Result<Flow> {
        let known = self.variables.len();
        let mut chosen = (otherwise, None);
        for (condition, body) in cases {
            let value = self.pipeline(condition, dot)?;
            let holds = functions::is_true(&value);
            self.set(condition, std::slice::from_ref(&value))?;
            if holds {
                chosen = (body, becomes_dot.then_some(value));
                break;
            }
        }
        let (body, value) = chosen;
        let flow = self.nodes(body, value.as_ref().unwrap_or(dot))?;
        self.variables.truncate(known);
        Ok(flow)
    }

    fn range(&mut self, pipeline: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow> {
        let rounds: Vec<(Value, Value)> = match self.pipeline(pipeline, dot)? {
            Value::Array(list) => list.into_iter().enumerate().map(|(at, value)| (at.into(), value)).collect(),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.into_iter().collect();
                // As Go has it, and unlike JSON, a map has an order: that of its keys.
                entries.sort_by(|(one, _), (next, _)| one.cmp(next));
                entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Null => Vec::new(),
            other => {
                return Err(Error(format!("range goes over a list or a map, and not over {}", show::kind(&other))));
            }
        };
        if rounds.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let known = self.variables.len();
        for (key, value) in rounds {
            match pipeline.variables.len() {
                0 => {}
                1 => self.set(pipeline, std::slice::from_ref(&value))?,
                _ => self.set(pipeline, &[key, value.clone()])?,
            }
            let flow = self.nodes(body, &value)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Through)
    }

    /// Gives a pipeline's variables their values.
    fn set(&mut self, pipeline: &Pipeline, values: &[Value]) -> Result<()> {
        for (name, value) in pipeline.variables.iter().zip(values) {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                *self.variable(name)? = value.clone();
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<&mut Value> {
        let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        // The parser knows names, not which of two branches was taken.
        found.map(|(_, value)| value).ok_or_else(|| Error(format!("no variable ${name} is set here")))
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, value, dot)?);
        }
        Ok(value.unwrap_or_default())
    }

    fn command(&mut self, command: &Command, piped: Option<Value>, dot: &Value) -> Result<Value> {
        if let Operand::Function(name) = &command.head
            && matches!(name.as_str(), "and" | "or")
        {
            return self.short_circuit(name == "and", &command.arguments, piped, dot);
        }
        let mut arguments = Vec::with_capacity(command.arguments.len() + 1);
        for operand in &command.arguments {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        match &command.head {
            Operand::Function(name) => functions::call(name, &arguments),
            // A method of the containers and images of Docker and Podman.
            Operand::Dot(fields) if !arguments.is_empty() && fields.last().is_some_and(|name| name == "Label") => {
                let path = [&fields[..fields.len() - 1], &["Labels".to_owned()]].concat();
                functions::call("index", &[&[select(dot, &path, "")?], &arguments[..]].concat())
            }
            head if arguments.is_empty() => self.operand(head, dot),
            Operand::Dot(fields) | Operand::Variable(_, fields) if !fields.is_empty() => {
                Err(Error(format!(".{} is a field, and can be given no arguments", fields.join("."))))
            }
            _ => Err(Error("only a function can be given arguments".into())),
        }
    }

    /// `and` and `or` leave alone what need not be looked at.
    fn short_circuit(&mut self, all: bool, operands: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if functions::is_true(&value) != all {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| Error(format!("{} is given nothing", if all { "and" } else { "or" })))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        match operand {
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Dot(fields) => select(dot, fields, ""),
            Operand::Variable(name, fields) => {
                let shown = format!("${name}");
                select(self.variable(name)?, fields, &shown)
            }
            Operand::Nested(pipeline, fields) => {
                if !pipeline.variables.is_empty() {
                    return Err(Error("a variable cannot be set within ( and )".into()));
                }
                select(&self.pipeline(pipeline, dot)?, fields, "(…)")
            }
            Operand::Function(name) => functions::call(name, &[]),
        }
    }
}

/// The field of a field of … `value`.
fn select(value: &Value, fields: &[String], whose: &str) -> Result<Value> {
    let mut value = value;
    for (at, field) in fields.iter().enumerate() {
        let owner = || format!("{whose}{}", fields[..at].iter().map(|name| format!(".{name}")).collect::<String>());
        value = match value {
            Value::Object(map) => match map.get(field) {
                Some(value) => value,
                // Whoever made the image or the container chose the keys.
                None if fields[..at].last().is_some_and(|name| is_map(name)) => &Value::Null,
                None => {
                    let mut there: Vec<String> = map.keys().map(|name| format!(".{name}")).collect();
                    there.sort();
                    let (owner, there) = (owner(), there.join(" "));
                    return Err(Error(match there.is_empty() {
                        true => format!("{owner} has no field .{field}: it is empty"),
                        false if owner.is_empty() => format!("there is no field .{field}; there are: {there}"),
                        false => format!("{owner} has no field .{field}; it has: {there}"),
                    }));
                }
            },
            // As in Go: what is not there has fields that are not there.
            Value::Null => &Value::Null,
            other => {
                return Err(Error(format!("{} is {}, which has no field .{field}", owner(), show::kind(other))));
            }
        };
    }
    Ok(value.clone())
}

/// Whether the keys of this field are anybody's, and one that is missing no mistake.
fn is_map(field: &str) -> bool {
    matches!(field, "Labels" | "Annotations" | "Volumes" | "ExposedPorts" | "Ports" | "Sysctls" | "Networks")
}
