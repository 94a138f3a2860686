//! `rbox run` in the foreground: this process is the container's supervisor.

use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;
use rbox_image::Image;
use rbox_overlay::kernel::remove_volatile_mark;
use rbox_runtime::seccomp::KernelVersion;
use rbox_runtime::trace::{Step, Trace};
use rbox_runtime::{Failure, Init, Launch, NamespacePlan, ProcessId, Streams, Subject, Workload};
use rbox_store::{ContainerDir, ContainerRefs};
use rbox_sys::flock::{self, Mode};
use rbox_sys::signal::SignalFd;
use rbox_types::{ChainId, Exit};

use crate::denied::{Denials, Watch};
use crate::etc_files::etc_files;
use crate::host_devices::host_devices;
use crate::plan::{Host, RunPlan, plan};
use crate::pull::PullOutput;
use crate::record::{Filter, Finished, Joining, Made, Record};
use crate::request::{RunRequest, Volume};
use crate::root::{OverlayRoot, Wanted};
use crate::siblings::Siblings;
use crate::supervise::{Terminal, supervise};
use crate::{Engine, Error, names, worker};

/// The overlay's own directory in a container's.
const WORK: &str = "work";

/// A run that has ended.
#[derive(Debug)]
pub struct Ran {
    /// How the workload ended.
    pub exit: Exit,
    /// What was planned, and what each step of the start took, where that was asked for.
    pub explained: Option<(RunPlan, Vec<Step>)>,
    /// What the filter has refused, where that was asked for.
    pub denied: Option<Denials>,
}

impl Engine {
    /// Runs a container to its end. With `explain`, the steps of its start are measured.
    pub fn run(&self, request: &RunRequest, explain: bool, output: &dyn PullOutput) -> Result<Ran, Error> {
        let mut trace = if explain { Trace::on("rbox") } else { Trace::off() };
        let terminal = if request.tty { Some(Terminal::of_caller()?) } else { None };
        // An init that stays must be one that others can join (ptrace(2), "Ptrace access mode checking"): of a process that
        // has never been executed in the user namespace, the kernel asks for power over the one that it came from.
        let init = Init { always_executed: request.init, ..worker::INIT };
        // First of all: it takes longest, and forks, which a process can only do before it has threads that pull.
        let mut siblings = Siblings::find(self);
        let launch =
            Launch::begin(&init, &NamespacePlan::new_container(), Some(&self.identity), siblings.parent(), &mut trace)?;
        let image = self.image_for(request, output)?;
        trace.mark("find the image");
        let id = names::random_id().map_err(Error::io("get random bytes for", "the container's id"))?;
        let name = request.name.clone().unwrap_or_else(|| names::name_for(&id));
        let hostname = request.hostname.clone().unwrap_or_else(|| id.short().to_owned());
        let volumes = request.volumes.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        // Before anything that a signal could leave half-done: it waits, and is handed on to the workload.
        let signals = SignalFd::of_forwarded().map_err(Error::io("block", "signals"))?;
        let chain: Vec<ChainId> = image.layers.iter().map(|layer| layer.chain_id).collect();
        let refs = ContainerRefs { manifest: image.manifest, map_key: self.identity.maps.key(), layers: chain.clone() };
        let directory = self.store.create_container(&id, &name, &refs)?;
        let devices = if request.security.privileged {
            host_devices(Path::new("/dev")).map_err(Error::io("list the devices in", "/dev"))?
        } else {
            Vec::new()
        };
        let host = Host {
            hostname: &hostname,
            terminal: terminal.as_ref().map(Terminal::size),
            many_ids: !self.identity.is_single(),
            foreign_root: self.identity.foreign_root().is_some(),
            volumes: &volumes,
            kernel: KernelVersion::of_host(),
            devices: &devices,
        };
        let planned = plan(image.config.config().as_ref(), request, &host).map_err(Error::from);
        let mut watch = Watch::default();
        let mut hear = |refusals| watch.begin(refusals);
        let ran = planned.and_then(|planned| {
            if request.explain_denied && planned.spec.linux().as_ref().is_none_or(|linux| linux.seccomp().is_none()) {
                return Err(Error::NothingDenies);
            }
            let files = etc_files(&hostname, name.as_str());
            let root = self.root_of(&directory, &chain, &planned, request.rm, files)?;
            trace.mark("make the container's directory");
            let mut record_file = None;
            let mut record = |pid| {
                let failed = |error: io::Error| Failure::new(format!("fill {}", directory.path().display()), &error);
                if !request.rm {
                    Finished::reserve(directory.path()).map_err(failed)?;
                }
                let made = made(request, &image, &planned, &hostname, &volumes, pid).map_err(failed)?;
                record_file = Some(made.write(directory.path()).map_err(failed)?);
                Ok(())
            };
            let workload = Workload {
                spec: &planned.spec,
                built_in_filter: planned.built_in_filter,
                streams: if request.interactive { Streams::Inherit } else { Streams::NoInput },
                reaper: request.init,
                preserved: 0,
                no_pivot: false,
                place: None,
                new_keyring: true,
                subject: Subject {
                    oci_version: planned.spec.version().clone(),
                    id: id.to_string(),
                    bundle: directory.path().to_owned(),
                    ..Subject::default()
                },
                beside: None,
                outlives: false,
                held: None,
                root: &root.words().map_err(Error::io("describe", "the root filesystem"))?,
                refusals: if request.explain_denied { Some(&mut hear) } else { None },
                before: &mut record,
            };
            let running = launch.start(workload, &mut trace)?;
            if let Some(file) = &record_file {
                // From here on it can be joined.
                flock::lock(file, Mode::Exclusive).map_err(record_error(&directory))?;
            }
            let exit = supervise(running, &signals, terminal, request.interactive, &mut || siblings.invite())?;
            trace.mark("supervise the workload to its end");
            Ok((exit, planned))
        });
        self.finish(request, directory, ran.as_ref().map(|(exit, _)| *exit).map_err(Error::status))?;
        trace.mark(if request.rm { "remove the container" } else { "record the end" });
        let (exit, planned) = ran?;
        let denied = request.explain_denied.then(|| watch.finish(&request.security, KernelVersion::of_host()));
        Ok(Ran { exit, denied, explained: explain.then(|| (planned, trace.into_steps())) })
    }

