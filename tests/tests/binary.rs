//! The release binary: one file that asks nothing of the machine it runs on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rbox_tests::command::read;
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

/// `cargo xtask order` makes the list anew.
#[test]
fn what_a_start_runs_is_together() -> Result<()> {
    let binary = host::rbox_binary();
    let list = std::fs::read_to_string(host::source_root().join("cli/start.order"))?;
    let (head, functions) = list.split_once('\n').context("a head, which names the compiler")?;
    let compiler = head.split(", for ").nth(1).context("the compiler's version")?;
    let made_by = read(Command::new("readelf").args(["-p", ".comment"]).arg(&binary))?;
    if !made_by.contains(&compiler.replace("rustc ", "rustc version ")) {
        println!("note: the list is of another compiler, which gives functions other names: {compiler}");
        return Ok(());
    }
    let wanted: BTreeSet<&str> = functions.lines().collect();
    let symbols = read(Command::new("nm").arg("--numeric-sort").arg(&binary))?;
    let places = symbols.lines().filter_map(|line| {
        let (address, rest) = line.split_once(' ')?;
        let (kind, name) = rest.split_once(' ')?;
        (kind.eq_ignore_ascii_case("t") && wanted.contains(name)).then(|| u64::from_str_radix(address, 16).ok())?
    });
    let places: Vec<u64> = places.collect();
    assert!(places.len() * 4 > wanted.len() * 3, "{} of {} are in the binary", places.len(), wanted.len());
    // But for some that are called alike elsewhere.
    let span = places[places.len() * 19 / 20] - places[0];
    assert!(span < 3 << 19, "they are over {span} bytes");
    Ok(())
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
    let mut cc = Command::new("cc");
    cc.args(["-static", "-w", "-o"]).arg(&program).arg(&source);
    read(&mut cc).expect("a static program");
    let elf = Elf::read(&program).expect("readelf reads it");
    assert_eq!((elf.interpreter.as_deref(), elf.needed.len()), (None, 0));
    assert!(of_nss(&elf).contains(&"getaddrinfo") && of_nss(&elf).contains(&"getpwuid"), "{:?}", of_nss(&elf));
}
