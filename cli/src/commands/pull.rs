//! `rbox pull`

use clap::Args;
use rbox_container::{Engine, PullRequest};
use rbox_types::{Platform, Reference};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Print the image's id alone
    #[arg(short, long)]
    quiet: bool,

    /// The platform to download, such as linux/arm64
    #[arg(long)]
    platform: Option<Platform>,

    /// Talk to the registry without TLS, or with TLS that nobody vouches for
    #[arg(long, value_name = "BOOL")]
    tls_verify: Option<bool>,

    /// The images
    #[arg(required = true)]
    images: Vec<Reference>,
}

impl Pull {
    pub(crate) fn act(self, engine: &Engine) -> Result<(), Failure> {
        for reference in self.images {
            let request = PullRequest { reference, platform: self.platform.clone(), tls_verify: self.tls_verify };
            let pulled = crate::progress::with_output(self.quiet, |output| engine.pull(&request, output))?;
            output::line(&pulled.digest.to_string())?;
        }
        Ok(())
    }
}
