//! Limits where they can be had: in a virtual machine with Debian's systemd, by an ordinary user who lingers, each measured by
//! its effect. From sessions of every kind, with all of the delegation that there can be, some of it and none; and beside
//! Podman, with the same flags.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::Result;
use rbox_tests::debian_vm::boot;
use rbox_tests::vm::Console;

static CONSOLE: LazyLock<Console> = LazyLock::new(|| boot(SCRIPT).expect("a virtual machine with systemd"));

/// Each `try` is looked at by a test below.
const SCRIPT: &str = r#"
try pull session rbox pull $IMAGE
FILES='cd /sys/fs/cgroup; grep . memory.max memory.swap.max memory.low memory.high cpu.max cpu.weight pids.max'

# What a container sees.
try inside session rbox run --rm --memory 100m --cpus 0.5 --pids-limit 50 --cpu-shares 512 $IMAGE sh -c \
    "'cat /proc/self/cgroup; $FILES; touch x; mount | grep cgroup'"

# Memory: it dies alone.
session rbox run -d --name neighbour $IMAGE sleep 1000 > /dev/null
try allocator session rbox run --name allocator --memory 100m $IMAGE dd if=/dev/zero of=/dev/null bs=200M count=1
try allocator-neighbour session rbox exec neighbour echo alive
try allocator-state session rbox inspect --format "'{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.LimitsHit.MemoryLimit}}'" allocator
try allocator-ps session rbox ps -a --filter name=allocator --format "'{{.Status}}'"
try allocator-events session rbox events --no-stream --filter event=oom
try allocator-detached session "rbox run -d --name greedy --memory 100m $IMAGE dd if=/dev/zero of=/dev/null bs=200M count=1 \
    > /dev/null; rbox wait greedy; rbox inspect --format '{{.State.OOMKilled}}' greedy"
try dd session rbox run --rm --memory 50m $IMAGE sh -c "'dd if=/dev/zero of=/file bs=1M count=300 2>/dev/null && echo written'"

# Processes.
session "rbox run -d --name bomb --pids-limit 30 $IMAGE sh -c 'b() { b | b & }; b; sleep 1000'" > /dev/null
sleep 3
try bomb-there cat $(cgroup_of bomb)/pids.current
try bomb-machine session echo alive
try bomb-refused grep max $(cgroup_of bomb)/pids.events
try bomb-removed session rbox rm -f bomb
try bomb-front session "rbox run --name few --pids-limit 5 $IMAGE sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done' \
    2> /dev/null; rbox inspect --format '{{.State.LimitsHit.PidsRefused}} {{.State.LimitsHit.PidsLimit}}' few"

# Processors.
for n in 1 2 3 4; do
    weight=100
    [ $n -gt 2 ] && weight=400
    session "rbox run -d --name busy$n --cpu-weight $weight $IMAGE sh -c 'while :; do :; done'" > /dev/null
done
used() {
    for n in 1 2 3 4; do
        echo busy$n $(sed -n 's/usage_usec //p' $(cgroup_of busy$n)/cpu.stat)
    done
}
try weights-before used
sleep 6
try weights-after used
session rbox rm -f busy1 busy2 busy3 busy4 > /dev/null
session "rbox run -d --name half --cpus 0.5 $IMAGE sh -c 'while :; do :; done'" > /dev/null
usage() {
    echo $(sed -n 's/usage_usec //p' $(cgroup_of half)/cpu.stat) $(($(date +%s%N) / 1000))
}
try half-before usage
sleep 4
try half-after usage
quota() {
    cat $(cgroup_of half)/cpu.max
}
try half-restarted session rbox restart -t 0 half
try half-restarted-quota quota
try half-updated session rbox update --cpus 0.25 --memory 64m half
try half-updated-quota quota
try half-updated-memory sh -c "cat $(cgroup_of half)/memory.max"
systemctl --user -M user@ daemon-reload
try half-reloaded-quota quota
try half-exec session rbox exec half cat /proc/self/cgroup /sys/fs/cgroup/cpu.max
try half-exec-cron cron rbox exec half sh -c "'echo \$\$ > /tmp/pid; cat /sys/fs/cgroup/cgroup.procs | grep -cx \$\$'"
try half-restarted-again session rbox restart -t 0 half
try half-restarted-again-quota quota
try half-paused session rbox pause half
try half-frozen sh -c "grep frozen $(cgroup_of half)/cgroup.events"
try half-exec-paused session rbox exec half true
try half-unpaused session rbox unpause half
try half-stats session rbox stats --no-stream --format json half
try half-top session rbox top half
try half-stopped session rbox stop -t 0 half
try half-updated-stopped session rbox update --cpus 0.1 half
try half-started session rbox start half
try half-started-quota quota
try half-removed session rbox rm -f half
try no-scope-left sh -c "ls -d /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/rbox-* | wc -l"
try not-limited session rbox update --memory 1g neighbour

