//! What a binary needs of the machine it runs on, as readelf(1) (binutils) and ldd(1) tell it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::read;

/// The facts of one ELF file.
pub struct Elf {
    /// The dynamic loader it asks for.
    pub interpreter: Option<String>,
    /// The shared libraries it asks for.
    pub needed: Vec<String>,
    /// The names of all its symbols, versions cut off.
    pub symbols: Vec<String>,
}

impl Elf {
    /// Reads the facts of the file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let readelf = |option: &str| read(Command::new("readelf").env("LC_ALL", "C").args(["-W", option]).arg(path));
        let marker = "Requesting program interpreter: ";
        let headers = readelf("--program-headers")?;
        let interpreter = headers.split_once(marker).map(|(_, rest)| rest.split(']').next().unwrap_or("").to_owned());
        let dynamic = readelf("--dynamic")?;
        let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
        let needed = needed.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']').to_owned()));
        let symbols = readelf("--symbols")?;
        // "   Num:    Value          Size Type    Bind   Vis      Ndx Name"
        let symbols = symbols.lines().filter_map(|line| line.split_whitespace().nth(7));
        let symbols = symbols.map(|name| name.split('@').next().unwrap_or(name).to_owned());
        Ok(Self { interpreter, needed: needed.collect(), symbols: symbols.collect() })
    }
}

/// The files of the loader and of all libraries that the program of this command is run with.
pub fn libraries(command: &Command) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(command.get_program()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // `name => path (address)`, or the loader's path alone.
    let listed = read(&mut ldd)?;
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
