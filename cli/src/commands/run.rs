//! `rbox run`

use clap::Args;
use rbox_container::{Attachment, DetachKeys, Engine, RunRequest};

use crate::commands::denied;
use crate::commands::making::Making;
use crate::commands::start::status;
use crate::failure::Failure;
use crate::progress::with_output;

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Leave it to a monitor of its own, and print its id
    #[arg(short, long)]
    detach: bool,

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
        let by_monitor = self.making.needs_monitor();
        if by_monitor && (self.explain || self.explain_denied) {
            return Err(Failure::new(
                "--explain and --explain-denied are for what runs in the foreground, without --restart and --log-…",
            ));
        }
        let request = RunRequest { explain_denied: self.explain_denied, ..self.making.request()? };
        if self.detach {
            let id = with_output(false, |output| engine.run_detached(&request, output))?;
            println!("{id}");
            return Ok(0);
        }
        if by_monitor {
            let id = with_output(false, |output| engine.create(&request, output))?;
            let attachment = Attachment {
                input: request.interactive,
                outputs: [true; 2],
                signals: true,
                detach_keys: DetachKeys::default(),
            };
            return Ok(status(engine.start_attached(id.as_str(), &attachment)?));
        }
        let ran = with_output(false, |output| engine.run(&request, self.explain, output))?;
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
