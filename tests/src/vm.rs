//! A virtual machine with Debian's kernel, for what depends on the kernel that runs: qemu, without a hypervisor, so
//! that it starts wherever the tests do, within a few seconds.
//!
//! All files come in the initial RAM disk. From there they are copied to an empty disk, which becomes the root: on the
//! RAM disk no pivot_root(2) works, and tmpfs has user xattrs, which an overlay needs, only since Linux 6.6. A script
//! then runs as root and says on the serial console how each command that it tried went; at its end the machine is off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{exists, read};
use crate::cpio::Archive;
use crate::running::Running;
use crate::{alpine, elf, host, packages};

/// The packages that tests' machines are made of, which are unpacked once.
const PACKAGES: [&str; 4] = ["apparmor", "busybox-static", "libsepol2", "secilc"];

/// What runs the machines.
const EMULATOR: &str = "qemu-system-x86_64";

/// The package that has it.
const EMULATOR_PACKAGE: &str = "qemu-system-x86";

/// The package that stands for the newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";

/// The small image, as it is offered in the machine.
pub const IMAGE: &str = "127.0.0.1:5000/small:1.manifest";

/// For disk, overlay and network namespaces with a TAP.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "overlay", "fuse", "tun"];

/// How long a machine may run before it counts as hung. Where all is well it is off within a minute.
const LIMIT: Duration = Duration::from_secs(600);

const DISK_SIZE: u64 = 512 << 20;

/// A machine that has not been started yet.
pub struct Machine {
    archive: Archive,
    /// Of the kernel's command line.
    options: Vec<String>,
}

/// How a command of the script went.
#[derive(Debug)]
pub struct Tried {
    /// The exit status.
    pub status: i32,
    /// What it wrote to stdout and stderr, without the last line feed.
    pub output: String,
}

/// What a machine has said.
#[derive(Debug)]
pub struct Console {
    text: String,
    tried: BTreeMap<String, Tried>,
}

impl Machine {
    /// One with busybox, rbox, [`IMAGE`] and, besides root, an ordinary user called `user`. Both have subordinate ids.
    pub fn new() -> Result<Self> {
        let mut machine = Self { archive: Archive::default(), options: Vec::new() };
        machine.boot_files()?;
        machine.base_files()?;
        machine.registry()?;
        Ok(machine)
    }

