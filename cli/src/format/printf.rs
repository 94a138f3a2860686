//! `printf`: the verbs of Go's package fmt that people use.

use std::str::Chars;

use serde_json::Value;

use super::functions::WIDEST;
use super::{Error, Result, show};

/// `%[flags][width][.precision]verb`
#[derive(Debug, Default)]
struct Spec {
    left: bool,
    zeros: bool,
    sign: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// Fills `format` with the values.
pub(super) fn printf(format: &str, values: &[Value]) -> Result<String> {
    let mut text = String::with_capacity(format.len());
    let mut values = values.iter();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let (spec, verb) = spec(&mut chars)?;
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| Error(format!("printf {format:?} wants more values")))?;
        text.push_str(&spec.padded(spec.converted(verb, value)?));
    }
    match values.next() {
        None => Ok(text),
        Some(_) => Err(Error(format!("printf {format:?} is given too many values"))),
    }
}

fn spec(chars: &mut Chars<'_>) -> Result<(Spec, char)> {
    let mut spec = Spec::default();
    let mut rest = chars.clone();
    loop {
        let before = rest.clone();
        match rest.next() {
            Some('-') => spec.left = true,
            Some('0') => spec.zeros = true,
            Some('+') => spec.sign = true,
            Some('#') => spec.alternate = true,
            _ => {
                rest = before;
                break;
            }
        }
    }
    spec.width = number(&mut rest)?;
    if rest.as_str().starts_with('.') {
        rest.next();
        spec.precision = Some(number(&mut rest)?);
    }
    let verb = rest.next().ok_or_else(|| Error("printf: a % has no verb behind it; %% prints one".into()))?;
    *chars = rest;
    Ok((spec, verb))
}

fn number(chars: &mut Chars<'_>) -> Result<usize> {
    let mut number = 0;
    while let Some(digit) = chars.as_str().chars().next().and_then(|c| c.to_digit(10)) {
        chars.next();
        number = number * 10 + digit as usize;
        if number > WIDEST {
            return Err(Error(format!("printf: a width is {WIDEST} at most")));
        }
    }
    Ok(number)
}

impl Spec {
    fn converted(&self, verb: char, value: &Value) -> Result<String> {
        let wants = |what: &str| Error(format!("printf %{verb} wants {what}, and not {}", show::whole(value)));
        let cut = |text: String| match self.precision {
            Some(length) => text.chars().take(length).collect(),
            None => text,
        };
        Ok(match verb {
            's' => cut(show::plain(value)),
            'v' => match value.as_f64() {
                Some(number) if self.sign => signed(number < 0.0, &value.to_string()),
                _ => show::plain(value),
            },
            'q' => match value {
                Value::String(text) => format!("{:?}", cut(text.clone())),
                other => serde_json::to_string(other).map_err(|error| Error(error.to_string()))?,
            },
            't' => value.as_bool().ok_or_else(|| wants("true or false"))?.to_string(),
            'd' => self.whole(value, |number| number.to_string()).ok_or_else(|| wants("a whole number"))?,
            'b' => self.whole(value, |number| format!("{number:b}")).ok_or_else(|| wants("a whole number"))?,
            'o' => self.whole(value, |number| format!("{number:o}")).ok_or_else(|| wants("a whole number"))?,
            'x' | 'X' => {
                let digits =
                    match value {
                        Value::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                        other => {
                            self.whole(other, |number| {
                                if self.alternate { format!("{number:#x}") } else { format!("{number:x}") }
                            })
                            .ok_or_else(|| wants("a whole number or a text"))?
                        }
                    };
                if verb == 'X' { digits.to_uppercase() } else { digits }
            }
            'c' => {
                let c = value.as_u64().and_then(|number| char::from_u32(u32::try_from(number).ok()?));
                c.ok_or_else(|| wants("the number of a character"))?.to_string()
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
                let number = value.as_f64().ok_or_else(|| wants("a number"))?;
                let size = number.abs();
                let text = match (verb.to_ascii_lowercase(), self.precision) {
                    ('f', precision) => format!("{size:.*}", precision.unwrap_or(6)),
                    ('e', precision) => exponent(format!("{size:.*e}", precision.unwrap_or(6))),
                    (_, None) => size.to_string(),
                    (_, Some(_)) => return Err(Error("printf: %g has no precision here; %f and %e have".into())),
                };
                let text = if number < 0.0 || self.sign { signed(number < 0.0, &text) } else { text };
                if verb.is_ascii_uppercase() { text.to_uppercase() } else { text }
            }
            other => {
                return Err(Error(format!(
                    "printf has no verb %{other}; there are: %s %v %q %d %t %x %X %o %b %c %f %e %g"
                )));
            }
        })
    }

    fn whole(&self, value: &Value, digits: impl Fn(u64) -> String) -> Option<String> {
        let Value::Number(number) = value else { return None };
        let (negative, size) = match number.as_i64() {
            Some(number) => (number < 0, number.unsigned_abs()),
            None => (false, number.as_u64()?),
        };
        let digits = digits(size);
        Some(if negative || self.sign { signed(negative, &digits) } else { digits })
    }

    fn padded(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        match (self.left, self.zeros) {
            (true, _) => text + &" ".repeat(missing),
            (false, false) => " ".repeat(missing) + &text,
            (false, true) => match text.strip_prefix(['-', '+']) {
                Some(digits) => format!("{}{}{digits}", &text[..1], "0".repeat(missing)),
                None => "0".repeat(missing) + &text,
            },
        }
    }
}

fn signed(negative: bool, size: &str) -> String {
    format!("{}{}", if negative { '-' } else { '+' }, size.trim_start_matches('-'))
}

/// Go's exponents have a sign and two digits.
fn exponent(text: String) -> String {
    let Some((digits, power)) = text.split_once('e') else { return text };
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}
