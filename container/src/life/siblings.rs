//! Containers that run at the same time make their user namespaces below one [`Parent`], and spare its helpers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rbox_rootless::{Identity, Kind, Offer, Parent};

use crate::Engine;

/// When a workload has lived this long, it is worth while to do something for those that may follow.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// What a container's supervisor has of the others', and does for them.
pub(crate) struct Siblings<'a> {
    identity: &'a Identity,
    path: PathBuf,
    parent: Option<Parent>,
    offer: Option<Offer>,
}

impl<'a> Siblings<'a> {
    /// What the others offer.
    pub(crate) fn find(engine: &'a Engine) -> Self {
        let identity = &engine.identity;
        let path = engine.store.userns_path(&identity.maps.key());
        // Where no helper is needed, one system call is spared by another.
        let parent = if identity.kind == Kind::Subid { Parent::find(&path) } else { None };
        Self { identity, path, parent, offer: None }
    }

    /// Has one, whose ids are those of all files that are stored. Needs a process of one thread.
    pub(crate) fn have_parent(&mut self) -> Result<(), rbox_rootless::Error> {
        if self.parent.is_none() {
            self.parent = Some(Parent::make(self.identity)?);
        }
        Ok(())
    }

    /// Below which this container's user namespace can be made.
    pub(crate) fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// Where a namespace can be offered, if one with these ids spares anything.
    pub(crate) fn offers(&self) -> Option<&Path> {
        (self.identity.kind == Kind::Subid).then_some(&*self.path)
    }

    /// Offers the others what spares them the helpers, unless somebody does so already. Nobody is told what fails: they
    /// do without.
    pub(crate) fn invite(&mut self) {
        if self.identity.kind != Kind::Subid || self.offer.is_some() || Parent::is_offered(&self.path) {
            return;
        }
        let parent = self.parent.take().or_else(|| Parent::make(self.identity).ok());
        self.offer = parent.and_then(|parent| parent.offer(&self.path).ok().flatten());
    }
}