    /// Adds to the kernel's command line.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    /// A file of root's.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.archive.file(on_disk(path), mode, bytes);
        self
    }

    /// A program of this host's or of an unpacked package, with the libraries that it has here, in `/bin`.
    pub fn program(mut self, path: &Path) -> Result<Self> {
        self.put_program(path, 0o755)?;
        Ok(self)
    }

    /// Starts it, and waits until it is off. The script is for busybox's shell, run by root; `try NAME COMMAND…` in it
    /// is found in what is given back.
    pub fn run(mut self, script: &str) -> Result<Console> {
        self.archive.file(on_disk("/sbin/script"), 0o755, format!("{PRELUDE}{script}\n"));
        let scratch = tempfile::Builder::new().prefix("vm.").tempdir_in(host::scratch_base())?;
        let (initrd, disk) = (scratch.path().join("initrd"), scratch.path().join("disk"));
        fs::write(&initrd, self.archive.finish())?;
        fs::File::create(&disk)?.set_len(DISK_SIZE)?;
        read(Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4", "-O", "^has_journal"]).arg(&disk))?;

        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL"]);
        add_emulator(&mut qemu)?;
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max"]);
        qemu.args(["-smp", "2", "-m", "1024", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache.no-flush=on", disk.display()));
        qemu.arg("-kernel").arg(kernel()?).arg("-initrd").arg(&initrd);
        // A kernel that gives up restarts at once, which ends qemu.
        qemu.arg("-append").arg(format!("console=ttyS0 loglevel=1 panic=-1 {}", self.options.join(" ")));
        Console::parse(Running::start(&mut qemu)?.expect_within(LIMIT, END))
    }

    /// What the kernel starts with: the way to the disk.
    fn boot_files(&mut self) -> Result<()> {
        let busybox = packages::program("busybox-static", "busybox")?;
        let busybox = fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
        self.archive.file("/bin/busybox", 0o755, busybox.clone());
        self.archive.file(on_disk("/bin/busybox"), 0o755, busybox);
        let mut modules = Vec::new();
        let files = kernel_modules()?;
        for module in MODULES {
            add_module(module, &files, &mut modules)?;
        }
        let mut init = String::from(INIT);
        for (name, bytes) in modules {
            self.archive.file(format!("/modules/{name}"), 0o644, bytes);
            init += &format!("insmod /modules/{name}\n");
        }
        for dir in ["/dev", "/root"] {
            self.archive.dir(dir);
        }
        self.archive.file("/init", 0o755, init + TO_DISK);
        Ok(())
    }

    fn base_files(&mut self) -> Result<()> {
        for dir in ["/dev", "/proc", "/sys", "/tmp", "/run", "/root"] {
            self.archive.dir(on_disk(dir));
        }
        let mut file = |path: &str, bytes: &str| self.archive.file(on_disk(path), 0o644, bytes);
        file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n");
        file("/etc/group", "root:x:0:\nuser:x:1000:\n");
        for ids in ["/etc/subuid", "/etc/subgid"] {
            file(ids, "root:100000:65536\nuser:200000:65536\n");
        }
        self.archive.file(on_disk("/bin/rbox"), 0o755, fs::read(host::rbox_binary())?);
        for map in ["newuidmap", "newgidmap"] {
            self.put_program(&Path::new("/usr/bin").join(map), 0o4755)?;
        }
        Ok(())
    }

    /// The small image as files that busybox's HTTP server offers as a registry would.
    fn registry(&mut self) -> Result<()> {
        let layout = alpine::small()?;
        let image = layout.find("latest")?;
        let manifest: Value = serde_json::from_slice(&layout.read(&image.digest)?)?;
        let digest_of = |blob: &Value| blob["digest"].as_str().context("a descriptor has a digest").map(str::to_owned);
        let (config, layer) = (digest_of(&manifest["config"])?, digest_of(&manifest["layers"][0])?);
        for (path, digest) in [
            ("registry/v2/small/manifests/1.manifest", &image.digest),
            (&format!("registry/v2/small/manifests/{}", image.digest), &image.digest),
            (&format!("registry/v2/small/blobs/{config}"), &config),
            (&format!("registry/v2/small/blobs/{layer}"), &layer),
            // For root filesystems of bundles.
            ("layer.tar.gz", &layer),
        ] {
            self.archive.file(on_disk(&format!("/srv/{path}")), 0o644, layout.read(digest)?);
        }
        self.archive.file(on_disk("/etc/httpd.conf"), 0o644, format!(".manifest:{}\n", image.media_type));
        Ok(())
    }

    fn put_program(&mut self, path: &Path, mode: u32) -> Result<()> {
        let name = path.file_name().context("a program has a name")?.to_string_lossy();
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.archive.file(on_disk(&format!("/bin/{name}")), mode, bytes);
        for library in elf::libraries(&Command::new(path))? {
            self.archive.file(on_disk(&library.to_string_lossy()), 0o755, fs::read(&library)?);
        }
        Ok(())
    }
}

impl Console {
    /// How the command went that was tried by this name.
    #[track_caller]
    pub fn tried(&self, name: &str) -> &Tried {
        self.tried.get(name).unwrap_or_else(|| panic!("nothing was tried by the name {name:?}:\n{}", self.text))
    }

    /// What that command wrote, which must have succeeded.
    #[track_caller]
    pub fn says(&self, name: &str) -> &str {
        let tried = self.tried(name);
        assert_eq!(tried.status, 0, "{name}: {}", tried.output);
        &tried.output
    }

    /// All of it, for messages.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `@@ NAME STATUS`, then the output with "@ " before each line; the kernel may say something in between.
    pub(crate) fn parse(text: String) -> Result<Self> {
        let mut tried: BTreeMap<String, Tried> = BTreeMap::new();
        let mut current = None;
        for line in text.lines() {
            if let Some(words) = line.strip_prefix("@@ ") {
                let (name, status) = words.split_once(' ').with_context(|| format!("unexpected line {line:?}"))?;
                let new = Tried { status: status.trim().parse()?, output: String::new() };
                ensure!(tried.insert(name.into(), new).is_none(), "{name} was tried twice");
                current = tried.get_mut(name);
            } else if let (Some(line), Some(current)) = (line.strip_prefix("@ "), &mut current) {
                let separator = if current.output.is_empty() { "" } else { "\n" };
                current.output += separator;
                current.output += line.trim_end_matches('\r');
            }
        }
        Ok(Self { text, tried })
    }
}

/// Where a file of the machine's root is in the archive.
fn on_disk(path: &str) -> PathBuf {
    Path::new("/disk").join(path.trim_start_matches('/'))
}

/// Unpacks what machines are made of and run by.
pub fn set_up() -> Result<()> {
    PACKAGES.iter().try_for_each(|package| packages::unpacked(package).map(drop))?;
    kernel()?;
    if !exists(EMULATOR) {
        packages::unpacked_with_dependencies(EMULATOR_PACKAGE)?;
    }
    Ok(())
}

/// The emulator: that of the host, or one that is unpacked with its libraries and firmware. To install it could
/// replace the host's qemu-img, where that is of another version.
pub(crate) fn add_emulator(command: &mut Command) -> Result<()> {
    if exists(EMULATOR) {
        command.arg(EMULATOR);
        return Ok(());
    }
    let files = packages::unpacked_with_dependencies(EMULATOR_PACKAGE)?;
    command.arg(files.join("usr/bin").join(EMULATOR));
    for firmware in ["qemu", "seabios"] {
        command.arg("-L").arg(files.join("usr/share").join(firmware));
    }
    command.env("LD_LIBRARY_PATH", packages::libraries(&files)?);
    Ok(())
}

/// The kernel, whose package is unpacked for it and its modules.
fn kernel() -> Result<PathBuf> {
    let boot = packages::unpacked_behind(KERNEL)?.join("boot");
    let mut files = fs::read_dir(&boot)?.flatten().map(|entry| entry.path());
    let kernel = files.find(|path| path.to_string_lossy().contains("/vmlinuz-"));
    kernel.with_context(|| format!("no kernel in {}", boot.display()))
}

/// The files of all its modules by their names.
fn kernel_modules() -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let package = packages::unpacked_behind(KERNEL)?;
    let mut dirs: Vec<_> = ["lib/modules", "usr/lib/modules"].iter().map(|dir| package.join(dir)).collect();
    dirs.retain(|dir| dir.is_dir());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)?.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type()?.is_dir() {
                dirs.push(path);
            } else if let Some(module) = name.strip_suffix(".ko") {
                files.insert(module.replace('-', "_"), path);
            }
        }
    }
    ensure!(!files.is_empty(), "the package {KERNEL} has no modules, or has compressed them");
    Ok(files)
}

