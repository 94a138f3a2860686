//! /proc/PID/mountinfo (proc_pid_mountinfo(5)).

/// A field as it was: blanks and the like are octal there, `\040`. What is no octal number is left alone.
pub fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).map(|digits| u8::from_str_radix(digits, 8)) {
            Some(Ok(byte)) => {
                text.push(byte);
                text.extend_from_slice(&part.as_bytes()[3..]);
            }
            _ => {
                text.push(b'\\');
                text.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_what_is_none() {
        for (field, expected) in
            [("/plain", "/plain"), (r"/a\040b\134c", r"/a b\c"), (r"/\303\244", "/\u{e4}"), (r"/\x\04", r"/\x\04")]
        {
            assert_eq!(unescape(field), expected, "{field}");
        }
    }
}
