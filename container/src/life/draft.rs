//! A container that is planned and not yet made: what starting it at once and making it for later have in common.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rbox_image::Image;
use rbox_runtime::seccomp::KernelVersion;
use rbox_store::{ContainerDir, ContainerRefs, Event, Layer};
use rbox_types::{ContainerId, ContainerName, Digest, StorageDriver, VolumeName};

use crate::host_devices::host_devices;
use crate::images::pull::PullOutput;
use crate::life::overlay_dirs::{make_upper, make_work};
use crate::on_host::OnHost;
use crate::plan::{Host, RunPlan, plan};
use crate::record::Made;
use crate::request::RunRequest;
use crate::root::{OverlayRoot, Wanted};
use crate::settings::Settings;
use crate::shared::Shared;
use crate::user::Person;
use crate::volume::Volume;
use crate::volume::placed::Placed;
use crate::{Engine, Error, events, names, outside};

/// All that is known of a container before it has a directory.
pub(crate) struct Draft {
    pub(crate) id: ContainerId,
    pub(crate) planned: RunPlan,
    hostname: String,
    volumes: Vec<Placed>,
    image_id: Digest,
    refs: ContainerRefs,
    settings: Settings,
    driver: StorageDriver,
}

impl Draft {
    /// Plans a container of `image`; `terminal` is the size of the one that it gets.
    pub(crate) fn new(
        engine: &Engine,
        id: ContainerId,
        request: &RunRequest,
        image: Image,
        terminal: Option<(u16, u16)>,
        shared: &Shared,
        driver: StorageDriver,
    ) -> Result<Self, Error> {
        let hostname = request.hostname.clone().or_else(|| shared.hostname.clone());
        let hostname = hostname.unwrap_or_else(|| id.short().to_owned());
        let on_host = OnHost::of(request, shared)?;
        let volumes = Volume::all(image.config.config().as_ref(), &request.volumes, &request.tmpfs)?;
        let place = |volume| Placed::find(&engine.store, volume);
        let volumes = volumes.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let devices = if request.security.privileged {
            host_devices(Path::new("/dev")).map_err(Error::io("list the devices in", "/dev"))?
        } else {
            Vec::new()
        };
        let host = Host {
            hostname: &hostname,
            terminal,
            many_ids: !engine.identity.is_single(),
            foreign_root: engine.identity.foreign_root().is_some(),
            volumes: &volumes,
            kernel: KernelVersion::of_host(),
            devices: &devices,
            shared,
            on_host: &on_host,
        };
        let planned = plan(image.config.config().as_ref(), request, &host)?;
        if request.explain_denied && planned.spec.linux().as_ref().is_none_or(|linux| linux.seccomp().is_none()) {
            return Err(Error::NothingDenies);
        }
        let settings = outside::recorded(request, &image, shared)?;
        let refs = ContainerRefs {
            manifest: image.manifest,
            map_key: engine.identity.maps.key(),
            layers: image.layers.iter().map(|layer| layer.chain_id).collect(),
            volumes: volumes.iter().filter_map(Placed::name).cloned().collect(),
            ids: shared.distinct(&engine.identity)?,
        };
        Ok(Self { id, planned, hostname, volumes, image_id: image.config_digest, refs, settings, driver })
    }

    /// Makes its directory, which reserves its name.
    pub(crate) fn make(&self, engine: &Engine, request: &RunRequest) -> Result<ContainerDir, Error> {
        let make = |name: &ContainerName| engine.store.create_container(&self.id, name, &self.refs);
        let directory = match &request.name {
            Some(name) => make(name)?,
            None => names::until_free(make)?,
        };
        let finished = || {
            engine.make_volumes(&self.volumes, self.refs.ids.as_ref())?;
            outside::write_cid_file(&request.settings, &self.id)
        };
        match finished() {
            Ok(()) => Ok(directory),
            Err(error) => {
                directory.remove(&|path| engine.remove_tree(path))?;
                engine.remove_anonymous(self.volumes());
                Err(error)
            }
        }
    }

