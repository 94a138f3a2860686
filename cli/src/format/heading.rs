//! What stands above the columns of a table.

use serde_json::Value;

use super::parse::{Node, Operand, Pipeline};

/// The template with the names of fields in place of their values.
pub(super) fn heading(body: &[Node], names: &[(&str, &str)]) -> String {
    let mut heading = String::new();
    nodes(body, names, &mut heading);
    heading
}

fn nodes(body: &[Node], names: &[(&str, &str)], heading: &mut String) {
    for node in body {
        match node {
            Node::Text(text) => heading.push_str(text),
            Node::Print(pipeline) if pipeline.variables.is_empty() => {
                heading.push_str(&of_pipeline(pipeline, names).unwrap_or_default());
            }
            // What is printed once or never has one heading; a branch that only looks at the dot is of the condition.
            Node::If(cases, _) | Node::With(cases, _) => {
                if let Some((condition, body)) = cases.first() {
                    block(condition, body, names, heading);
                }
            }
            Node::Range(list, body, _) => block(list, body, names, heading),
            Node::Print(_) | Node::Break | Node::Continue => {}
        }
    }
}

fn block(condition: &Pipeline, body: &[Node], names: &[(&str, &str)], heading: &mut String) {
    let mut inner = String::new();
    nodes(body, names, &mut inner);
    if inner.trim().is_empty() || !inner.contains(char::is_alphabetic) {
        inner = of_pipeline(condition, names).unwrap_or_default();
    }
    heading.push_str(&inner);
}

/// That of the first field that is named.
fn of_pipeline(pipeline: &Pipeline, names: &[(&str, &str)]) -> Option<String> {
    pipeline.commands.iter().find_map(|command| {
        let label = match (&command.head, command.arguments.as_slice()) {
            (Operand::Dot(fields), [Operand::Literal(Value::String(label))]) if fields == &["Label"] => Some(label),
            _ => None,
        };
        if let Some(label) = label {
            // Docker's rule: the last part of com.example.some-label.
            return Some(label.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " "));
        }
        std::iter::once(&command.head).chain(&command.arguments).find_map(|operand| of_operand(operand, names))
    })
}

fn of_operand(operand: &Operand, names: &[(&str, &str)]) -> Option<String> {
    let fields = match operand {
        Operand::Dot(fields) | Operand::Variable(_, fields) => fields,
        Operand::Nested(pipeline, fields) if fields.is_empty() => return of_pipeline(pipeline, names),
        Operand::Nested(_, fields) => fields,
        Operand::Literal(_) | Operand::Function(_) => return None,
    };
    let field = fields.last()?;
    let known = names.iter().find(|(name, _)| name == field);
    Some(known.map_or_else(|| spaced(field), |(_, heading)| (*heading).to_owned()))
}

/// `RunningFor` as `RUNNING FOR`.
fn spaced(field: &str) -> String {
    let mut heading = String::with_capacity(field.len() + 2);
    let mut before_was_small = false;
    for c in field.chars() {
        if c.is_uppercase() && before_was_small {
            heading.push(' ');
        }
        before_was_small = c.is_lowercase();
        heading.extend(c.to_uppercase());
    }
    heading
}
