//! `rbox top`

use clap::Args;
use rbox_container::{Engine, TopColumn};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The container's name or the beginning of its id, and the columns: names such as pid and args, or -o pid,args
    // One list: what follows the container may look like a flag of ps(1).
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        num_args = 1..,
        value_names = ["CONTAINER", "COLUMN"]
    )]
    words: Vec<String>,
}

impl Top {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        let mut words = self.words.into_iter();
        let container = words.next().unwrap_or_default();
        let columns = columns(words).map_err(Failure::new)?;
        let heading = columns.iter().map(|column| column.heading().to_owned()).collect();
        let mut lines = vec![heading];
        lines.extend(engine.top(&container, &columns)?);
        Ok(output::aligned(&lines)?)
    }
}

/// Podman's way, names of columns; and of ps(1)'s options, which Docker takes, the one that names columns.
fn columns(words: impl Iterator<Item = String>) -> Result<Vec<TopColumn>, String> {
    let mut columns = Vec::new();
    let mut of_option = false;
    for word in words {
        let names = match word.strip_prefix('-') {
            Some(option) => {
                let names = ["eo", "o", "-format=", "-format"].iter().find_map(|known| option.strip_prefix(known));
                let refused = || format!("of the options of ps(1) there is -o COLUMN,COLUMN, and not {word:?}");
                let names = names.ok_or_else(refused)?;
                if names.is_empty() {
                    of_option = true;
                    continue;
                }
                names
            }
            None => &word,
        };
        of_option = false;
        for name in names.split([',', ' ']).filter(|name| !name.is_empty()) {
            columns.push(TopColumn::parse(name)?);
        }
    }
    if of_option {
        return Err("-o wants columns: -o pid,args".into());
    }
    if columns.is_empty() {
        return Ok(TopColumn::default_ones());
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_name_columns() {
        let headings = |words: &[&str]| {
            let columns = columns(words.iter().map(|&word| word.to_owned()))?;
            Ok::<_, String>(columns.iter().map(|column| column.heading()).collect::<Vec<_>>().join(" "))
        };
        for words in [&["pid", "args"][..], &["pid,args"], &["-o", "pid,args"], &["-eo", "pid,cmd"], &["-opid", "args"]]
        {
            assert_eq!(headings(words).as_deref(), Ok("PID COMMAND"), "{words:?}");
        }
        assert_eq!(headings(&[]).as_deref(), Ok("USER PID PPID %CPU ELAPSED TTY TIME COMMAND"));
        for (words, why) in [(&["-ef"][..], "not \"-ef\""), (&["-o"], "-o wants"), (&["aux"], "no column \"aux\"")] {
            let error = headings(words).expect_err("refused");
            assert!(error.contains(why), "{error}");
        }
    }
}
