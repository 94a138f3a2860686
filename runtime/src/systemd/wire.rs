//! Messages as bytes: D-Bus Specification, "Message Format" and "Marshaling", as much of it as systemd is asked with.

/// The longest message that is read. The specification has 128 MiB; what is heard here is short.
pub(super) const MOST: usize = 1 << 20;

/// The part of a message that says how long it is.
pub(super) const FIXED: usize = 16;

/// "Message Types".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

/// "Header Fields", by their codes.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    U64(u64),
    Text(String),
    /// `au`
    U32s(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `a(sv)`
    Properties(Vec<(&'static str, Value)>),
    /// `a(st)`
    Rates(Vec<(String, u64)>),
    /// `a(sa(sv))` of none.
    AuxiliaryUnits,
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// "Type Signatures".
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::U64(_) => "t",
            Self::Text(_) => "s",
            Self::U32s(_) => "au",
            Self::Bytes(_) => "ay",
            Self::Properties(_) => "a(sv)",
            Self::Rates(_) => "a(st)",
            Self::AuxiliaryUnits => "a(sa(sv))",
        }
    }
}

/// The call of a method.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) body: &'a [Value],
}

impl Call<'_> {
    /// The message with this number, which its answer names.
    pub(super) fn bytes(&self, serial: u32) -> Vec<u8> {
        let mut body = Writer::default();
        self.body.iter().for_each(|value| body.value(value));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let mut all = Writer::default();
        // Little-endian, no flags, version 1.
        all.0.extend([b'l', Kind::Call as u8, 0, 1]);
        all.number(body.0.len() as u32);
        all.number(serial);
        all.array(8, |all| {
            all.field(field::PATH, "o", self.path);
            all.field(field::INTERFACE, "s", self.interface);
            all.field(field::MEMBER, "s", self.member);
            all.field(field::DESTINATION, "s", self.destination);
            if !signature.is_empty() {
                all.align(8);
                all.0.push(field::SIGNATURE);
                all.signature("g");
                all.signature(&signature);
            }
        });
        all.align(8);
        all.0.extend(body.0);
        all.0
    }
}

/// Every value begins at a multiple of its type's size.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(signature.len() as u8);
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        self.text(value);
    }

    /// The elements are aligned to this; their length comes first, without what aligns the first of them.
    fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let at = self.0.len();
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let length = (self.0.len() - start) as u32;
        self.0[at - 4..at].copy_from_slice(&length.to_le_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(is) => self.number((*is).into()),
            Value::U64(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Text(text) => self.text(text),
            Value::U32s(numbers) => self.array(4, |all| numbers.iter().for_each(|number| all.number(*number))),
            Value::Bytes(bytes) => self.array(1, |all| all.0.extend(bytes)),
            Value::Properties(properties) => self.array(8, |all| {
                for (name, value) in properties {
                    all.align(8);
                    all.text(name);
                    all.signature(value.signature());
                    all.value(value);
                }
            }),
            Value::Rates(rates) => self.array(8, |all| {
                for (name, rate) in rates {
                    all.align(8);
                    all.text(name);
                    all.value(&Value::U64(*rate));
                }
            }),
            Value::AuxiliaryUnits => self.array(8, |_| {}),
        }
    }
}

/// A message that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// Which call it answers.
    pub(super) answers: Option<u32>,
    pub(super) interface: String,
    pub(super) member: String,
    pub(super) error: String,
    body: Vec<u8>,
    is_big: bool,
}

/// How many bytes the message has that begins with these; `None`: it is none, or too long.
pub(super) fn length(fixed: &[u8; FIXED]) -> Option<usize> {
    let mut reader = Reader { bytes: fixed, at: 4, is_big: is_big(fixed[0])? };
    let (body, _serial, fields) = (reader.number()?, reader.number()?, reader.number()?);
    let all = FIXED.checked_add(fields as usize)?.checked_next_multiple_of(8)?.checked_add(body as usize)?;
    (fixed[3] == 1 && all <= MOST).then_some(all)
}

fn is_big(endianness: u8) -> Option<bool> {
    match endianness {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

impl Message {
    /// The whole of a message; `None`: it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let is_big = is_big(*bytes.first()?)?;
        let kind = match bytes.get(1)? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return None,
        };
        let mut reader = Reader { bytes, at: 12, is_big };
        let end = (reader.number()? as usize).checked_add(FIXED)?;
        let mut message = Self {
            kind,
            answers: None,
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            body: bytes.get(end.checked_next_multiple_of(8)?..)?.to_owned(),
            is_big,
        };
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            match reader.signature()? {
                "u" => {
                    let number = reader.number()?;
                    if code == field::REPLY_SERIAL {
                        message.answers = Some(number);
                    }
                }
                "s" | "o" => {
                    let text = reader.text()?;
                    match code {
                        field::INTERFACE => message.interface = text.to_owned(),
                        field::MEMBER => message.member = text.to_owned(),
                        field::ERROR_NAME => message.error = text.to_owned(),
                        _ => {}
                    }
                }
                "g" => _ = reader.signature()?,
                _ => return None,
            }
        }
        (reader.at == end).then_some(message)
    }

    /// Its first argument, if that is a text.
    pub(super) fn text(&self) -> Option<&str> {
        self.body().text()
    }

    /// Its arguments.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, is_big: self.is_big }
    }
}

