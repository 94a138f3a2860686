//! A virtual machine with all of a small Debian, for what depends on systemd: its users' managers, sessions, delegation.
//!
//! The disk is made once for each recipe: by mmdebstrap(1), and mkfs.ext4(8) from a directory, as root or as root of a user
//! namespace. A machine writes to a throw-away layer above it. What a test brings is on a second disk, and its script is run
//! by a service when the machine is up; what that tries is told on the serial line as in [`vm`](crate::vm), at whose end the
//! machine is off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{read, run};
use crate::running::Running;
use crate::vm::{Console, END, add_emulator};
use crate::{alpine, fixture, hash, host, packages};

/// What is installed, besides what Debian cannot do without.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,uidmap,podman,crun,cron,iproute2,procps,\
                        apparmor,linux-image-cloud-amd64";

/// From an archive of files to a disk, in a directory of its own. The service is told by a file that the second disk has what
/// it is to do.
const RECIPE: &str = r#"
set -e
mkdir root
tar -C root --numeric-owner --exclude='./dev/*' -xf root.tar
chroot root useradd --create-home --shell /bin/bash --uid 1000 user
chroot root useradd --create-home --shell /bin/bash --uid 1001 other
echo vm > root/etc/hostname
echo '127.0.0.1 localhost vm' > root/etc/hosts
mkdir -p root/var/lib/systemd/linger
touch root/var/lib/systemd/linger/user
mv root/boot/vmlinuz-* kernel
mv root/boot/initrd.img-* initrd
rm -rf root/usr/share/doc root/usr/share/man root/usr/share/locale root/var/lib/apt/lists root/var/cache/apt
cat > root/etc/systemd/system/script.service <<'UNIT'
[Unit]
After=systemd-logind.service user@1000.service network.target
Wants=user@1000.service
[Service]
Type=oneshot
Environment=HOME=/root
ExecStart=/bin/sh -c 'mkdir -p /mnt/b && mount -o ro /dev/vdb /mnt/b && exec sh /mnt/b/script'
ExecStopPost=/bin/sh -c 'echo @@@; exec systemctl poweroff --force --force'
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p root/etc/systemd/system/multi-user.target.wants
ln -s ../script.service root/etc/systemd/system/multi-user.target.wants/
for unit in serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer; do
    ln -sf /dev/null root/etc/systemd/system/$unit
done
mke2fs -q -t ext4 -O ^has_journal -d root disk 3G
rm -rf root root.tar
chmod 644 kernel initrd disk
"#;

/// How long a machine may run before it counts as hung. Where nothing else is done it is off within five minutes.
const LIMIT: Duration = Duration::from_secs(1500);

/// The directory with disk, kernel and initial RAM disk.
fn image() -> Result<PathBuf> {
    let digest = hash::digest(format!("{PACKAGES}{RECIPE}").as_bytes());
    let name = &digest["sha256:".len()..][..12];
    fixture::made_once(&format!("vm-debian-{name}"), |dir| {
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=minbase"]).arg(format!("--include={PACKAGES}"));
        run(mmdebstrap.arg("bookworm").arg(dir.join("root.tar")))?;
        let mut make = match host::uid() {
            0 => Command::new("sh"),
            _ => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--user", "--map-root-user", "--map-auto", "sh"]);
                unshare
            }
        };
        let path = std::env::var("PATH").unwrap_or_default();
        run(make.args(["-c", RECIPE]).current_dir(dir).env("PATH", format!("{path}:/usr/sbin:/sbin")))
    })
}

/// Makes the disk, and unpacks what machines are run by.
pub fn set_up() -> Result<()> {
    image()?;
    crate::vm::set_up()
}

