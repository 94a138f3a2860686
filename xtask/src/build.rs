//! `cargo xtask build`: the release binary, one file that needs nothing of the machine it runs on.
//!
//! It is linked statically with glibc. That works because nothing in it asks glibc for names of users or hosts, for
//! which glibc would load the machine's own NSS modules; a test reads the symbol table to hold this.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use rbox_tests::command::{read, run};
use rbox_tests::host;

use crate::order;

/// Builds rbox and leaves it at `target/rbox`.
pub(crate) fn release() -> Result<PathBuf> {
    static_binary("rbox", "rbox", "rbox")
}

/// Builds one binary of one package as it is released, and leaves it in the target directory as `name`.
pub(crate) fn static_binary(package: &str, binary: &str, name: &str) -> Result<PathBuf> {
    // Named even though it is the host's own: only then do build scripts and procedural macros, which cannot be
    // static, stay out of RUSTFLAGS.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = cargo();
    // At a fixed address: docs/decisions/fixed-address.md.
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned(), "-Crelocation-model=static".to_owned()];
    if links_with_lld()? {
        // What a start runs, together: docs/decisions/start.md. The path is below the root of the source tree, where cargo
        // starts the compiler.
        let arguments = [&format!("--symbol-ordering-file={}", order::FILE), "--no-warn-symbol-ordering"];
        flags.extend(
            arguments.iter().flat_map(|argument| ["-Clink-arg=-Xlinker".to_owned(), format!("-Clink-arg={argument}")]),
        );
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    run(cargo.args(["build", "--release", "--target", &target, "--package", package, "--bin", binary]))?;

    let directory = host::target_dir();
    let built = directory.join(&target).join("release").join(binary);
    let copy = tempfile::Builder::new()
        .prefix(".binary.")
        .permissions(Permissions::from_mode(0o755))
        .tempfile_in(&directory)?;
    // In one piece, as installers write it: the kernel then caches it in large folios, of which a start maps many pages at
    // once. What a linker has written through a mapping, or copy_file_range(2) copied, is cached page by page.
    let binary = std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    std::fs::write(copy.path(), binary).with_context(|| format!("cannot write {}", copy.path().display()))?;
    // By rename: a running binary cannot be written to, and nobody sees half of one.
    let path = directory.join(name);
    copy.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The compiler's name and version.
pub(crate) fn compiler() -> Result<String> {
    Ok(read(Command::new("rustc").arg("--version"))?.trim_end().to_owned())
}

/// Whether the compiler links with the linker that it brings along, as it does by itself from 1.90 on.
fn links_with_lld() -> Result<bool> {
    let version = compiler()?;
    let minor = version.split(['.', ' ']).nth(2).and_then(|minor| minor.parse::<u32>().ok());
    Ok(cfg!(all(target_arch = "x86_64", target_env = "gnu")) && minor.is_some_and(|minor| minor >= 90))
}

/// The cargo that runs this, at the root of the source tree.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo run` has set these for xtask. Build scripts that look at them would run again at each change between
    // this and a build by hand.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(host::source_root());
    cargo
}