/// Adds a module after those that it depends on, which its `.modinfo` section names. One that is no module is in the
/// kernel itself.
fn add_module(name: &str, files: &BTreeMap<String, PathBuf>, to: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let Some(path) = files.get(name).filter(|_| !to.iter().any(|(there, _)| there == name)) else { return Ok(()) };
    let bytes = fs::read(path)?;
    const KEY: &[u8] = b"\0depends=";
    let at = bytes.windows(KEY.len()).position(|window| window == KEY);
    let value = &bytes[at.with_context(|| format!("{} does not say what it needs", path.display()))? + KEY.len()..];
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    for needed in String::from_utf8_lossy(value).split(',').filter(|needed| !needed.is_empty()) {
        add_module(&needed.replace('-', "_"), files, to)?;
    }
    to.push((name.into(), bytes));
    Ok(())
}

/// What the script's end looks like.
pub(crate) const END: &str = "\n@@@";

const INIT: &str = "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nmount -t devtmpfs dev /dev\n";

const TO_DISK: &str = "\
until mount -t ext4 /dev/vda /root; do sleep 0.1; done
cp -a /disk/. /root/
umount /dev
exec switch_root /root /bin/busybox sh /sbin/script
";

const PRELUDE: &str = r#"
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/root
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t securityfs security /sys/kernel/security
ln -s /proc/self/fd /dev/fd
chmod 1777 /tmp /dev/shm
chmod 666 /dev/fuse /dev/net/tun
ip link set lo up
httpd -p 127.0.0.1:5000 -h /srv/registry -c /etc/httpd.conf
mkdir -p -m 700 /home/user /run/user/1000 /run/user/0
chown user:user /home/user /run/user/1000
umask 022
end() {
    echo @@@
    poweroff -f
}
trap end EXIT
try() {
    name=$1
    shift
    # By a pipe: SELinux may forbid a container to write to a file of the machine's.
    output=$("$@" 2>&1 < /dev/null)
    status=$?
    echo "@@ $name $status"
    echo "$output" | sed 's/^/@ /'
}
# Waits for what comes soon.
until_works() {
    for _ in $(seq 300); do
        "$@" > /dev/null 2>&1 < /dev/null && return
        sleep 0.1
    done
}
# The words of a command, as an ordinary user would give them.
as_user() {
    su -c 'export XDG_RUNTIME_DIR=/run/user/1000; cd; exec "$0" "$@"' -- user "$@"
}
# Tries each of the bundles below /srv/$who with rbox and with crun, and then how $probe does that comes into the one
# which sleeps.
try_bundles() {
    mkdir /srv/$who/rootfs
    tar -C /srv/$who/rootfs -xzf /srv/layer.tar.gz
    chown -R $who /srv/$who
    for runtime in "rbox oci" crun; do
        word=${runtime#rbox }
        for bundle in "$@"; do
            try $who-$word-$bundle $as $runtime run --bundle /srv/$who/$bundle one
        done
        try $who-$word-created $as sh -c "$runtime create --bundle /srv/$who/sleeps two > /dev/null 2>&1"
        try $who-$word-started $as $runtime start two
        try $who-$word-exec $as $runtime exec two sh -c "$probe"
        try $who-$word-deleted $as $runtime delete --force two
    done
}
"#;
