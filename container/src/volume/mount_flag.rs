//! `--mount type=…,key=value,…`: Docker's and Podman's keys for bind mounts, volumes and tmpfs.

use std::path::PathBuf;
use std::str::FromStr;

use super::words::Words;
use super::{Tmpfs, Volume, VolumeSource, check_destination};
use crate::settings::ByteSize;

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountFlag {
    /// `type=bind` and `type=volume`.
    Volume(Volume),
    /// `type=tmpfs`.
    Tmpfs(Tmpfs),
}

impl FromStr for MountFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = fields(text)?;
        let mut pairs: Vec<(&str, Option<&str>)> = Vec::new();
        for field in &fields {
            let pair = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
            pairs.push((pair.0.trim(), pair.1));
        }
        let kind = pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case("type")).and_then(|(_, kind)| *kind);
        let rest = pairs.into_iter().filter(|(key, _)| !key.eq_ignore_ascii_case("type"));
        match kind {
            Some("bind") => bind(rest).map(Self::Volume),
            Some("tmpfs") => tmpfs(rest).map(Self::Tmpfs),
            None | Some("volume") => volume(rest).map(Self::Volume),
            Some(other) => Err(format!("type={other} is not supported; type=bind, type=volume and type=tmpfs are")),
        }
    }
}

/// The destination's key, where it is one.
fn is_destination(key: &str) -> bool {
    matches!(key, "destination" | "dst" | "target")
}

/// Whether a key without a value, or with one, is on.
fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("{key}={other}: expected true or false")),
    }
}

fn needed(key: &str, value: Option<&str>) -> Result<String, String> {
    value.filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| format!("{key} needs a value"))
}

/// Takes a word that both kinds know; gives whether it is one.
fn word(words: &mut Words, key: &str, value: Option<&str>) -> Result<bool, String> {
    match key {
        "ro" | "readonly" => words.take(if switch(key, value)? { "ro" } else { "rw" }),
        // Of Docker Desktop's alone.
        "consistency" => Ok(true),
        "rw" | "exec" | "noexec" | "dev" | "nodev" | "suid" | "nosuid" => match (switch(key, value)?, key) {
            (true, _) => words.take(key),
            (false, "rw") => words.take("ro"),
            (false, _) => match key.strip_prefix("no") {
                Some(opposite) => words.take(opposite),
                None => words.take(&format!("no{key}")),
            },
        },
        _ => Ok(false),
    }
}

fn bind<'a>(pairs: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Result<Volume, String> {
    let mut words = Words::default();
    let (mut source, mut destination) = (None, None);
    let (mut writable_below, mut read_only_below) = (false, false);
    for (key, value) in pairs {
        match key {
            "source" | "src" => source = Some(needed(key, value)?),
            _ if is_destination(key) => destination = Some(needed(key, value)?),
            "bind-propagation" => {
                let kind = needed(key, value)?;
                if !kind.ends_with("private") && !kind.ends_with("slave") && !kind.ends_with("shared")
                    || !words.take(&kind)?
                {
                    return Err(format!("{key}={kind}: expected private, slave or shared, with an r before it or not"));
                }
            }
            "bind-nonrecursive" => _ = words.take(if switch(key, value)? { "bind" } else { "rbind" })?,
            "bind-recursive" => match value {
                Some("enabled") => _ = words.take("rbind")?,
                Some("disabled") => _ = words.take("bind")?,
                Some("writable") => writable_below = true,
                Some("readonly") => read_only_below = true,
                _ => return Err(format!("{key}: expected enabled, disabled, writable or readonly")),
            },
            "relabel" => match value {
                Some("shared") => _ = words.take("z")?,
                Some("private") => _ = words.take("Z")?,
                _ => return Err(format!("{key}: expected shared or private")),
            },
            "z" | "Z" | "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "unbindable"
            | "runbindable"
                if value.is_none() =>
            {
                words.take(key)?;
            }
            _ if word(&mut words, key, value)? => {}
            "U" | "chown" => {
                if switch(key, value)? {
                    words.take("U")?;
                }
            }
            "idmap" => return Err(format!("{key} is not supported in this version")),
            _ if key.starts_with("tmpfs-") || key.starts_with("volume-") => {
                return Err(format!("{key} is not one of type=bind"));
            }
            _ => return Err(format!("there is no key {key:?} of type=bind")),
        }
    }
    let source: PathBuf = source.ok_or("type=bind needs a source")?.into();
    let destination: PathBuf = destination.ok_or("a destination is needed")?.into();
    let mut volume = words.volume(VolumeSource::Host(source), destination)?.checked()?;
    if read_only_below && (!volume.read_only || writable_below) {
        return Err("bind-recursive=readonly is for what is read-only".into());
    }
    volume.options.writable_below = writable_below;
    Ok(volume)
}

