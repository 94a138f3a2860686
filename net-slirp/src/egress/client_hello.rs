//! The server's name that a TLS client asks for (RFC 8446, 4.1.2; RFC 6066, 3), from the first bytes of a connection.
//!
//! What a server would take for a ClientHello must be taken for one here, however oddly it is put: the handshake's
//! message in as many records as there are bytes, in records of a version that nobody heard of, after alerts, or in SSL
//! 2's format. Once a ClientHello has begun, whatever cannot be understood about it is one without a name, and never
//! something else.
//!
//! With Encrypted ClientHello (RFC 9849) the name seen here is that of the outer one, which is no secret.

use super::reader::Reader;

/// So many bytes are looked at. A ClientHello has a few hundred of them, and 2 KiB with post-quantum keys.
pub const LONGEST: usize = 32 * 1024;
/// The longest ClientHello that is understood.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// What the bytes are the beginning of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// No TLS.
    NotTls,
    /// It cannot be told yet.
    NeedMore,
    /// TLS with a server of this name, which is in small letters; none where none is given, or none can be made out.
    Name(Option<String>),
}

const ALERT: u8 = 21;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Looks at all that a client has sent so far.
pub fn look(bytes: &[u8]) -> Look {
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return look_at_ssl2(bytes);
    }
    let mut message = Fragments::default();
    let mut rest = Reader(&bytes[..bytes.len().min(LONGEST)]);
    while !rest.is_empty() && message.missing() != Some(0) {
        match next_record(&mut rest) {
            Record::Other => return if message.begins() { Look::Name(None) } else { Look::NotTls },
            Record::Skipped => {}
            Record::Cut => break,
            Record::Handshake(fragment) => {
                message.add(fragment);
                if message.first().is_some_and(|kind| kind != CLIENT_HELLO) {
                    return Look::NotTls;
                }
            }
        }
    }
    match message.missing() {
        Some(0) => Look::Name(server_name(&message.body())),
        Some(_) if message.is_too_long() => Look::Name(None),
        _ if bytes.len() >= LONGEST => Look::Name(None),
        _ => Look::NeedMore,
    }
}

/// OpenSSL's servers still take this from a client that would like TLS 1.2. There is no place for a name in it.
fn look_at_ssl2(bytes: &[u8]) -> Look {
    match bytes.get(2..4) {
        Some([CLIENT_HELLO, 0 | 3]) => Look::Name(None),
        Some(_) => Look::NotTls,
        None if bytes.get(2).is_some_and(|kind| *kind != CLIENT_HELLO) => Look::NotTls,
        None => Look::NeedMore,
    }
}

enum Record<'a> {
    /// A part of a handshake's message, as much of it as there is.
    Handshake(&'a [u8]),
    /// Servers go on after these: Go's after a warning.
    Skipped,
    /// The bytes end within it.
    Cut,
    Other,
}

fn next_record<'a>(rest: &mut Reader<'a>) -> Record<'a> {
    let Some(kind) = rest.u8() else { return Record::Cut };
    if !matches!(kind, HANDSHAKE | ALERT | CHANGE_CIPHER_SPEC) {
        return Record::Other;
    }
    let (Some(_version), Some(length)) = (rest.u16(), rest.u16()) else { return Record::Cut };
    let length = usize::from(length);
    if kind == HANDSHAKE {
        let there = length.min(rest.0.len());
        return rest.take(there).map_or(Record::Cut, Record::Handshake);
    }
    // An alert has two bytes, and the other one.
    match (length, rest.take(length)) {
        (3.., _) => Record::Other,
        (_, Some(_)) => Record::Skipped,
        (_, None) => Record::Cut,
    }
}

/// A handshake's message: a kind, three bytes of length, and a body.
#[derive(Default)]
struct Fragments<'a> {
    fragments: Vec<&'a [u8]>,
    length: usize,
}

impl<'a> Fragments<'a> {
    fn add(&mut self, fragment: &'a [u8]) {
        if !fragment.is_empty() {
            self.fragments.push(fragment);
            self.length += fragment.len();
        }
    }

    fn begins(&self) -> bool {
        self.length > 0
    }

