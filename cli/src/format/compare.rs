//! `eq ne lt le gt ge`

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::{Error, Result, show};

/// How two values stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    Equal,
    Greater,
    /// They have no order, and are not the same.
    Other,
}

/// Compares two values of a kind; others are a mistake of whoever wrote the template, as in Go.
pub(super) fn compare(name: &str, one: &Value, other: &Value) -> Result<Order> {
    let orders = !matches!(name, "eq" | "ne");
    match (one, other) {
        (Value::String(one), Value::String(other)) => Ok(one.cmp(other).into()),
        (Value::Number(one), Value::Number(other)) => Ok(numbers(one, other)),
        (Value::Bool(one), Value::Bool(other)) if !orders => Ok(one.cmp(other).into()),
        // What is not there equals nothing but what is not there.
        (Value::Null, _) | (_, Value::Null) if !orders => {
            Ok(if one.is_null() && other.is_null() { Order::Equal } else { Order::Other })
        }
        _ => Err(Error(format!("{name} cannot compare {} with {}", show::whole(one), show::whole(other)))),
    }
}

fn numbers(one: &Number, other: &Number) -> Order {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other).into(),
        _ => one.as_f64().partial_cmp(&other.as_f64()).map_or(Order::Other, Into::into),
    }
}

impl From<Ordering> for Order {
    fn from(ordering: Ordering) -> Self {
        match ordering {
            Ordering::Less => Self::Less,
            Ordering::Equal => Self::Equal,
            Ordering::Greater => Self::Greater,
        }
    }
}