/// Runs a script in a new machine, with rbox, the small image and busybox on its second disk.
pub fn boot(script: &str) -> Result<Console> {
    let image = image()?;
    let scratch = tempfile::Builder::new().prefix("vm.").tempdir_in(host::scratch_base())?;
    let (files, disk) = (scratch.path().join("files"), scratch.path().join("disk"));
    fs::create_dir(&files)?;
    fs::copy(host::rbox_binary(), files.join("rbox"))?;
    fs::copy(packages::program("busybox-static", "busybox")?, files.join("busybox"))?;
    registry(&files)?;
    fs::write(files.join("script"), format!("{PRELUDE}{script}\n"))?;
    read(
        Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
            .args([&files, &disk])
            .arg("512M"),
    )?;

    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL"]);
    add_emulator(&mut qemu)?;
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072"]);
    qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    // What is written to the layer goes there.
    qemu.env("TMPDIR", scratch.path());
    for (file, how) in [(image.join("disk"), "snapshot=on,cache.no-flush=on"), (disk, "snapshot=on,cache.no-flush=on")]
    {
        qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,{how}", file.display()));
    }
    qemu.arg("-kernel").arg(image.join("kernel")).arg("-initrd").arg(image.join("initrd"));
    qemu.arg("-append").arg("root=/dev/vda rw console=ttyS0 quiet loglevel=1 panic=-1 systemd.show_status=no");
    Console::parse(Running::start(&mut qemu)?.expect_within(LIMIT, END))
}

/// The small image as a registry that busybox serves, and as an archive for Podman.
fn registry(files: &Path) -> Result<()> {
    let layout = alpine::small()?;
    let image = layout.find("latest")?;
    let manifest: Value = serde_json::from_slice(&layout.read(&image.digest)?)?;
    let digest_of = |blob: &Value| blob["digest"].as_str().context("a descriptor has a digest").map(str::to_owned);
    let base = files.join("registry/v2/small");
    for dir in ["manifests", "blobs"] {
        fs::create_dir_all(base.join(dir))?;
    }
    for name in ["1.manifest", &image.digest] {
        fs::write(base.join("manifests").join(name), layout.read(&image.digest)?)?;
    }
    for digest in [digest_of(&manifest["config"])?, digest_of(&manifest["layers"][0])?] {
        fs::write(base.join("blobs").join(&digest), layout.read(&digest)?)?;
    }
    fs::write(files.join("httpd.conf"), format!(".manifest:{}\n", image.media_type))?;
    run(Command::new("tar").arg("-C").arg(layout.dir()).arg("-cf").arg(files.join("small.tar")).arg("."))
}

const PRELUDE: &str = r#"
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cp /mnt/b/rbox /usr/local/bin/rbox
cp /mnt/b/small.tar /tmp/small.tar
chmod 755 /usr/local/bin/rbox
chmod 644 /tmp/small.tar
ip link set lo up
/mnt/b/busybox httpd -p 127.0.0.1:5000 -h /mnt/b/registry -c /mnt/b/httpd.conf
modprobe tun
modprobe fuse
chmod 666 /dev/fuse /dev/net/tun
IMAGE=127.0.0.1:5000/small:1.manifest
try() {
    name=$1
    shift
    output=$("$@" 2>&1 < /dev/null)
    status=$?
    echo "@@ $name $status"
    # Not by echo, which would take a backslash for more than that.
    printf '%s\n' "$output" | sed 's/^/@ /'
}
# A line for a shell, as the user in a session of his own (pam_systemd(8)), as by ssh.
session() {
    su - user -c "$*"
}
# The same as cron has it: of no session, and with nothing said of one.
cron() {
    setpriv --reuid=user --regid=user --init-groups env -i HOME=/home/user PATH="$PATH" sh -c "$*"
}
# Another user, who has neither session nor lingers.
stranger() {
    setpriv --reuid=other --regid=other --init-groups env -i HOME=/home/other PATH="$PATH" sh -c "$*"
}
# The directory of the cgroup of one of the user's containers.
cgroup_of() {
    echo /sys/fs/cgroup$(session rbox inspect --format "'{{.State.CgroupPath}}'" $1)
}
# A line for a shell, by a service of these properties.
service() {
    unit=$1
    shift
    systemd-run --quiet --wait --pipe --unit=$unit --uid=user --setenv=HOME=/home/user --setenv=PATH="$PATH" "$@"
}
"#;