fn volume<'a>(pairs: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Result<Volume, String> {
    let mut words = Words::default();
    let (mut source, mut destination) = (VolumeSource::Anonymous, None);
    for (key, value) in pairs {
        match key {
            "source" | "src" => {
                let name = needed(key, value)?;
                source = match name.parse()? {
                    VolumeSource::Host(path) => {
                        return Err(format!(
                            "{key}={}: type=volume needs a name; type=bind shows a path",
                            path.display()
                        ));
                    }
                    source => source,
                };
            }
            _ if is_destination(key) => destination = Some(needed(key, value)?),
            "volume-nocopy" => {
                words.take(if switch(key, value)? { "nocopy" } else { "copy" })?;
            }
            "volume-driver" if matches!(value, Some("local")) => {}
            "U" | "chown" => {
                if switch(key, value)? {
                    words.take("U")?;
                }
            }
            "z" | "Z" if value.is_none() => {
                words.take(key)?;
            }
            _ if word(&mut words, key, value)? => {}
            "volume-driver" => return Err(format!("{key}: there is no driver but local")),
            "volume-opt" | "volume-label" | "volume-subpath" | "subpath" | "idmap" => {
                return Err(format!("{key} is not supported in this version"));
            }
            _ if key.starts_with("bind-") || key.starts_with("tmpfs-") => {
                return Err(format!("{key} is not one of type=volume"));
            }
            _ => return Err(format!("there is no key {key:?} of type=volume")),
        }
    }
    let destination = destination.ok_or("a destination is needed")?;
    words.volume(source, destination.into())?.checked()
}

fn tmpfs<'a>(pairs: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Result<Tmpfs, String> {
    let mut words = Words::default();
    let mut destination = None;
    let mut options = Vec::new();
    for (key, value) in pairs {
        match key {
            _ if is_destination(key) => destination = Some(needed(key, value)?),
            "tmpfs-size" => {
                let size: ByteSize = needed(key, value)?.parse()?;
                options.push(format!("size={}", size.0));
            }
            "tmpfs-mode" => {
                let mode = needed(key, value)?;
                if mode.len() > 5 || u32::from_str_radix(&mode, 8).is_err() {
                    return Err(format!("{key}={mode}: expected octal digits"));
                }
                options.push(format!("mode={mode}"));
            }
            "tmpcopyup" if value.is_none() => options.push("tmpcopyup".into()),
            // It is so anyway.
            "notmpcopyup" if value.is_none() => {}
            _ if word(&mut words, key, value)? => {}
            "source" | "src" => return Err(format!("{key} is not one of type=tmpfs: there is nothing to be shown")),
            "U" | "chown" => return Err(format!("{key} is not supported in this version")),
            _ if key.starts_with("bind-") || key.starts_with("volume-") => {
                return Err(format!("{key} is not one of type=tmpfs"));
            }
            _ => return Err(format!("there is no key {key:?} of type=tmpfs")),
        }
    }
    let destination = destination.ok_or("a destination is needed")?;
    check_destination(&destination)?;
    options.extend(words.of_tmpfs());
    Ok(Tmpfs { destination: destination.into(), options })
}

