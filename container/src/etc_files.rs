//! The three files in /etc that a container gets from rbox: hosts(5), hostname(5), resolv.conf(5).

use std::path::PathBuf;

use crate::settings::Resolver;

/// The files: where they are in the container, and what is in them.
pub(crate) fn etc_files(hostname: &str, name: &str, resolver: &Resolver) -> Vec<(PathBuf, String)> {
    let mut files =
        vec![("/etc/hosts".into(), hosts(hostname, name, resolver)), ("/etc/hostname".into(), format!("{hostname}\n"))];
    if !resolver.leaves_the_images() {
        files.push(("/etc/resolv.conf".into(), resolv_conf(resolver)));
    }
    files
}

fn hosts(hostname: &str, name: &str, resolver: &Resolver) -> String {
    let own = if hostname == name { hostname.to_owned() } else { format!("{hostname} {name}") };
    let extra = resolver.hosts_lines();
    format!("{extra}127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{own}\n")
}

fn resolv_conf(resolver: &Resolver) -> String {
    let mut text = resolver.search_and_servers();
    let options = match (resolver.servers.is_empty(), resolver.options.is_empty()) {
        (_, false) => resolver.options.join(" "),
        (true, true) => OPTIONS.to_owned(),
        (false, true) => String::new(),
    };
    if resolver.servers.is_empty() {
        text.insert_str(0, "# no nameserver: this container has no network\n");
    }
    if !options.is_empty() {
        text.push_str(&format!("options {options}\n"));
    }
    text
}

/// A container without a network has no resolver. glibc then asks the container itself and is refused at once; musl does
/// not hear of the refusal, and waits for an answer twice five seconds unless it is told not to.
const OPTIONS: &str = "timeout:1 attempts:1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers() {
        let none = resolv_conf(&Resolver::default());
        assert_eq!(none, "# no nameserver: this container has no network\noptions timeout:1 attempts:1\n");
        let resolver = Resolver {
            servers: ["1.2.3.4", "::1"].map(|server| server.parse().expect("valid")).into(),
            search: vec!["a.org".into(), "b.org".into()],
            options: vec!["ndots:2".into(), "rotate".into()],
            hosts: vec!["db:10.0.0.1".parse().expect("valid")],
        };
        assert_eq!(
            resolv_conf(&resolver),
            "search a.org b.org\nnameserver 1.2.3.4\nnameserver ::1\noptions ndots:2 rotate\n"
        );
        let files = etc_files("box", "name", &resolver);
        assert!(files[0].1.starts_with("10.0.0.1\tdb\n127.0.0.1\tlocalhost\n"), "{}", files[0].1);
        let no_search = Resolver { search: vec![".".into()], servers: resolver.servers, ..Resolver::default() };
        assert_eq!(resolv_conf(&no_search), "nameserver 1.2.3.4\nnameserver ::1\n");
        let images = Resolver { servers: vec!["none".parse().expect("valid")], ..Resolver::default() };
        assert_eq!(etc_files("box", "name", &images).len(), 2);
    }
}