    fn first(&self) -> Option<u8> {
        self.fragments.first().map(|fragment| fragment[0])
    }

    /// Of the body; none as long as that is not known.
    fn length_of_body(&self) -> Option<usize> {
        let mut header = self.fragments.iter().copied().flatten().skip(1);
        let mut next = || header.next().map(|byte| usize::from(*byte));
        Some(next()? << 16 | next()? << 8 | next()?)
    }

    /// How many bytes are to come.
    fn missing(&self) -> Option<usize> {
        Some((4 + self.length_of_body()?).saturating_sub(self.length))
    }

    fn is_too_long(&self) -> bool {
        self.length_of_body().is_some_and(|length| length > LONGEST_MESSAGE)
    }

    fn body(&self) -> Vec<u8> {
        let length = self.length_of_body().unwrap_or(0);
        self.fragments.iter().copied().flatten().skip(4).take(length).copied().collect()
    }
}

/// The name that a ClientHello gives, if there is one and no doubt about it.
fn server_name(body: &[u8]) -> Option<String> {
    let mut hello = Reader(body);
    let _version_and_random = hello.take(2 + 32)?;
    let _session = hello.short()?;
    let _ciphers = hello.long()?;
    let _compressions = hello.short()?;
    let mut extensions = hello.long()?;
    if !hello.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.long()?);
        // Which of two a server would believe is not known.
        if kind == SERVER_NAME && found.replace(host_name(data)?).is_some() {
            return None;
        }
    }
    found
}