/// One line of comma-separated values (RFC 4180): a field in double quotes may hold commas, and `""` for a quote.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut field = String::new();
                let mut quoted = quoted;
                loop {
                    let (part, after) = quoted.split_once('"').ok_or("a quote is not closed")?;
                    field.push_str(part);
                    match after.strip_prefix('"') {
                        Some(after) => {
                            field.push('"');
                            quoted = after;
                        }
                        None => break (field, after),
                    }
                }
            }
            None => {
                let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                (field.to_owned(), after)
            }
        };
        if field.is_empty() {
            return Err("a field is empty".into());
        }
        fields.push(field);
        match (after, after.strip_prefix(',')) {
            ("", _) => return Ok(fields),
            (_, Some(next)) => rest = next,
            _ => return Err("after a closing quote a comma is expected".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Volume {
        match text.parse().expect(text) {
            MountFlag::Volume(volume) => volume,
            MountFlag::Tmpfs(_) => panic!("{text}"),
        }
    }

    fn in_memory(text: &str) -> Vec<String> {
        match text.parse().expect(text) {
            MountFlag::Tmpfs(tmpfs) => tmpfs.options,
            MountFlag::Volume(_) => panic!("{text}"),
        }
    }

    #[test]
    fn binds() {
        let volume = bound("type=bind,source=/a,destination=/b,readonly");
        assert_eq!((volume.source, volume.destination.to_str()), (VolumeSource::Host("/a".into()), Some("/b")));
        let volume = bound("type=bind,source=/a,destination=/b,readonly");
        assert_eq!(volume.spec_options(false), ["rbind", "rro"]);
        let of = |text: &str| bound(&format!("type=bind,src=/a,dst=/b,{text}")).spec_options(false);
        assert_eq!(of("ro=false"), ["rbind"]);
        assert_eq!(of("bind-propagation=rslave,bind-nonrecursive"), ["bind", "rslave"]);
        assert_eq!(of("ro,bind-recursive=writable"), ["rbind", "ro"]);
        assert_eq!(of("noexec,consistency=cached,relabel=shared"), ["rbind", "rnoexec"]);
        assert_eq!(bound("type=bind,\"src=/a,b\",target=/c").source, VolumeSource::Host("/a,b".into()));
        assert!(bound("type=bind,src=/a,dst=/b,U").options.owned_by_user);
    }

    #[test]
    fn volumes() {
        let named = |name: &str| VolumeSource::Named(name.parse().expect("a name"));
        for text in ["type=volume,src=a,dst=/b", "source=a,target=/b", "type=volume,src=a,dst=/b,volume-driver=local"] {
            let volume = bound(text);
            assert_eq!((volume.source, volume.destination), (named("a"), "/b".into()), "{text}");
        }
        assert_eq!(bound("type=volume,dst=/b").source, VolumeSource::Anonymous);
        let volume = bound("type=volume,src=a,dst=/b,volume-nocopy,ro,U=true");
        assert!(volume.options.empty && volume.read_only && volume.options.owned_by_user);
        assert!(!bound("type=volume,src=a,dst=/b,volume-nocopy=false").options.empty);
    }

    #[test]
    fn tmpfs() {
        assert_eq!(in_memory("type=tmpfs,target=/a"), Vec::<String>::new());
        let options = in_memory("type=tmpfs,tmpfs-size=1m,tmpfs-mode=700,dst=/a,ro,exec");
        assert_eq!(options, ["size=1048576", "mode=700", "ro", "exec"]);
    }

    #[test]
    fn what_is_refused_is_named() {
        for (text, named) in [
            ("src=/a,dst=/b", "type=bind"),
            ("type=volume,src=a", "destination"),
            ("type=volume,src=a b,dst=/c", "\"a b\""),
            ("type=volume,src=a,dst=/b,volume-driver=nfs", "volume-driver"),
            ("type=volume,src=a,dst=/b,volume-opt=x=y", "volume-opt"),
            ("type=volume,src=a,dst=/b,tmpfs-size=1m", "tmpfs-size"),
            ("type=image,dst=/b", "type=image"),
            ("type=bind,dst=/b", "source"),
            ("type=bind,src=/a", "destination"),
            ("type=bind,src=/a,dst=b", "\"b\""),
            ("type=bind,src=/a,dst=/", "root"),
            ("type=bind,src=/a,dst=/b,tmpfs-size=1m", "tmpfs-size"),
            ("type=bind,src=/a,dst=/b,idmap", "idmap"),
            ("type=bind,src=/a,dst=/b,bogus=1", "bogus"),
            ("type=bind,src=/a,dst=/b,bind-propagation=odd", "odd"),
            ("type=bind,src=/a,dst=/b,ro,rw", "contradict"),
            ("type=bind,src=/a,dst=/b,bind-recursive=readonly", "bind-recursive"),
            ("type=tmpfs,src=/a,dst=/b", "src"),
            ("type=tmpfs,dst=/b,tmpfs-mode=9", "tmpfs-mode"),
            ("type=tmpfs,dst=/b,bind-propagation=slave", "bind-propagation"),
            ("type=tmpfs,,dst=/b", "empty"),
            ("\"type=tmpfs,dst=/b", "quote"),
        ] {
            let error = text.parse::<MountFlag>().expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
