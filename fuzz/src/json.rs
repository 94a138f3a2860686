//! Changes of a JSON document that leave it one.

use serde_json::{Map, Value, json};

use crate::random::Random;

/// Those of the seeds that are documents.
pub(crate) fn parse(seeds: &[Vec<u8>]) -> Vec<Value> {
    let documents: Vec<Value> = seeds.iter().filter_map(|seed| serde_json::from_slice(seed).ok()).collect();
    assert!(!documents.is_empty(), "no seed is JSON");
    documents
}

/// One of the documents with a few changes, as text.
pub(crate) fn change(documents: &[Value], random: &mut Random) -> Vec<u8> {
    let mut document = random.of(documents).clone();
    for _ in 0..random.few() {
        let other = random.of(documents);
        let at = random.below(count(&document));
        let from = random.below(count(other));
        let graft = nth(other, &mut from.clone()).cloned().unwrap_or_default();
        if let Some(node) = nth_mut(&mut document, &mut at.clone()) {
            once(node, graft, random);
        }
    }
    document.to_string().into_bytes()
}

fn once(node: &mut Value, graft: Value, random: &mut Random) {
    match node {
        Value::Object(map) if !map.is_empty() && !random.one_in(4) => {
            let key = map.keys().nth(random.below(map.len())).cloned().unwrap_or_default();
            match random.below(4) {
                0 => drop(map.shift_remove(&key)),
                1 => drop(map.insert(key, strange(random))),
                // A key of another object.
                2 => match graft {
                    Value::Object(other) => map.extend(other),
                    other => drop(map.insert(key, other)),
                },
                _ => {
                    let value = map.shift_remove(&key).unwrap_or_default();
                    map.insert(format!("{key}{}", random.below(3)), value);
                }
            }
        }
        Value::Array(list) if !list.is_empty() && !random.one_in(4) => {
            let at = random.below(list.len());
            match random.below(4) {
                0 => drop(list.remove(at)),
                1 => list[at] = strange(random),
                2 => list.insert(at, graft),
                _ => {
                    let copy = list[at].clone();
                    list.extend(std::iter::repeat_n(copy, 1 << random.below(7)));
                }
            }
        }
        Value::String(text) if random.one_in(2) => {
            let add = random.of(&["\0", "/", "/..", ":", "=", "0", "\u{fffd}", " ", ",", "x"]);
            if random.one_in(2) {
                text.push_str(add);
            } else {
                text.insert_str(0, add);
            }
        }
        Value::Number(number) if random.one_in(2) => {
            let number = number.as_i64().unwrap_or_default();
            *node = [json!(number.wrapping_add(1)), json!(number.wrapping_neg()), json!(number as f64 + 0.5)]
                [random.below(3)]
            .clone();
        }
        node => *node = if random.one_in(2) { graft } else { strange(random) },
    }
}

/// What nobody expects.
fn strange(random: &mut Random) -> Value {
    let long = "x".repeat(1 << random.below(13));
    let mut deep = Value::Null;
    for _ in 0..random.below(100) {
        deep = json!([deep]);
    }
    let values = [
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(1e300),
        json!(""),
        json!("/"),
        json!(".."),
        json!("a\0b"),
        json!(long),
        json!([]),
        Value::Object(Map::new()),
        deep,
    ];
    random.of(&values).clone()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The node that is `left`-th in the order in which they stand.
fn nth<'a>(value: &'a Value, left: &mut usize) -> Option<&'a Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter().find_map(|value| nth(value, left)),
        Value::Object(map) => map.values().find_map(|value| nth(value, left)),
        _ => None,
    }
}

fn nth_mut<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| nth_mut(value, left)),
        Value::Object(map) => map.values_mut().find_map(|value| nth_mut(value, left)),
        _ => None,
    }
}
