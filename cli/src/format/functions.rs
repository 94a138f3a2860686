//! The functions.

use serde_json::{Map, Value};

use super::compare::{Order, compare};
use super::{Error, Result, printf, show};

/// All that there are.
const NAMES: [&str; 24] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "printf", "println", "replace", "slice", "split", "title", "truncate", "upper",
];

/// Nobody's column is wider.
pub(super) const WIDEST: usize = 4096;

/// Refuses a name that is no function's.
pub(super) fn check(name: &str) -> Result<()> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    Err(Error(format!("there is no function {name:?}; there are: {}", NAMES.join(" "))))
}

/// As an `if` sees it: what is empty or zero is false.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Calls one; `and` and `or` are the evaluation's.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value> {
    let text = |at: usize| match &arguments[at] {
        Value::String(text) => Ok(text.as_str()),
        other => Err(Error(format!("{name} wants a text, and not {}", show::kind(other)))),
    };
    let number = |at: usize| match &arguments[at] {
        Value::Number(number) if number.is_u64() => Ok(number.as_u64().unwrap_or_default() as usize),
        other => Err(Error(format!("{name} wants a number, and not {}", show::whole(other)))),
    };
    let takes = |count: usize| match arguments.len() {
        given if given == count => Ok(()),
        given => Err(Error(format!("{name} takes {}, and is given {given}", show::count(count, "value")))),
    };
    let takes_at_least = |count: usize| match arguments.len() {
        given if given >= count => Ok(()),
        given => Err(Error(format!("{name} takes {} or more, and is given {given}", show::count(count, "value")))),
    };
    let ordered = |wanted: fn(Order) -> bool| {
        takes(2)?;
        compare(name, &arguments[0], &arguments[1]).map(|order| Value::Bool(wanted(order)))
    };
    Ok(match name {
        "json" => {
            takes(1)?;
            serde_json::to_string(&arguments[0]).map_err(|error| Error(error.to_string()))?.into()
        }
        "index" => {
            takes_at_least(1)?;
            let mut value = arguments[0].clone();
            for key in &arguments[1..] {
                value = element(&value, key)?;
            }
            value
        }
        "slice" => {
            takes_at_least(1)?;
            if arguments.len() > 3 {
                return Err(Error("slice takes a list or a text, where it begins and where it ends".into()));
            }
            let begin = if arguments.len() > 1 { number(1)? } else { 0 };
            let end = if arguments.len() > 2 { Some(number(2)?) } else { None };
            part(&arguments[0], begin, end)?
        }
        "len" => {
            takes(1)?;
            match &arguments[0] {
                Value::String(text) => text.len().into(),
                Value::Array(list) => list.len().into(),
                Value::Object(map) => map.len().into(),
                Value::Null => 0.into(),
                other => return Err(Error(format!("{} has no length", show::kind(other)))),
            }
        }
        "join" => {
            takes(2)?;
            let separator = text(1)?;
            let list = match &arguments[0] {
                Value::Array(list) => list.as_slice(),
                Value::Null => &[],
                other => return Err(Error(format!("join wants a list, and not {}", show::kind(other)))),
            };
            list.iter().map(show::plain).collect::<Vec<_>>().join(separator).into()
        }
        "split" => {
            takes(2)?;
            match (text(0)?, text(1)?) {
                (all, "") => all.chars().map(String::from).collect::<Vec<_>>().into(),
                (all, separator) => all.split(separator).map(str::to_owned).collect::<Vec<_>>().into(),
            }
        }
        "replace" => {
            takes(3)?;
            text(0)?.replace(text(1)?, text(2)?).into()
        }
        "lower" => {
            takes(1)?;
            text(0)?.to_lowercase().into()
        }
        "upper" => {
            takes(1)?;
            text(0)?.to_uppercase().into()
        }
        "title" => {
            takes(1)?;
            titled(text(0)?).into()
        }
        "pad" => {
            takes(3)?;
            let (before, after) = (number(1)?, number(2)?);
            if before > WIDEST || after > WIDEST {
                return Err(Error(format!("pad adds {WIDEST} spaces at most")));
            }
            match text(0)? {
                // As Docker has it: nothing is made of nothing.
                "" => "".into(),
                text => format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into(),
            }
        }
        "truncate" => {
            takes(2)?;
            let most = number(1)?;
            text(0)?.chars().take(most).collect::<String>().into()
        }
        "print" => {
            let mut printed = String::new();
            for (at, value) in arguments.iter().enumerate() {
                // As Go's Sprint: a space stands only between two that are no texts.
                if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
                    printed.push(' ');
                }
                show::nested(value, &mut printed);
            }
            printed.into()
        }
        "println" => {
            let mut line = arguments.iter().map(show::plain).collect::<Vec<_>>().join(" ");
            line.push('\n');
            line.into()
        }
        "printf" => {
            takes_at_least(1)?;
            printf::printf(text(0)?, &arguments[1..])?.into()
        }
        "not" => {
            takes(1)?;
            (!is_true(&arguments[0])).into()
        }
        "eq" => {
            takes_at_least(2)?;
            let mut equal = false;
            for other in &arguments[1..] {
                equal |= compare(name, &arguments[0], other)? == Order::Equal;
            }
            equal.into()
        }
        "ne" => ordered(|order| order != Order::Equal)?,
        "lt" => ordered(|order| order == Order::Less)?,
        "le" => ordered(|order| matches!(order, Order::Less | Order::Equal))?,
        "gt" => ordered(|order| order == Order::Greater)?,
        "ge" => ordered(|order| matches!(order, Order::Greater | Order::Equal))?,
        _ => return Err(Error(format!("{name} is given nothing"))),
    })
}

fn element(value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::Array(list), Value::Number(at)) => {
            let found = at.as_u64().and_then(|at| list.get(usize::try_from(at).ok()?));
            let length = list.len();
            found.cloned().ok_or_else(|| Error(format!("index {at} of a list of {}", show::count(length, "element"))))
        }
        (Value::Array(_), key) => Err(Error(format!("index of a list wants a number, and not {}", show::kind(key)))),
        // Of a map of texts: one that is not there is empty.
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or_else(|| "".into())),
        (Value::Object(_), key) => Err(Error(format!("index of a map wants a text, and not {}", show::kind(key)))),
        (Value::Null, _) => Err(Error("index of nothing".into())),
        (other, _) => Err(Error(format!("index wants a list or a map, and not {}", show::kind(other)))),
    }
}

fn part(value: &Value, begin: usize, end: Option<usize>) -> Result<Value> {
    let wrong = |length: usize| Error(format!("slice {begin} to {} of {length}", end.unwrap_or(length)));
    match value {
        Value::Array(list) => {
            let range = begin..end.unwrap_or(list.len());
            list.get(range).map(|part| part.to_vec().into()).ok_or_else(|| wrong(list.len()))
        }
        Value::String(text) => {
            let range = begin..end.unwrap_or(text.len());
            text.get(range).map(Into::into).ok_or_else(|| wrong(text.len()))
        }
        other => Err(Error(format!("slice wants a list or a text, and not {}", show::kind(other)))),
    }
}

/// Each word with a large first letter.
fn titled(text: &str) -> String {
    let mut within = false;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if within {
            titled.push(c);
        } else {
            titled.extend(c.to_uppercase());
        }
        within = c.is_alphanumeric() || c == '_';
    }
    titled
}

/// The entries of a map by their keys.
pub(super) fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}
