//! The release binary: one file that asks nothing of the machine it runs on.

use std::path::Path;

use rbox_tests::elf::Elf;
use rbox_tests::host;

/// How the functions of glibc begin that load the machine's NSS modules (nsswitch.conf(5)) into a static program, and
/// crash where those are of another version.
const OF_NSS: [&str; 6] = ["getaddrinfo", "getnameinfo", "gethostby", "getpw", "getgr", "getservby"];

/// Begins like one of them and is a plain system call.
const HARMLESS: &str = "getgroups";

fn of_nss(elf: &Elf) -> Vec<&str> {
    // Inner functions have underscores before the name.
    let symbols = elf.symbols.iter().map(|symbol| (symbol.as_str(), symbol.trim_start_matches('_')));
    let found = symbols.filter(|(_, name)| OF_NSS.iter().any(|start| name.starts_with(start)) && *name != HARMLESS);
    found.map(|(symbol, _)| symbol).collect()
}

#[test]
fn it_is_static() {
    let elf = Elf::read(&host::rbox_binary()).expect("readelf reads it");
    assert_eq!(elf.interpreter, None);
    assert_eq!(elf.needed, Vec::<String>::new());
}

#[test]
fn nothing_of_the_hosts_name_services_is_in_it() {
    let elf = Elf::read(&host::rbox_binary()).expect("readelf reads it");
    // A stripped binary would pass without being looked at.
    assert!(elf.symbols.iter().any(|symbol| symbol == "main"), "the binary has no symbol table");
    assert_eq!(of_nss(&elf), Vec::<&str>::new());
}

/// These tests can fail: a program that is linked dynamically and looks up users and hosts is caught.
#[test]
fn the_checks_see_what_they_look_for() {
    let curl = Path::new("/usr/bin/curl");
    let elf = Elf::read(curl).expect("readelf reads it");
    assert!(elf.interpreter.is_some_and(|loader| loader.contains("ld-linux")));
    assert!(elf.needed.iter().any(|library| library.ends_with(".so.6")), "{:?}", elf.needed);

    let dir = tempfile::tempdir().expect("a temporary directory");
    let (source, program) = (dir.path().join("p.c"), dir.path().join("p"));
    let text = "#include <pwd.h>\n#include <netdb.h>\nint main(void) { struct addrinfo *a; return !getpwuid(0) + getaddrinfo(\"x\", 0, 0, &a); }\n";
    std::fs::write(&source, text).expect("written");
    let mut cc = std::process::Command::new("cc");
    cc.args(["-static", "-w", "-o"]).arg(&program).arg(&source);
    rbox_tests::command::read(&mut cc).expect("a static program");
    let elf = Elf::read(&program).expect("readelf reads it");
    assert_eq!((elf.interpreter.as_deref(), elf.needed.len()), (None, 0));
    assert!(of_nss(&elf).contains(&"getaddrinfo") && of_nss(&elf).contains(&"getpwuid"), "{:?}", of_nss(&elf));
}
