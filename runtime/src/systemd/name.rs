//! Names of units: `slice:prefix:name`, as `linux.cgroupsPath` has them for systemd (runc's docs/systemd.md), and slices,
//! whose names are paths.

use super::Error;

/// A scope and where it belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) unit: String,
    pub(super) slice: String,
}

impl Name {
    /// An empty path, or an empty part of one, stands for what is usual.
    pub(super) fn parse(path: &str, id: &str, privileged: bool) -> Result<Self, Error> {
        let refuse = |why: &str| Err(Error::Path(path.to_owned(), why.to_owned()));
        let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "rbox", id),
            [slice, prefix, name] if !name.is_empty() => (slice, prefix, name),
            _ => return refuse("is not slice:prefix:name"),
        };
        let slice = match slice {
            "" if privileged => "system.slice",
            "" => "user.slice",
            slice => slice,
        };
        if !is_slice(slice) {
            return refuse("begins with no name of a slice: a.slice, or a-b.slice for one in it");
        }
        let fine = |part: &str| !part.contains(|c: char| c == '/' || c.is_control());
        if !fine(prefix) || !fine(name) {
            return refuse("has a character that no unit's name has");
        }
        if name.ends_with(".slice") {
            return refuse("names a slice, which has no processes, and not a scope");
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        Ok(Self { unit, slice: slice.to_owned() })
    }
}

/// systemd.slice(5): dashes divide a slice's name into those of the slices that it is in. `-.slice` is the outermost.
fn is_slice(slice: &str) -> bool {
    let fine = |name: &str| !name.is_empty() && !name.contains(|c: char| c == '/' || c.is_control());
    slice == "-.slice" || slice.strip_suffix(".slice").is_some_and(|name| name.split('-').all(fine))
}

/// The path of a slice's cgroup, with a `/` behind each: `a.slice/a-b.slice/`.
pub(super) fn expand(slice: &str) -> String {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    // That of `-.slice` is the root's.
    ends.map(|end| &name[..end]).filter(|_| name != "-").map(|outer| format!("{outer}.slice/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_paths() {
        for (slice, path) in [
            ("a.slice", "a.slice/"),
            ("a-b.slice", "a.slice/a-b.slice/"),
            ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice/"),
            ("-.slice", ""),
        ] {
            assert_eq!(expand(slice), path, "{slice}");
        }
    }

    #[test]
    fn a_path_names_a_scope_in_a_slice() {
        for (path, privileged, unit, slice) in [
            ("user-a.slice:libpod:b1", false, "libpod-b1.scope", "user-a.slice"),
            ("machine.slice::b1", true, "b1.scope", "machine.slice"),
            (":cri:b1", true, "cri-b1.scope", "system.slice"),
            (":cri:b1", false, "cri-b1.scope", "user.slice"),
            ("", true, "rbox-id.scope", "system.slice"),
            ("", false, "rbox-id.scope", "user.slice"),
            ("-.slice:a:b", false, "a-b.scope", "-.slice"),
        ] {
            let expected = Name { unit: unit.into(), slice: slice.into() };
            assert_eq!(Name::parse(path, "id", privileged).expect(path), expected, "{path}");
        }
    }

    #[test]
    fn what_names_none_is_refused() {
        let paths = ["/a/b", "a", "a:b", "a.slice:b:", "a.slice:b:c:d", "a:b:c", "a--b.slice:c:d", "-a.slice:b:c"];
        for path in paths.into_iter().chain([
            ".slice:a:b",
            "a/b.slice:c:d",
            "a.slice:b/c:d",
            "a.slice:b:c\0",
            "a.slice:b:c.slice",
        ]) {
            let error = Name::parse(path, "id", true).expect_err(path).to_string();
            assert!(error.starts_with("config: linux.cgroupsPath: "), "{error}");
        }
    }
}
