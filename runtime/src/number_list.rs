//! Lists of processors and memory nodes: `0-3,7` (cpuset(7), "List format").

/// The numbers of a list, each below `limit`; none where it is no such list. An empty list has none.
pub(crate) fn parse(list: &str, limit: usize) -> Option<Vec<usize>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < limit).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = list.split(',').map(range).collect();
    Some(ranges?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse("0-2,7", 8), Some(vec![0, 1, 2, 7]));
        assert_eq!(parse("", 8), Some(Vec::new()));
        for wrong in ["a", "3-1", "1,,2", "0-8", "0-9876543210987654321"] {
            assert_eq!(parse(wrong, 8), None, "{wrong}");
        }
    }
}
