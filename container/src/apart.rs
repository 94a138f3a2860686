//! `--userns=auto`: ids that a container has to itself.
//!
//! Whose they are is told by nothing but the [references](ContainerRefs) of the containers that are there. Whoever chooses some
//! holds a lock from the look at those of the others to the moment when his container is there too: so no two have the same,
//! and they are free again with the container, however it and its makers have ended.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::path::Path;

use rbox_image::Image;
use rbox_rootless::TooFew;
use rbox_store::{ContainerEntry, ContainerRefs, IdsLock, Layer};
use rbox_sys::in_root;
use rbox_types::ContainerName;

use crate::request::RunRequest;
use crate::settings::{Auto, Userns};
use crate::{Engine, Error, user};

/// As many as Podman gives at least.
const LEAST: u32 = 1024;

/// There are not enough, and who has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoIdsLeft {
    too_few: TooFew,
    /// How many each has, those with the most first.
    holders: Vec<(ContainerName, u64)>,
}

/// More are not named.
const NAMED: usize = 5;

impl NoIdsLeft {
    pub(crate) fn hint(&self) -> String {
        if self.too_few.all == 0 {
            return "it needs ranges in /etc/subuid and /etc/subgid, as root: usermod --add-subuids 100000-165535 \
                    --add-subgids 100000-165535 USER (choose numbers that nobody else has)"
                .into();
        }
        let remove = self.holders.first().map(|(name, _)| format!("remove containers (rbox rm {name}), or "));
        format!(
            "{}say that fewer will do (--userns=auto:size=N), or get more, as root: usermod --add-subuids FIRST-LAST \
             --add-subgids FIRST-LAST USER, which adds lines USER:FIRST:COUNT to /etc/subuid and /etc/subgid (choose \
             numbers that nobody else has)",
            remove.unwrap_or_default()
        )
    }
}

impl std::error::Error for NoIdsLeft {}

impl std::fmt::Display for NoIdsLeft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.too_few.all == 0 {
            let TooFew { wanted, what, .. } = self.too_few;
            return write!(
                f,
                "the container needs {wanted} {what} ids of its own, and there is only one, which is yours"
            );
        }
        let mut text = self.too_few.to_string();
        for (at, (name, count)) in self.holders.iter().take(NAMED).enumerate() {
            let _ = write!(text, "{} {name} has {count}", if at == 0 { ";" } else { "," });
        }
        match self.holders.len().checked_sub(NAMED) {
            None | Some(0) => {}
            Some(more) => {
                let rest: u64 = self.holders[NAMED..].iter().map(|(_, count)| count).sum();
                let _ = write!(text, ", and {more} more containers have {rest}");
            }
        }
        f.write_str(&text)
    }
}

impl Engine {
    /// Whether ids are to be chosen; refused where there are none, before an image is pulled for that.
    pub(crate) fn is_to_choose_ids(&self, userns: &Userns) -> Result<bool, Error> {
        let Userns::Auto(Auto { size, .. }) = userns else { return Ok(false) };
        if self.identity.is_single() {
            let wanted = size.map_or(LEAST, NonZeroU32::get).into();
            let too_few = TooFew { what: "user", wanted, free: 0, all: 0 };
            return Err(NoIdsLeft { too_few, holders: Vec::new() }.into());
        }
        Ok(true)
    }

    /// Chooses the ids of a container of `image`, where that is left to us. Nobody else chooses any until what this gives is
    /// dropped, which is when the container is there.
    pub(crate) fn choose_ids(
        &self,
        userns: &mut Userns,
        request: &RunRequest,
        image: &Image,
    ) -> Result<Option<IdsLock>, Error> {
        let Userns::Auto(Auto { size, uid, gid }) = userns else { return Ok(None) };
        let count = match size {
            Some(size) => size.get(),
            None => self.needed(request, image)?,
        };
        let lock = self.store.ids_lock()?;
        let mut others = self.store.containers()?;
        // That one goes before this one comes.
        others.retain(|other| !request.replace || request.name.as_ref() != Some(&other.name));
        let taken: Vec<_> = others.iter().filter_map(|other| other.refs.ids.as_ref()).collect();
        let chosen = self.identity.apart(count, (uid, gid), &taken);
        let (uid, gid) = chosen.map_err(|too_few| no_ids_left(too_few, &others))?;
        *userns = Userns::Mapped { uid, gid };
        Ok(Some(lock))
    }

    /// How many ids there should be for what an image knows and has, and for who is to run it.
    fn needed(&self, request: &RunRequest, image: &Image) -> Result<u32, Error> {
        let key = self.identity.maps.key();
        let layers = self.layers(&key, image.layers.iter().map(|layer| layer.chain_id))?;
        let mut count = LEAST;
        for layer in &layers {
            count = count.max(layer.record()?.ids);
        }
        let config = image.config.config().as_ref();
        let user = request.user.clone().or_else(|| config?.user().clone()).unwrap_or_default();
        let said = user.split(':').chain(request.settings.groups.iter().map(String::as_str));
        let known = said.filter_map(|id| id.parse().ok()).chain(
            [("/etc/passwd", &[2, 3][..]), ("/etc/group", &[2])]
                .into_iter()
                .flat_map(|(path, fields)| user::ids_in(&topmost(&layers, Path::new(path)), fields)),
        );
        Ok(count.max(known.map(|id: u32| id.saturating_add(1)).max().unwrap_or(0)))
    }
}

/// The text of a file in the topmost layer that has it. Whether it is hidden there is not looked at: then there are more ids
/// than are needed.
fn topmost(layers: &[Layer], path: &Path) -> String {
    let open = |layer: &Layer| in_root::open_file(File::open(layer.fs()).ok()?.as_fd(), path).ok();
    let mut text = Vec::new();
    if let Some(file) = layers.iter().find_map(open) {
        // One that cannot be read, or is longer than any, tells what it tells.
        let _ = file.take(user::LARGEST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn no_ids_left(too_few: TooFew, others: &[ContainerEntry]) -> NoIdsLeft {
    let count = |ContainerRefs { ids, .. }: &ContainerRefs| {
        let ids = ids.as_ref()?;
        Some(if too_few.what == "user" { ids.uid.count() } else { ids.gid.count() })
    };
    let mut holders: Vec<_> =
        others.iter().filter_map(|other| Some((other.name.clone(), count(&other.refs)?))).collect();
    holders.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    NoIdsLeft { too_few, holders }
}
