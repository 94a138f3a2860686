//! `rbox unshare`: a program of the user's own as root of the ids that his containers have.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rbox_rootless::enter;

use crate::{Engine, Error};

impl Engine {
    /// Becomes the program, in new user and mount namespaces. It has this process's environment, streams, terminal and number.
    /// Gives the failure, where there is one: the program's own is told as [`Error::NotExecuted`].
    pub fn unshare(&self, program: OsString, arguments: Vec<OsString>) -> Error {
        if let Err(error) = enter(&self.identity) {
            return error.into();
        }
        let source = Command::new(&program).args(arguments).exec();
        Error::NotExecuted { program: program.to_string_lossy().into_owned(), source }
    }
}