/// The one name in the extension's list.
fn host_name(mut extension: Reader<'_>) -> Option<String> {
    let mut list = extension.long()?;
    let (kind, name) = (list.u8()?, list.long()?);
    if kind != HOST_NAME || name.is_empty() || !list.is_empty() || !extension.is_empty() {
        return None;
    }
    let is_plain = name.0.iter().all(|byte| byte.is_ascii_graphic());
    str::from_utf8(name.0).ok().filter(|_| is_plain).map(str::to_ascii_lowercase)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
    }

    fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
        let entries: Vec<u8> = names
            .iter()
            .flat_map(|(kind, name)| [&[*kind][..], &(name.len() as u16).to_be_bytes(), name].concat())
            .collect();
        extension(SERVER_NAME, &[&(entries.len() as u16).to_be_bytes(), &*entries].concat())
    }

    /// The handshake's message.
    fn message(extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
        let mut body = [&[3, 3][..], &[7; 32], &[4, 1, 2, 3, 4], &[0, 4, 0x13, 1, 0x13, 2], &[1, 0]].concat();
        if let Some(extensions) = extensions {
            let extensions = extensions.concat();
            body.extend((extensions.len() as u16).to_be_bytes());
            body.extend(extensions);
        }
        [&[CLIENT_HELLO][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
    }

    fn records(message: &[u8], length: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[HANDSHAKE, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
        message.chunks(length).flat_map(record).collect()
    }

    pub(crate) fn hello(name: &str) -> Vec<u8> {
        records(&hello_message(name), 16384)
    }

    fn hello_message(name: &str) -> Vec<u8> {
        message(Some(&[extension(0x2a2a, &[]), names(&[(HOST_NAME, name.as_bytes())]), extension(43, &[2, 3, 4])]))
    }

    fn named(name: &str) -> Look {
        Look::Name(Some(name.to_owned()))
    }

    #[test]
    fn the_name_is_found_once_all_is_there() {
        let hello = hello("Registry.Example.COM");
        assert_eq!(look(&hello), named("registry.example.com"));
        for length in 0..hello.len() {
            assert_eq!(look(&hello[..length]), Look::NeedMore, "{length}");
        }
        assert_eq!(look(&[&*hello, b"early data"].concat()), named("registry.example.com"));
    }

    #[test]
    fn however_it_is_put() {
        let message = hello_message("a.example");
        for length in 1..message.len() {
            let hello = records(&message, length);
            assert_eq!(look(&hello), named("a.example"), "{length}");
            assert_eq!(look(&hello[..hello.len() - 1]), Look::NeedMore, "{length}");
        }
        let mut odd = hello("a.example");
        (odd[1], odd[2]) = (0, 99);
        assert_eq!(look(&odd), named("a.example"));
        let warning = [ALERT, 3, 1, 0, 2, 1, 90];
        assert_eq!(look(&[&warning[..], &hello("a.example")].concat()), named("a.example"));
        let nothing = [HANDSHAKE, 3, 1, 0, 0];
        assert_eq!(look(&[&nothing[..], &hello("a.example")].concat()), named("a.example"));
    }

    #[test]
    fn without_a_name_or_with_a_doubtful_one() {
        let one = |name: &[u8]| names(&[(HOST_NAME, name)]);
        for extensions in [
            None,
            Some(vec![]),
            Some(vec![extension(43, &[2, 3, 4])]),
            Some(vec![one(b"")]),
            Some(vec![one(b"a.example"), one(b"b.example")]),
            Some(vec![names(&[(HOST_NAME, b"a.example"), (HOST_NAME, b"b.example")])]),
            Some(vec![names(&[(1, b"a.example")])]),
            Some(vec![one(b"a.exa\0mple")]),
            Some(vec![one("bücher.example".as_bytes())]),
            Some(vec![extension(SERVER_NAME, &[])]),
            Some(vec![extension(SERVER_NAME, &[0, 200, 0, 0, 1, b'a'])]),
            Some(vec![extension(SERVER_NAME, &[0, 4, 0, 0, 1, b'a', 9])]),
            Some(vec![one(b"a.example"), vec![0, 43, 0, 9, 1]]),
        ] {
            let hello = records(&message(extensions.as_deref()), 16384);
            assert_eq!(look(&hello), Look::Name(None), "{extensions:?}");
        }
        let mut more = message(Some(&[one(b"a.example")]));
        more.push(0);
        more[3] += 1;
        assert_eq!(look(&records(&more, 99)), Look::Name(None));
        // SSL 2's format.
        assert_eq!(look(&[0x80, 46, 1, 3, 3, 0, 0]), Look::Name(None));
    }

    #[test]
    fn what_is_no_tls() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x\r\n",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            // A handshake that begins with another message; an alert too long; nothing but what is skipped, and then
            // more.
            &[HANDSHAKE, 3, 1, 0, 4, 2, 0, 0, 0],
            &[ALERT, 3, 1, 0, 3],
            &[ALERT, 3, 1, 0, 2, 1, 0, b'x'],
            &[0x80, 46, 2],
            &[0xff, 0xff, 1, 7],
        ] {
            assert_eq!(look(bytes), Look::NotTls, "{bytes:x?}");
        }
        for bytes in [&[][..], &[HANDSHAKE], &[ALERT, 3, 1, 0, 2], &[0x80, 46]] {
            assert_eq!(look(bytes), Look::NeedMore, "{bytes:x?}");
        }
    }

    #[test]
    fn there_is_an_end_to_it() {
        let length = |length: u32| [&[HANDSHAKE, 3, 1, 64, 0, CLIENT_HELLO][..], &length.to_be_bytes()[1..]].concat();
        assert_eq!(look(&length(LONGEST_MESSAGE as u32)), Look::NeedMore);
        assert_eq!(look(&length(LONGEST_MESSAGE as u32 + 1)), Look::Name(None));
        // Records with next to nothing in them, or nothing at all.
        let scraps = records(&[&[CLIENT_HELLO, 0, 60, 0][..], &[0; 8000]].concat(), 1);
        assert_eq!(look(&scraps[..LONGEST - 1]), Look::NeedMore);
        assert_eq!(look(&scraps), Look::Name(None));
        assert_eq!(look(&[HANDSHAKE, 3, 1, 0, 0].repeat(LONGEST)), Look::Name(None));
        // Something else in the middle of it.
        assert_eq!(look(&[HANDSHAKE, 3, 1, 0, 1, CLIENT_HELLO, b'x']), Look::Name(None));
    }

    #[test]
    fn the_longest_fits() {
        let padding = extension(21, &vec![0; LONGEST_MESSAGE - 100]);
        let message = message(Some(&[padding, names(&[(HOST_NAME, b"a.example")])]));
        assert!(message.len() > LONGEST_MESSAGE - 50);
        assert_eq!(look(&records(&message, 1000)), named("a.example"));
    }
}