# Where it is started from.
try from-cron cron rbox run --rm --memory 64m $IMAGE cat /sys/fs/cgroup/memory.max
try from-scope session systemd-run --user --quiet --scope -p Delegate=yes rbox run --rm --memory 64m $IMAGE cat /sys/fs/cgroup/memory.max
try without-linger stranger rbox run --rm --memory 64m $IMAGE true
try without-linger-best stranger rbox run --rm --memory 64m --best-effort-limits $IMAGE echo ran
try without-linger-none stranger rbox run --rm $IMAGE echo ran
try without-linger-doctor stranger rbox doctor
try asks-nobody session DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere rbox run --rm $IMAGE echo ran
try partial session rbox run --rm --cpuset-cpus 0 $IMAGE true
try partial-best session rbox run --rm --cpuset-cpus 0 --memory 64m --best-effort-limits $IMAGE cat /sys/fs/cgroup/memory.max
try partial-doctor session rbox doctor
try manager session rbox run --rm --cgroup-manager systemd --cgroup-parent a-b.slice $IMAGE cat /sys/fs/cgroup/pids.max
try manager-direct session rbox run --rm --cgroup-manager cgroupfs --memory 64m $IMAGE true
export HOME=/root
rbox pull $IMAGE > /dev/null 2>&1
try root rbox run --rm --memory 64m --cpuset-cpus 1 $IMAGE sh -c "cat /proc/self/cgroup; cd /sys/fs/cgroup; cat memory.max cpuset.cpus"

# A cgroup that is delegated.
cat > /tmp/divided <<'END'
mkdir /sys/fs/cgroup/system.slice/divided.service/own
echo 0 > /sys/fs/cgroup/system.slice/divided.service/own/cgroup.procs
run="rbox run --rm"
$run --memory 64m --cpuset-cpus 0 $IMAGE sh -c 'cd /sys/fs/cgroup; cat /proc/self/cgroup memory.max cpuset.cpus pids.max'
$run $IMAGE cat /sys/fs/cgroup/pids.max
left() { ls /sys/fs/cgroup/system.slice/divided.service | grep -c rbox-; }
left
rbox run -d --name killed --memory 64m $IMAGE sleep 1000 > /dev/null
left
kill -9 $(pgrep -x rbox-monitor -n)
sleep 1
left
rbox gc > /dev/null
left
rbox rm -f killed
END
try divided service divided -p Delegate=yes --setenv=IMAGE=$IMAGE sh /tmp/divided
cat > /tmp/held <<'END'
rbox run --rm --memory 64m $IMAGE cat /sys/fs/cgroup/memory.max
export DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere
rbox run --rm $IMAGE echo without
exec rbox run --rm --memory 64m $IMAGE true
END
try held service held -p Delegate=yes --setenv=IMAGE=$IMAGE sh /tmp/held

# Podman, with the same flags.
session podman load -q -i /tmp/small.tar > /dev/null
PODMANS=$(session podman images -q | head -n 1)
compare() {
    what=$1
    shift
    try podman-$what session podman run --rm --network none "$@" $PODMANS sh -c "'$FILES'"
    try rbox-$what session rbox run --rm "$@" $IMAGE sh -c "'$FILES'"
}
compare memory --memory 100m
compare swap --memory 100m --memory-swap 150m --memory-reservation 50m
compare no-swap-limit --memory 64m --memory-swap -1
compare cpus --cpus 0.5 --pids-limit 77
compare no-pids-limit --pids-limit -1
compare quota --cpu-period 50000 --cpu-quota 20000
compare conf --cgroup-conf memory.high=50003968

# Other walls of a host.
sysctl -q -w kernel.unprivileged_userns_clone=0
try no-namespaces session rbox run --rm $IMAGE true
sysctl -q -w kernel.unprivileged_userns_clone=1
for driver in overlay fuse copy; do
    try driver-$driver session rbox --storage-driver $driver run --rm $IMAGE sh -c "'echo text > /etc/new; cat /etc/new'"
done

# What the hint says, done as it says.
session rbox doctor | sed -n 's/^ *mend: as root: \(.*\); then log in anew.*/\1/p' > /tmp/mend
try mend sh -e /tmp/mend
systemctl restart user@1000.service
try mended session rbox run --rm --cpuset-cpus 1 --device-read-bps /dev/vda:1m --blkio-weight 300 $IMAGE sh -c \
    "'cd /sys/fs/cgroup; cat cpuset.cpus.effective io.max io.weight'"
try mended-doctor session rbox doctor
mkdir -p /etc/systemd/system/user@1001.service.d
printf '[Service]\nDelegate=\n' > /etc/systemd/system/user@1001.service.d/z.conf
systemctl daemon-reload
loginctl enable-linger other
systemctl start user@1001.service
try undelegated stranger rbox run --rm --cpus 0.5 $IMAGE true
try undelegated-none stranger rbox run --rm $IMAGE echo ran
"#;

