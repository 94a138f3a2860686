//! Values as Go prints them with `%v`, and as messages name them.

use serde_json::Value;

use super::functions::sorted;

/// What an action prints.
pub(super) fn printed(value: &Value, output: &mut String) {
    match value {
        Value::Null => output.push_str("<no value>"),
        other => nested(other, output),
    }
}

/// A value in a list, a map or a text: `[a b]`, `map[a:1 b:2]`.
pub(super) fn nested(value: &Value, output: &mut String) {
    match value {
        Value::Null => output.push_str("<nil>"),
        Value::Bool(value) => output.push_str(if *value { "true" } else { "false" }),
        // A float that is whole has no point in Go.
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => output.push_str(&number.to_string()),
            None => output.push_str(&number.to_string()),
        },
        Value::String(text) => output.push_str(text),
        Value::Array(list) => {
            output.push('[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    output.push(' ');
                }
                nested(value, output);
            }
            output.push(']');
        }
        Value::Object(map) => {
            output.push_str("map[");
            for (at, (key, value)) in sorted(map).into_iter().enumerate() {
                if at > 0 {
                    output.push(' ');
                }
                output.push_str(key);
                output.push(':');
                nested(value, output);
            }
            output.push(']');
        }
    }
}

/// As [`nested`].
pub(super) fn plain(value: &Value) -> String {
    let mut text = String::new();
    nested(value, &mut text);
    text
}

/// The kind of a value, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A value for messages: itself where that is short.
pub(super) fn whole(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() <= 40 => format!("the text {text:?}"),
        Value::Number(number) => format!("the number {number}"),
        other => kind(other).to_owned(),
    }
}

/// `1 value`, `2 values`
pub(super) fn count(count: usize, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}