    /// The root filesystem, with the overlay's own directories made: container root is who writes there.
    pub(crate) fn root(
        &self,
        engine: &Engine,
        request: &RunRequest,
        directory: &ContainerDir,
        shared: &Shared,
        output: &dyn PullOutput,
    ) -> Result<OverlayRoot, Error> {
        let layers = engine.layers_of(&self.refs)?;
        let lowers: Vec<PathBuf> = layers.iter().map(Layer::fs).collect();
        let on_directory = || Error::io("make the overlay's directories in", directory.path().display());
        let upper = make_upper(directory.path(), lowers.first().map(PathBuf::as_path)).map_err(on_directory())?;
        let work = make_work(directory.path()).map_err(on_directory())?;
        for path in [&upper, &work] {
            engine.identity.give_to_root(path).map_err(Error::io("change the owner of", path.display()))?;
        }
        let etc = shared.etc(&engine.store, &self.hostname, directory.name(), &request.settings.resolver)?;
        let files = etc.files(&self.hostname);
        let context = self.planned.spec.linux().as_ref().and_then(|linux| linux.mount_label().clone());
        let root = OverlayRoot {
            driver: self.driver,
            lowers,
            upper,
            work,
            volatile: request.rm,
            context,
            wanted: Wanted::of(&self.planned).with(self.person(request, shared), engine.identity.is_single()),
            files,
        };
        if self.driver == StorageDriver::Copy {
            let sizes = layers.iter().map(|layer| Ok(layer.record()?.size));
            let bytes = sizes.sum::<Result<u64, Error>>()?;
            engine.copy_image(&root.lowers, bytes, &root.copy(), output)?;
        }
        Ok(root)
    }

    /// Who keeps his ids, for an image that does not know him.
    fn person(&self, request: &RunRequest, shared: &Shared) -> Option<Person> {
        let (uid, gid) = shared.kept(request)?;
        let name = rbox_rootless::user_of(rbox_sys::ids::uid());
        let fits = |name: &String| !name.contains(|c: char| c == ':' || c.is_control());
        let name = name.filter(fits).unwrap_or_else(|| "user".into());
        let process = self.planned.spec.process().as_ref();
        let home = process.map_or_else(|| "/".into(), |process| process.cwd().display().to_string());
        Some(Person { name, uid, gid, home, read_only: request.read_only })
    }

    /// The volumes that it has.
    pub(crate) fn volumes(&self) -> &[VolumeName] {
        &self.refs.volumes
    }

    /// What is to be written down of what was asked for.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Something that happened to it.
    pub(crate) fn happened(&self, action: &str, request: &RunRequest, directory: &ContainerDir) -> Event {
        events::of_container(action, &self.id, directory.name(), Some((&request.image, &self.settings.labels)))
    }

    /// What is to be written down of it.
    pub(crate) fn record(&self, request: &RunRequest) -> Made {
        let process = self.planned.spec.process().clone().unwrap_or_default();
        Made {
            created: Timestamp::now(),
            pid: 0,
            started: None,
            joining: None,
            monitor: None,
            home: None,
            restarts: 0,
            restart: request.restart,
            log: None,
            settings: self.settings.clone(),
            image: request.image.clone(),
            image_id: self.image_id,
            args: process.args().clone().unwrap_or_default(),
            entrypoint: self.planned.entrypoint,
            env: process.env().clone().unwrap_or_default(),
            cwd: process.cwd().display().to_string(),
            user: self.planned.user.clone(),
            hostname: self.hostname.clone(),
            tty: request.tty,
            interactive: request.interactive,
            read_only: request.read_only,
            rm: request.rm,
            init: request.init,
            binds: self.volumes.iter().filter_map(|placed| placed.record().err()).collect(),
            volumes: self.volumes.iter().filter_map(|placed| placed.record().ok()).collect(),
            security: request.security.words(),
        }
    }
}