/// What a command said that had to fail.
#[track_caller]
fn refused(name: &str, words: &[&str]) {
    let tried = CONSOLE.tried(name);
    assert_eq!(tried.status, 125, "{name}: {}", tried.output);
    for word in words {
        assert!(tried.output.contains(word), "{name}: no {word:?} in: {}", tried.output);
    }
}

#[track_caller]
fn says(name: &str, words: &[&str]) {
    let said = CONSOLE.says(name);
    for word in words {
        assert!(said.contains(word), "{name}: no {word:?} in: {said}");
    }
}

#[test]
#[ignore = "vm: systemd's"]
fn a_container_sees_its_own_cgroup_and_nothing_to_write() {
    let said = CONSOLE.tried("inside");
    let expected = "0::/\nmemory.max:104857600\nmemory.swap.max:104857600\nmemory.low:0\nmemory.high:max\n\
                    cpu.max:50000 100000\ncpu.weight:59\npids.max:50\ntouch: x: Read-only file system\n";
    assert!(said.output.starts_with(expected), "{}", said.output);
    assert!(said.output.contains("/sys/fs/cgroup type cgroup2 (ro,"), "{}", said.output);
}

#[test]
#[ignore = "vm: systemd's"]
fn who_wants_too_much_memory_dies_alone() {
    let allocator = CONSOLE.tried("allocator");
    assert_eq!(allocator.status, 137, "{}", allocator.output);
    let why = "wanted more than its memory limit of 100 MiB (it has used 100 MiB), and the kernel has killed 1 process";
    assert!(allocator.output.contains(why), "{}", allocator.output);
    assert_eq!(CONSOLE.says("allocator-neighbour"), "alive");
    assert_eq!(CONSOLE.says("allocator-state"), "true 137 104857600");
    says("allocator-ps", &["Exited (137)", "(OOMKilled)"]);
    says("allocator-events", &["container oom", "name=allocator"]);
    assert_eq!(CONSOLE.says("allocator-detached"), "137\ntrue");
    // What a file takes can be written out.
    assert_eq!(CONSOLE.says("dd"), "written");
}

#[test]
#[ignore = "vm: systemd's"]
fn a_fork_bomb_hits_its_limit_and_the_machine_answers() -> Result<()> {
    let there: u32 = CONSOLE.says("bomb-there").parse()?;
    assert!((5..=30).contains(&there), "{there} processes");
    assert_eq!(CONSOLE.says("bomb-machine"), "alive");
    assert_ne!(CONSOLE.says("bomb-refused"), "max 0");
    assert_eq!(CONSOLE.says("bomb-removed"), "bomb");
    let hit = CONSOLE.says("bomb-front");
    assert!(!hit.starts_with('0') && hit.ends_with(" 5"), "{hit}");
    Ok(())
}

/// Numbers by name.
fn numbers(text: &str) -> Result<BTreeMap<String, u64>> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, number)| Ok((name.to_owned(), number.parse()?))).collect()
}

#[test]
#[ignore = "vm: systemd's"]
fn weights_are_shares_of_what_all_want() -> Result<()> {
    let (before, after) = (numbers(CONSOLE.says("weights-before"))?, numbers(CONSOLE.says("weights-after"))?);
    let used = |names: [&str; 2]| -> u64 { names.iter().map(|name| after[*name] - before[*name]).sum() };
    let (light, heavy) = (used(["busy1", "busy2"]), used(["busy3", "busy4"]));
    // Four times as much, but for what the machine itself does meanwhile.
    assert!((25..=55).contains(&(heavy * 10 / light.max(1))), "{heavy} and {light}");
    Ok(())
}

#[test]
#[ignore = "vm: systemd's"]
fn half_a_processor_is_half_of_one() -> Result<()> {
    let at = |name| -> Result<Vec<u64>> { CONSOLE.says(name).split(' ').map(|number| Ok(number.parse()?)).collect() };
    let (before, after) = (at("half-before")?, at("half-after")?);
    let percent = (after[0] - before[0]) * 100 / (after[1] - before[1]);
    assert!((40..=55).contains(&percent), "{percent} % of a processor");
    Ok(())
}

