//! `rbox run`

use clap::Args;
use rbox_container::settings::EgressLog;
use rbox_container::{Engine, Error, RunRequest};

use crate::commands::attaching::Attaching;
use crate::commands::denied;
use crate::commands::making::Making;
use crate::commands::start::{started, status};
use crate::failure::Failure;
use crate::output;
use crate::progress::with_output;

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Leave it to a monitor of its own, and print its id
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    attaching: Attaching,

    #[command(flatten)]
    making: Making,

    /// Print in the end which system calls were refused by the seccomp profile, how often, and what would allow them
    #[arg(long, conflicts_with = "detach")]
    explain_denied: bool,

    /// Print what will be done, and afterwards what each step took
    #[arg(long, conflicts_with = "detach")]
    explain: bool,
}

impl Run {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let explains = self.explain || self.explain_denied;
        let by_monitor = self.making.needs_monitor() || self.attaching.needs_monitor();
        if by_monitor && explains {
            return Err(Failure::new(
                "--explain and --explain-denied are for what runs in the foreground, without --restart, --log-…, \
                 --health-cmd, --timeout, --attach, --sig-proxy=false and --detach-keys",
            ));
        }
        let request = RunRequest { explain_denied: self.explain_denied, ..self.making.request()? };
        if self.detach {
            let begun = with_output(false, |output| engine.run_detached(&request, output))?;
            started(&begun);
            output::line(begun.id.as_str())?;
            return Ok(0);
        }
        // A person at a terminal can leave it, and then somebody has to be there for the container.
        let stays = explains || request.settings.egress.log == Some(EgressLog::Stderr);
        let can_be_left = request.tty && request.interactive && !stays;
        let ran = if by_monitor || can_be_left {
            None
        } else {
            match with_output(false, |output| engine.run(&request, self.explain, output)) {
                // As it turns out when the image is here.
                Err(Error::NeedsMonitor) if !explains => None,
                ran => Some(ran?),
            }
        };
        let Some(ran) = ran else {
            let attachment = self.attaching.attachment(&request);
            let (id, attached) = with_output(false, |output| engine.run_attached(&request, &attachment, output))?;
            if attachment.outputs == [false; 2] {
                // Docker's way: whoever sees nothing of it is told what it is.
                output::line(id.as_str())?;
                return Ok(0);
            }
            return Ok(status(attached));
        };
        if let Some((plan, steps)) = ran.explained {
            explain_steps(&plan, &steps)?;
        }
        if let Some(denials) = ran.denied {
            denied::explain(&denials);
        }
        Ok(ran.exit.status())
    }
}

fn explain_steps(plan: &rbox_container::RunPlan, steps: &[rbox_runtime::trace::Step]) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&plan.spec_in_full())?;
    eprintln!("{text}");
    let Some(first) = steps.first() else { return Ok(()) };
    eprintln!("{:>9} {:>9}  process  step", "at µs", "took µs");
    for step in steps {
        let (at, took) = (step.began - first.began, step.ended - step.began);
        eprintln!("{:>9} {:>9}  {:<7}  {}", at.as_micros(), took.as_micros(), step.process, step.name);
    }
    Ok(())
}
