//! One file a command: its flags and what it does.

pub(crate) mod attach;
mod attaching;
pub(crate) mod audit;
mod chosen;
pub(crate) mod container;
mod container_flags;
pub(crate) mod cp;
pub(crate) mod create;
mod denied;
pub(crate) mod diff;
mod environment;
pub(crate) mod events;
pub(crate) mod exec;
mod exists;
pub(crate) mod export;
pub(crate) mod gc;
pub(crate) mod generate;
pub(crate) mod healthcheck;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
mod making;
pub(crate) mod oci;
pub(crate) mod pause;
pub(crate) mod port;
mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod tag;
pub(crate) mod top;
pub(crate) mod unshare;
pub(crate) mod update;
pub(crate) mod volume;
pub(crate) mod wait;

use rbox_container::Engine;

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::output;

/// Carries out a command; gives the exit status.
pub(crate) fn act(args: Args) -> Result<u8, Failure> {
    let Args { global, command } = args;
    let driver = global.driver()?;
    let engine = || Engine::open(global.root.clone(), global.identity, driver);
    match command {
        Command::Run(run) => return run.act(&engine()?),
        Command::Exec(exec) => return exec.act(global.root),
        Command::Healthcheck(healthcheck) => return healthcheck.act(global.root.clone(), engine),
        Command::Create(create) => create.act(&engine()?)?,
        Command::Start(start) => return start.act(&engine()?),
        Command::Stop(stop) => return stop.act(&engine()?),
        Command::Restart(restart) => return restart.act(&engine()?),
        Command::Pause(pause) => return pause.act(&engine()?),
        Command::Unpause(unpause) => return unpause.act(&engine()?),
        Command::Attach(attach) => return attach.act(&engine()?),
        Command::Pull(pull) => pull.act(&engine()?)?,
        Command::Ps(ps) => ps.act(&engine()?)?,
        Command::Images(images) => images.act(&engine()?)?,
        Command::Tag(tag) => tag.act(&engine()?)?,
        Command::Untag(untag) => untag.act(&engine()?)?,
        Command::History(history) => history.act(&engine()?)?,
        Command::Top(top) => top.act(&engine()?)?,
        Command::Update(update) => return update.act(&engine()?),
        Command::Stats(stats) => stats.act(&engine()?)?,
        Command::Port(port) => port.act(&engine()?)?,
        Command::Cp(cp) => cp.act(&engine()?)?,
        Command::Diff(diff) => diff.act(&engine()?)?,
        Command::Export(export) => export.act(&engine()?)?,
        Command::Unshare(unshare) => return unshare.act(&engine()?),
        Command::Wait(wait) => return wait.act(&engine()?),
        Command::Kill(kill) => return kill.act(&engine()?),
        Command::Rename(rename) => rename.act(&engine()?)?,
        Command::Container(container) => return container.act(global),
        Command::Image(image) => return image.act(&engine()?),
        Command::Volume(volume) => return volume.act(&engine()?),
        Command::Rm(rm) => return rm.act(&engine()?),
        Command::Rmi(rmi) => return rmi.act(&engine()?),
        Command::Logs(logs) => return logs.act(&engine()?),
        Command::Events(events) => events.act(&engine()?)?,
        Command::Inspect(inspect) => return inspect.act(&engine()?),
        Command::Audit(audit) => audit.act(&engine()?)?,
        Command::Generate(generate) => generate.act(&engine()?, global.identity)?,
        Command::Gc(gc) => return gc.act(&engine()?),
        Command::Info(info) => info.act(&engine()?)?,
        Command::Doctor(doctor) => return doctor.act(global.root, global.identity),
        Command::Oci(oci) => return oci.act(global.root),
        Command::Version(version) => version.act()?,
    }
    Ok(0)
}

/// As [`each`], on all of them at once: each may take as long as it wants, and nobody waits for another one's. Prints the
/// names of those for which `act` says so.
fn each_at_once(names: Vec<String>, act: impl Fn(&str) -> Result<bool, Failure> + Sync) -> Result<u8, Failure> {
    // More threads than that do not end sooner.
    const AT_ONCE: usize = 128;
    let mut results = Vec::with_capacity(names.len());
    for some in names.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let acts: Vec<_> = some.iter().map(|name| scope.spawn(|| act(name))).collect();
            results.extend(
                acts.into_iter().map(|act| act.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
            );
        });
    }
    let mut results = results.into_iter();
    each(names, |name| {
        let tell = results.next().unwrap_or(Ok(false))?;
        if tell {
            output::line(name)?;
        }
        Ok(())
    })
}

/// Acts on each name; failures are told one by one and do not keep the others from being done.
fn each(names: Vec<String>, mut act: impl FnMut(&str) -> Result<(), Failure>) -> Result<u8, Failure> {
    let mut status = 0;
    for name in names {
        if let Err(failure) = act(&name) {
            failure.print();
            status = failure.status;
        }
    }
    Ok(status)
}