#[test]
#[ignore = "vm: systemd's"]
fn limits_stay_and_can_be_changed() {
    assert_eq!(CONSOLE.says("half-restarted"), "half");
    assert_eq!(CONSOLE.says("half-restarted-quota"), "50000 100000");
    assert_eq!(CONSOLE.says("half-updated"), "half");
    for name in ["half-updated-quota", "half-reloaded-quota", "half-restarted-again-quota"] {
        assert_eq!(CONSOLE.says(name), "25000 100000", "{name}");
    }
    assert_eq!(CONSOLE.says("half-updated-memory"), (64 << 20).to_string());
    assert_eq!(CONSOLE.says("half-exec"), "0::/\n25000 100000");
    assert_eq!(CONSOLE.says("half-exec-cron"), "1", "it is in the container's cgroup, from wherever it came");
    assert_eq!(CONSOLE.says("half-updated-stopped"), "half");
    assert_eq!(CONSOLE.says("half-started-quota"), "10000 100000");
    assert_eq!(CONSOLE.says("no-scope-left").lines().last(), Some("0"));
    refused("not-limited", &["neighbour has no cgroup of its own", "rbox stop neighbour"]);
}

#[test]
#[ignore = "vm: systemd's"]
fn a_container_is_frozen_and_measured() {
    assert_eq!(CONSOLE.says("half-paused"), "half");
    assert_eq!(CONSOLE.says("half-frozen"), "frozen 1");
    refused("half-exec-paused", &["is paused"]);
    assert_eq!(CONSOLE.says("half-unpaused"), "half");
    says("half-stats", &["\"PIDsLimit\": 2048", "/ 67.1 MB\"", "\"PSI\": \"", "%"]);
    says("half-top", &["while :"]);
}

#[test]
#[ignore = "vm: systemd's"]
fn from_wherever_it_is_started() {
    for name in ["from-cron", "from-scope", "partial-best", "root"] {
        says(name, &["67108864"]);
    }
    assert_eq!(CONSOLE.says("root"), "0::/\n67108864\n1");
    for name in ["without-linger-none", "without-linger-best", "asks-nobody"] {
        assert_eq!(CONSOLE.says(name).lines().last(), Some("ran"), "{name}");
    }
    says("without-linger-best", &["note: cannot enforce --memory"]);
    let linger = ["cannot reach systemd", "loginctl enable-linger", "systemd-run --user"];
    refused("without-linger", &[&["cannot enforce --memory (the cgroup controller 'memory')"], &linger[..]].concat());
    says("without-linger-doctor", &linger);
    assert_eq!(CONSOLE.says("manager"), "2048");
    refused("manager-direct", &["cannot enforce --memory", "is not permitted", "systemd-run --user"]);
}

#[test]
#[ignore = "vm: systemd's"]
fn what_is_not_delegated_is_named_and_mended() {
    let mend = "as root: mkdir -p /etc/systemd/system/user@.service.d && printf";
    refused("partial", &["cannot enforce --cpuset-cpus: the cgroup controller 'cpuset' is missing", mend]);
    says("partial-best", &["note: cannot enforce --cpuset-cpus"]);
    says("partial-doctor", &["degraded  limits of memory", "but not of cpuset, io", mend]);
    CONSOLE.says("mend");
    assert_eq!(CONSOLE.says("mended"), "1\n254:0 rbps=1048576 wbps=max riops=max wiops=max\ndefault 2930");
    says("mended-doctor", &["ok        limits of memory, processors, I/O and processes: can be had from systemd"]);
    refused("undelegated", &["cannot enforce --cpus: the cgroup controller 'cpu' is missing", mend]);
    assert_eq!(CONSOLE.says("undelegated-none").lines().last(), Some("ran"));
}

#[test]
#[ignore = "vm: systemd's"]
fn a_delegated_cgroup_is_divided_without_systemd() {
    let expected = ["0::/", "67108864", "0", "2048", "2048", "0", "1", "1", "0", "killed"];
    assert_eq!(CONSOLE.tried("divided").output.lines().collect::<Vec<_>>(), expected);
    let held = CONSOLE.tried("held");
    assert_eq!(held.status, 125, "{}", held.output);
    assert!(held.output.starts_with("67108864\nwithout\n"), "{}", held.output);
    for words in ["held.service, which is delegated to you, holds your own processes", "mkdir /sys/fs/cgroup/"] {
        assert!(held.output.contains(words), "{}", held.output);
    }
}

#[test]
#[ignore = "vm: systemd's"]
// But for --cpu-shares: the crun of Debian 12 has the curve that was usual until 2025.
fn the_same_flags_give_the_same_files_as_podmans() {
    for name in ["memory", "swap", "no-swap-limit", "cpus", "no-pids-limit", "quota", "conf"] {
        assert_eq!(CONSOLE.says(&format!("rbox-{name}")), CONSOLE.says(&format!("podman-{name}")), "{name}");
    }
}

#[test]
#[ignore = "vm: systemd's"]
fn other_walls_of_a_host() {
    refused("no-namespaces", &["namespace", "hint:", "unprivileged_userns_clone"]);
    for driver in ["overlay", "fuse", "copy"] {
        assert_eq!(CONSOLE.says(&format!("driver-{driver}")), "text", "{driver}");
    }
}
