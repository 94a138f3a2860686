//! What of a container's settings is seen outside of it: its id and its first process's in files, and what its record keeps.

use std::fs;
use std::io::{ErrorKind, Write};

use rbox_image::Image;
use rbox_runtime::Failure;
use rbox_types::ContainerId;

use crate::life::health;
use crate::network;
use crate::request::RunRequest;
use crate::settings::{Egress, NetworkRate, PortMapping, Publish, Settings};
use crate::shared::Shared;
use crate::{Error, Unfit};

/// `--cidfile`. As with Docker, the file stays when the container goes.
pub(crate) fn write_cid_file(settings: &Settings, id: &ContainerId) -> Result<(), Error> {
    let Some(path) = &settings.cid_file else { return Ok(()) };
    let written = fs::File::create_new(path).and_then(|mut file| file.write_all(id.as_str().as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Unfit::CidFile(path.clone()).into(),
        _ => Error::io("write the container's id to", path.display())(error),
    })
}

/// `--pidfile`.
pub(crate) fn write_pid_file(settings: &Settings, pid: u32) -> Result<(), Failure> {
    let Some(path) = &settings.pid_file else { return Ok(()) };
    fs::write(path, pid.to_string())
        .map_err(|error| Failure::new(format!("write the process id to {}", path.display()), &error))
}

/// What a container's record has: what was asked for, and what the image says where nothing was.
pub(crate) fn recorded(request: &RunRequest, image: &Image, shared: &Shared) -> Result<Settings, Error> {
    let mut settings = request.settings.clone();
    settings.health = health::wanted(request, image.healthcheck.as_ref())?;
    settings.sharing = shared.words(&settings.sharing);
    if settings.publish_all {
        settings.ports.extend(exposed(image, &settings.ports));
    }
    if shared.network.slirp().is_none() {
        let network = shared.network.to_string();
        if !settings.ports.is_empty() {
            return Err(Unfit::NoPorts(network).into());
        }
        if settings.egress != Egress::default() {
            return Err(Unfit::NoEgress(network).into());
        }
        if settings.network_rate != NetworkRate::default() {
            return Err(Unfit::NoRate(network).into());
        }
    }
    settings.ports = network::settle_ports(&settings.ports).map_err(Error::Publish)?;
    if let Some(path) = &mut settings.pid_file {
        // Its monitor is in another directory.
        *path = std::path::absolute(&*path).map_err(Error::io("find the place of", path.display()))?;
    }
    let config = image.config.config();
    for (name, value) in config.iter().filter_map(|config| config.labels().as_ref()).flatten() {
        settings.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if settings.stop.signal.is_none() {
        let of_image = config.as_ref().and_then(|config| config.stop_signal().as_ref());
        // One that is none is as if the image had said nothing.
        settings.stop.signal = of_image.and_then(|signal| signal.parse().ok());
    }
    Ok(settings)
}

/// The ports that an image names, less those that are published already. What is no port is left out, as by Docker.
fn exposed(image: &Image, published: &[PortMapping]) -> Vec<PortMapping> {
    let config = image.config.config();
    let words = config.iter().filter_map(|config| config.exposed_ports().as_ref()).flatten();
    let mappings = words.filter_map(|word| word.parse::<Publish>().ok()).flat_map(|Publish(mappings)| mappings);
    let is_new = |mapping: &PortMapping| !published.iter().any(|other| other.to_string() == mapping.to_string());
    mappings.filter(is_new).collect()
}
