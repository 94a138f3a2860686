//! The volumes that an image asks for: each is a new one, unless the user mounts something in its place.

use std::path::{Path, PathBuf};

use oci_spec::image::Config;

use super::{Tmpfs, Volume, check_destination};
use crate::Unfit;

impl Volume {
    /// Those of the flags, and those of the image that nothing else is mounted in the place of. Two things in one place
    /// are refused, as by Docker and Podman: one of them would never be seen.
    pub(crate) fn all(config: Option<&Config>, asked: &[Self], tmpfs: &[Tmpfs]) -> Result<Vec<Self>, Unfit> {
        let mut all = asked.to_vec();
        let mut taken: Vec<&Path> = Vec::new();
        for path in asked.iter().map(|volume| &volume.destination).chain(tmpfs.iter().map(|tmpfs| &tmpfs.destination)) {
            // Paths compare by their components, whatever the slashes.
            if taken.contains(&path.as_path()) {
                return Err(Unfit::SamePlace(path.clone()));
            }
            taken.push(path);
        }
        let mut of_image: Vec<PathBuf> = Vec::new();
        for path in config.iter().filter_map(|config| config.volumes().as_ref()).flatten() {
            // Podman's rule for one that is not absolute.
            let path = Path::new("/").join(path);
            check_destination(&path.to_string_lossy()).map_err(|_| Unfit::ImageVolume(path.clone()))?;
            if !taken.contains(&path.as_path()) && !of_image.contains(&path) {
                of_image.push(path);
            }
        }
        of_image.sort();
        all.extend(of_image.into_iter().map(|destination| Self { destination, ..Self::default() }));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::VolumeSource;

    #[test]
    fn what_is_mounted_otherwise_needs_no_volume() {
        let mut config = Config::default();
        config.set_volumes(Some(["/b", "/a/", "c", "/d", "/e/"].map(str::to_owned).to_vec()));
        let asked: Vec<Volume> = vec!["/host:/a".parse().expect("valid"), "named:/d/".parse().expect("valid")];
        let tmpfs: Vec<Tmpfs> = vec!["/e".parse().expect("valid")];
        let all = Volume::all(Some(&config), &asked, &tmpfs).expect("fit");
        assert_eq!(all[..2], asked);
        let of_image: Vec<_> = all[2..].iter().map(|volume| (&volume.source, volume.destination.as_path())).collect();
        assert_eq!(
            of_image,
            [(&VolumeSource::Anonymous, Path::new("/b")), (&VolumeSource::Anonymous, Path::new("/c"))]
        );
        assert_eq!(Volume::all(None, &asked, &tmpfs), Ok(asked));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let twice = |asked: &[&str], tmpfs: &[&str]| {
            let asked: Vec<Volume> = asked.iter().map(|text| text.parse().expect("valid")).collect();
            let tmpfs: Vec<Tmpfs> = tmpfs.iter().map(|text| text.parse().expect("valid")).collect();
            Volume::all(None, &asked, &tmpfs)
        };
        assert_eq!(twice(&["/a:/x", "b:/x/"], &[]), Err(Unfit::SamePlace("/x/".into())));
        assert_eq!(twice(&["/x"], &["/x"]), Err(Unfit::SamePlace("/x".into())));
        for root in ["/", "", "//"] {
            let mut config = Config::default();
            config.set_volumes(Some(vec![root.to_owned()]));
            assert!(matches!(Volume::all(Some(&config), &[], &[]), Err(Unfit::ImageVolume(_))), "{root:?}");
        }
    }
}