    /// The root filesystem, with the overlay's own directories made: container root is who writes there.
    fn root_of(
        &self,
        directory: &ContainerDir,
        chain: &[ChainId],
        planned: &RunPlan,
        volatile: bool,
        files: Vec<(PathBuf, String)>,
    ) -> Result<OverlayRoot, Error> {
        let key = self.identity.maps.key();
        let mut lowers = Vec::with_capacity(chain.len());
        for id in chain.iter().rev() {
            let layer = self.store.layer(&key, *id)?.ok_or(Error::LayerGone(*id))?;
            lowers.push(layer.fs());
        }
        let [upper, work] = ["upper", WORK].map(|name| directory.path().join(name));
        for path in [&upper, &work] {
            fs::create_dir(path).map_err(Error::io("create", path.display()))?;
            if let Some((uid, gid)) = self.identity.foreign_root() {
                std::os::unix::fs::chown(path, Some(uid), Some(gid))
                    .map_err(Error::io("change the owner of", path.display()))?;
            }
        }
        Ok(OverlayRoot { lowers, upper, work, volatile, wanted: Wanted::of(planned), files })
    }

    /// The container's end is recorded, or the container removed, however the run went.
    fn finish(&self, request: &RunRequest, directory: ContainerDir, ended: Result<Exit, u8>) -> Result<(), Error> {
        // As in Docker, what never started stays only if the user keeps containers.
        if request.rm {
            remove_volatile_mark(&directory.path().join(WORK));
            return Ok(directory.remove(&|path| self.remove_tree(path))?);
        }
        let exit = ended.unwrap_or_else(Exit::Code);
        Finished { at: Timestamp::now(), exit }.write_reserved(directory.path()).map_err(record_error(&directory))
    }
}

fn record_error(directory: &ContainerDir) -> impl Fn(io::Error) -> Error {
    let path = directory.path().display().to_string();
    move |source| Error::Io { operation: "write the records in", on: path.clone(), source }
}

fn made(
    request: &RunRequest,
    image: &Image,
    planned: &RunPlan,
    hostname: &str,
    volumes: &[Volume],
    pid: u32,
) -> io::Result<Made> {
    let process = planned.spec.process().clone().unwrap_or_default();
    Ok(Made {
        created: Timestamp::now(),
        pid,
        joining: Some(Joining::new(ProcessId::of_child(pid)?, Filter::of(planned))),
        image: request.image.clone(),
        image_id: image.config_digest,
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().display().to_string(),
        user: planned.user.clone(),
        hostname: hostname.to_owned(),
        tty: request.tty,
        rm: request.rm,
        init: request.init,
        binds: volumes
            .iter()
            .map(|volume| {
                (volume.source.display().to_string(), volume.destination.display().to_string(), volume.read_only)
            })
            .collect(),
        security: request.security.words(),
    })
}

/// Podman's rule: what is to be bound must be there. Docker makes a directory that then belongs to nobody expected.
fn absolute(volume: &Volume) -> Result<Volume, Error> {
    let source: PathBuf =
        fs::canonicalize(&volume.source).map_err(Error::io("find the volume", volume.source.display()))?;
    Ok(Volume { source, ..volume.clone() })
}