/// Reads values of known types one after the other; `None`: there are no such bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn number(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// Of an object's path too.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        self.terminated(length as usize)
    }

    /// `as`
    pub(super) fn texts(&mut self) -> Option<Vec<String>> {
        let length = self.number()? as usize;
        let end = self.at.checked_add(length)?;
        let mut texts = Vec::new();
        while self.at < end {
            texts.push(self.text()?.to_owned());
        }
        (self.at == end).then_some(texts)
    }

    /// Of the value that follows, in a variant.
    pub(super) fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        self.terminated(length.into())
    }

    fn terminated(&mut self, length: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &[Value]) -> Vec<u8> {
        Call { destination: "d.e", path: "/p", interface: "i.f", member: "M", body }.bytes(7)
    }

    /// Written down from the specification.
    #[test]
    fn a_call_is_these_bytes() {
        let expected: &[&[u8]] = &[
            // Little-endian, a call, no flags, version 1; five bytes of body and the padding before them; number 7.
            b"l\x01\x00\x01",
            b"\x06\x00\x00\x00",
            b"\x07\x00\x00\x00",
            b"\x47\x00\x00\x00",
            b"\x01\x01o\x00\x02\x00\x00\x00/p\x00\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x03\x00\x00\x00i.f\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x01\x00\x00\x00M\x00\x00\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x03\x00\x00\x00d.e\x00\x00\x00\x00\x00",
            b"\x08\x01g\x00\x01s\x00",
            b"\x00",
            b"\x01\x00\x00\x00x\x00",
        ];
        assert_eq!(call(&[Value::text("x")]), expected.concat());
    }

    #[test]
    fn properties_are_aligned_to_eight() {
        let mut writer = Writer::default();
        let properties = vec![("A", Value::Bool(true)), ("B", Value::U64(2)), ("C", Value::U32s(vec![3]))];
        writer.value(&Value::Properties(properties));
        let expected: &[&[u8]] = &[
            b"\x3c\x00\x00\x00",
            b"\x00\x00\x00\x00",
            b"\x01\x00\x00\x00A\x00",
            b"\x01b\x00",
            b"\x00\x00\x00",
            b"\x01\x00\x00\x00",
            b"\x01\x00\x00\x00B\x00",
            b"\x01t\x00",
            b"\x00\x00\x00\x00\x00\x00\x00",
            b"\x02\x00\x00\x00\x00\x00\x00\x00",
            b"\x01\x00\x00\x00C\x00",
            b"\x02au\x00",
            b"\x00\x00",
            b"\x04\x00\x00\x00\x03\x00\x00\x00",
        ];
        let expected = expected.concat();
        assert_eq!(writer.0.len(), expected.len());
        assert_eq!(writer.0, expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = call(&[Value::Text("one".into()), Value::Bool(true), Value::Text("two".into())]);
        let fixed = bytes[..FIXED].try_into().expect("it is longer");
        assert_eq!(length(fixed), Some(bytes.len()));
        let message = Message::parse(&bytes).expect("a message");
        assert_eq!((message.kind, message.answers), (Kind::Call, None));
        assert_eq!((message.interface.as_str(), message.member.as_str()), ("i.f", "M"));
        let mut body = message.body();
        assert_eq!((body.text(), body.number(), body.text(), body.text()), (Some("one"), Some(1), Some("two"), None));
    }

    #[test]
    fn texts_have_an_end() {
        let texts = |bytes: &[u8]| Reader { bytes, at: 0, is_big: false }.texts();
        assert_eq!(texts(b"\0\0\0\0"), Some(vec![]));
        let two = b"\x0e\0\0\0\x01\0\0\0a\0\0\0\x01\0\0\0b\0";
        assert_eq!(texts(two), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(texts(&two[..two.len() - 1]), None);
        assert_eq!(texts(b"\x05\0\0\0\x01\0\0\0a\0"), None, "an element that is longer than the whole");
    }

    #[test]
    fn an_answer_of_the_other_endianness() {
        let bytes = [
            &b"B\x03\x01\x01"[..],
            b"\x00\x00\x00\x08",
            b"\x00\x00\x00\x01",
            b"\x00\x00\x00\x1c",
            b"\x05\x01u\x00\x00\x00\x00\x09",
            b"\x04\x01s\x00\x00\x00\x00\x03a.b\x00\x00\x00\x00\x00",
            b"\x09\x01u\x00",
            b"\x00\x00\x00\x00",
            b"\x00\x00\x00\x03why\x00",
        ];
        let message = Message::parse(&bytes.concat());
        // By the length that the header gives, the last field is cut off.
        assert_eq!(message, None);
        let mut whole = bytes.concat();
        whole[15] = 0x14;
        whole.drain(40..48);
        let message = Message::parse(&whole).expect("a message");
        assert_eq!((message.kind, message.answers, message.error.as_str()), (Kind::Error, Some(9), "a.b"));
        assert_eq!(message.text(), Some("why"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = call(&[Value::text("x")]);
        for cut in 0..good.len() {
            // Shorter than it says: nothing of it panics, and no argument is made up.
            let text = Message::parse(&good[..cut]).and_then(|message| message.text().map(str::to_owned));
            assert_eq!(text, None, "{cut}");
        }
        for (at, byte) in [(0, b'x'), (3, 2), (6, 0xff), (15, 0xff)] {
            let mut fixed: [u8; FIXED] = good[..FIXED].try_into().expect("it is longer");
            fixed[at] = byte;
            assert_eq!(length(&fixed), None, "{at}");
        }
        assert_eq!(Message::parse(&[b'l', 9, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "a kind that is none");
    }
}
