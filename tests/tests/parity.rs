//! The life of containers by rbox and by Podman: the same lines, and what a user sees of both.

use anyhow::Result;
use rbox_tests::parity::{Pair, same, status, stdout, streams};

const UP: &str = "Podman 4 says `Up … ago`; later ones and Docker say it without `ago`";
const QUOTED: &str = "Docker's way: the command is quoted, and its end is a single `…`";
const NEWEST: &str = "Docker's way: the newest comes first";
const EACH: &str = "Docker's way: each by itself, and all that can be done is";
const MISSING: &str = "Podman removes none where one is missing, and is silent of it";
const PRUNED: &str = "Docker's words, with what is free now";
const EVENTS: &str = "Docker's events: other words, and none for what Podman does by itself";
const ENVIRONMENT: &str = "container=rbox; and TERM is of terminals, as with Docker";
const UNTOLD: &str = "as with Docker, the status is that of what never began";

#[test]
#[ignore = "long: needs podman"]
fn how_a_run_ends() -> Result<()> {
    Pair::new()?.run(&[
        streams("run --rm IMAGE sh -c 'echo out; echo err >&2; exit 3'"),
        same("run --rm IMAGE true"),
        same("run --rm IMAGE false"),
        same("run --rm IMAGE sh -c 'exit 125'"),
        same("run --rm IMAGE sh -c 'kill -KILL $$'"),
        same("run --rm IMAGE sh -c 'kill -USR1 $$'"),
        same("run --rm IMAGE sh -c 'sleep 0.1 & kill -TERM $!; wait $!'"),
        same("run --rm IMAGE /no/such/program"),
        same("run --rm IMAGE no-such-program"),
        same("run --rm IMAGE /etc"),
        same("run --rm IMAGE /etc/passwd"),
        same("run --rm --workdir /no/such/dir IMAGE pwd").differs("Docker's way: it is made"),
        same("run --rm --user nobody-knows IMAGE true").differs(UNTOLD),
        same("run --rm --user 5:6 IMAGE id -u"),
        same("run --rm --no-such-flag IMAGE true"),
        same("run --rm"),
        same("run --rm -v /no/such/source:/data IMAGE true"),
        same("run --rm --pull=never localhost/nobody/has:this true"),
        same("run --rm --name 'a b' IMAGE true"),
        same("run --rm --entrypoint /bin/echo IMAGE a b"),
        same("run --rm --entrypoint '[\"/bin/echo\",\"c\"]' IMAGE a b"),
        same("run --rm --entrypoint '' IMAGE echo x"),
        same("run --name kept IMAGE sh -c 'exit 9'"),
        same("run --name kept IMAGE true"),
        same("run --replace --name kept IMAGE echo replaced").differs("Podman prints the name of the one removed"),
        same("run --replace IMAGE true"),
        same("rm kept"),
        same("ps -aq"),
        same("run --rm --init IMAGE sh -c 'exit 5'"),
        same("run -d --rm --name gone IMAGE true"),
        same("no-such-verb"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn ids_of_its_own() -> Result<()> {
    const MODE: &str = "Podman 4 is silent of it; of --uidmap it says the same";
    Pair::new()?.run(&[
        same("create --userns=auto --name one IMAGE true"),
        same("create --userns=auto:size=2000 --name two IMAGE true"),
        same("create --userns=auto:size=20,uidmapping=5:0:1,gidmapping=7:9:2 --name three IMAGE true"),
        same("create --uidmap=0:9001:10 --name four IMAGE true"),
        same("create --userns=auto:size=65536 --name five IMAGE true"),
        same("create --userns=auto:size=x IMAGE true"),
        same("create --userns=auto:nothing=1 IMAGE true"),
        same("create --userns=auto --uidmap=0:1:10 IMAGE true"),
        same("inspect -f '{{json .HostConfig.IDMappings}}' one"),
        same("inspect -f '{{json .HostConfig.IDMappings}}' two"),
        same("inspect -f '{{json .HostConfig.IDMappings}}' three"),
        same("inspect -f '{{json .HostConfig.IDMappings}}' four"),
        same("inspect -f '{{.HostConfig.UsernsMode}}' four"),
        same("inspect -f '{{.HostConfig.UsernsMode}}' one").differs(MODE),
        same("rm two"),
        same("create --userns=auto:size=1500 --name six IMAGE true"),
        same("inspect -f '{{json .HostConfig.IDMappings}}' six"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn from_create_to_rm() -> Result<()> {
    let pair = Pair::new()?;
    pair.run(&[
        same("create --name one IMAGE sleep 600"),
        same("ps -a --format '{{.Names}} {{.Status}}'"),
        same("inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}' one"),
        same("stop one"),
        same("kill one"),
        same("pause one"),
        same("unpause one"),
        same("restart --time 0 one"),
        same("start one").differs("Podman 4 is silent of one that runs; Docker names it"),
        same("start one nobody").differs(EACH),
        same("ps --format '{{.Names}} {{.Status}}'").differs(UP),
        same("restart -t 0 one"),
        same("rename one one").differs("Docker's way: a name that is taken is refused"),
        same("rename one uno"),
        same("inspect -f '{{.Name}} {{.State.Status}}' uno"),
        same("rename nobody x"),
        same("rename uno"),
        same("rm uno"),
        same("kill --signal BOGUS uno"),
        same("kill --signal 0 uno"),
        same("kill -s KILL uno"),
        same("wait uno"),
        same("kill uno"),
        same("stop uno"),
        same("stop --time 0 uno nobody").differs(EACH),
        same("stop --ignore nobody"),
        same("stop"),
        same("start"),
        same("kill"),
        same("rm"),
        same("wait"),
        same("pause"),
        same("unpause"),
        same("restart"),
        same("attach uno"),
        same("attach nobody"),
        same("attach"),
        same("wait uno uno"),
        same("wait nobody"),
        same("wait uno nobody").differs(EACH),
        same("wait --condition=stopped uno"),
        same("wait --condition=nonsense uno"),
        same("rm nobody"),
        same("rm -f nobody"),
        same("rm --ignore nobody"),
        same("start uno"),
        same("rm -f -t 0 uno"),
        same("ps -aq"),
        same("create --name two IMAGE sh -c 'echo out; echo err >&2; exit 4'"),
        streams("start -a two"),
        streams("start --attach two"),
        same("start --all"),
        same("inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' two"),
        same("rm two two"),
        same("rm --all"),
        same("run -d --name three IMAGE sh -c 'trap \"exit 7\" TERM; touch /ready; while :; do sleep 0.05; done'"),
        same("exec three sh -c 'until test -e /ready; do sleep 0.05; done'"),
        same("stop three"),
        same("inspect -f '{{.State.ExitCode}} {{.State.Running}}' three"),
        same("run -d --name four --stop-signal USR1 IMAGE sh -c 'trap \"exit 8\" USR1; touch /ready; while :; do sleep 0.05; done'"),
        same("exec four sh -c 'until test -e /ready; do sleep 0.05; done'"),
        same("stop --all").differs("Podman names those, too, that did not run"),
        same("wait three four"),
        same("kill --all"),
        status("rm --force --all --time 0"),
        same("create IMAGE"),
        same("rm -a"),
        same("run -d --name five --restart=on-failure:2 IMAGE false"),
        same("wait five"),
        same("rm -f five"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn several_at_once() -> Result<()> {
    Pair::new()?.run(&[
        same("run -d --name a IMAGE sleep 600"),
        same("run -d --name b IMAGE sleep 600"),
        same("create --name c IMAGE true"),
        same("stop -t 0 a"),
        same("kill a"),
        same("rm a b"),
        same("rm c"),
        same("rm -f -t 0 a b").differs(MISSING),
        same("rm -f -t 0 b").differs(MISSING),
        same("ps -a --format '{{.Names}}'"),
        same("run -d --name a --cidfile cid IMAGE sleep 600"),
        same("run -d --name x --cidfile cid IMAGE sleep 600"),
        same("kill --cidfile cid"),
        same("stop --cidfile cid"),
        same("stop --cidfile no-such-file"),
        same("rm --cidfile cid"),
        same("rm --cidfile cid"),
        same("rm --force --cidfile no-such-file"),
        same("run -d --name b IMAGE sleep 600"),
        status("inspect -f '{{.State.Pid}}' b"),
        same("container exists b"),
        same("container exists nobody"),
        same("image exists IMAGE"),
        same("image exists localhost/nobody/has:this"),
        same("stop --time 0 --latest"),
        same("rm --latest"),
        same("run -d --name e --label of=group IMAGE sleep 600"),
        same("run -d --name f --label of=group IMAGE sleep 600"),
        same("stop --time 0 --filter name=e"),
        status("rm --force --time 0 -v e f"),
        same("run -d --name g --pidfile pid IMAGE sleep 600")
            .differs("Podman looks for the place from another directory, and fails"),
    ]);
    Ok(())
}

/// Podman does this by cgroups, which a user who was given none lacks.
#[test]
#[ignore = "long: needs podman"]
fn what_stands_still() -> Result<()> {
    let pair = Pair::new()?;
    let can = pair.podman_can("run -d --name z IMAGE sleep 600") && pair.podman_can("pause z");
    pair.podman_can("rm -f -t 0 z");
    if !can {
        eprintln!("skipped: Podman has no cgroup here, and cannot pause");
        return Ok(());
    }
    pair.run(&[
        same("run -d --name a IMAGE sleep 600"),
        same("run -d --name b IMAGE sleep 600"),
        same("pause a"),
        same("inspect -f '{{.State.Status}} {{.State.Paused}}' a"),
        same("ps --filter status=paused --format '{{.Names}}'"),
        same("pause a"),
        status("exec a true"),
        same("unpause a"),
        same("unpause a"),
        same("pause --all"),
        same("unpause --all"),
        same("rm --force --time 0 a b"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn lists() -> Result<()> {
    Pair::new()?.run(&[
        same("ps"),
        same("ps -q"),
        same("ps --noheading"),
        same("run --name one --label tier=web --label a IMAGE true"),
        same("run --name two --label tier=db IMAGE sh -c 'exit 3'"),
        same("run -d --name three -v /tmp:/data IMAGE sleep 600"),
        same("create --name four IMAGE echo 'a long command line' that is cut"),
        same("ps").differs(QUOTED),
        same("ps -aq --no-trunc --sort names"),
        same("ps -a").differs(QUOTED),
        same("ps -a --no-trunc").differs(QUOTED),
        same("ps -a --noheading").differs(QUOTED),
        same("ps -q"),
        same("ps -aq").differs(NEWEST),
        same("ps -aq --no-trunc").differs(NEWEST),
        same("ps --last 2 --format '{{.Names}}'").differs(NEWEST),
        same("ps -n 1 --format '{{.Names}}'"),
        same("ps --latest --format '{{.Names}}'"),
        same("ps -l -q"),
        same("ps -a --sort names --format '{{.Names}}'"),
        same("ps -a --sort status --format '{{.State}}'")
            .differs("Podman 4's State is its Status; later ones and Docker have one word"),
        same("ps -a --sort created --format '{{.Names}}'").differs(NEWEST),
        same("ps -a --sort command --format '{{.Command}}'").differs(QUOTED),
        same("ps -a --sort image --format '{{.Image}}'"),
        same("ps -a --sort nonsense"),
        same("ps -a --sort names --format '{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.Ports}}'").differs(QUOTED),
        same("ps -a --sort names --format '{{.ID}} {{.Names}} {{.Image}} {{.Ports}}'"),
        same("ps -a --no-trunc --sort names --format '{{.ID}} {{.Names}}'"),
        same("ps -a --no-trunc --sort names --format '{{.Command}}'").differs(QUOTED),
        same("ps -a --sort names --format '{{.Labels}}'"),
        same("ps -a --sort names --format '{{.Label \"tier\"}}'").differs("Docker's; Podman 4 has no such method"),
        same("ps -a --sort names --format '{{.Status}}'").differs(UP),
        same("ps -f status=exited --sort names --format '{{.Status}}'"),
        same("ps -a --sort names --format '{{.ExitCode}} {{.Exited}}'"),
        same("ps -a --sort names --format '{{.RunningFor}}'"),
        same("ps -a --sort names --format '{{.CreatedAt}}'"),
        same("ps -a --sort names --format '{{.Created}}'")
            .differs("Podman 4 prints a time here, and its manual has no such field"),
        same("ps -a --sort names --format '{{.Mounts}}'"),
        same("ps -a --sort names --format '{{.Networks}}'").differs("Podman is told to have none here"),
        same("ps -a --sort names --format '{{.ImageID}}'"),
        same("ps -a --sort names --format '{{.Size}}'").differs("Podman complains where --size was not given"),
        same("ps -a --size --sort names --format '{{.Names}}'"),
        status("ps -a --size"),
        status("ps -a --size --format '{{.Size}}'"),
        same("ps -a --sort names --format '{{.Nonsense}}'"),
        same("ps -a --sort names --format '{{.Names'"),
        same("ps -a --sort names --format 'table {{.Names}} {{.ExitCode}}'"),
        same("ps -a --sort names --format 'table {{.ID}}\\t{{.Image}}\\t{{.Command}}\\t{{.Ports}}\\t{{.Names}}'")
            .differs(QUOTED),
        same("ps -a --sort names --format 'table {{.ID}}\\t{{.Image}}\\t{{.Ports}}\\t{{.Names}}'"),
        same("ps -a --noheading --sort names --format 'table {{.Names}} {{.ExitCode}}'"),
        same("ps -a --sort names --format '{{.Names}}: {{range .Labels}}{{.}} {{end}}'"),
        same("ps -a --sort names --format '{{json .Names}}'"),
        same("ps -a --sort names --format '{{upper .Names}}'"),
        status("ps -a --sort names --format json"),
        same("ps -a -f name=t --sort names --format '{{.Names}}'"),
        same("ps -a -f name=^two$ --sort names --format '{{.Names}}'"),
        same("ps -a -f name=one -f name=two --sort names --format '{{.Names}}'"),
        same("ps -a -f label=tier --sort names --format '{{.Names}}'"),
        same("ps -a -f label=tier=web --sort names --format '{{.Names}}'"),
        same("ps -a -f label=tier -f label=a --sort names --format '{{.Names}}'"),
        same("ps -a -f status=exited --sort names --format '{{.Names}}'"),
        same("ps -f status=exited --sort names --format '{{.Names}}'"),
        same("ps -f status=created --sort names --format '{{.Names}}'"),
        same("ps -a -f status=running -f status=created --sort names --format '{{.Names}}'"),
        same("ps -a -f status=nonsense"),
        same("ps -a -f exited=3 --sort names --format '{{.Names}}'"),
        same("ps -a -f exited=0 --sort names --format '{{.Names}}'"),
        same("ps -a -f exited=x"),
        same("ps -a -f ancestor=IMAGE --sort names --format '{{.Names}}'"),
        same("ps -a -f ancestor=nothing --sort names --format '{{.Names}}'"),
        same("ps -a -f before=two --sort names --format '{{.Names}}'"),
        same("ps -a -f since=two --sort names --format '{{.Names}}'"),
        same("ps -a -f since=nobody"),
        same("ps -a -f volume=/data --sort names --format '{{.Names}}'")
            .differs("Docker's way: also by the place inside"),
        same("ps -a -f until=1h --sort names --format '{{.Names}}'"),
        same("ps -a -f network=none --sort names --format '{{.Names}}'"),
        same("ps -a -f health=healthy --sort names --format '{{.Names}}'"),
        same("ps -a -f nonsense=1"),
        same("ps -a -f name"),
        same("ps -a -f command=true --sort names --format '{{.Names}}'"),
        same("ps --no-such-flag"),
        same("ps extra"),
        same("container ls -a --sort names --format '{{.Names}}'"),
        same("container list -a --sort names --format '{{.Names}}'"),
        same("container ps -a --sort names --format '{{.Names}}'"),
        same("container prune --force --filter label=tier=db").differs(PRUNED),
        same("container prune --force --filter until=1h").differs(PRUNED),
        same("container prune --force --filter nonsense=1"),
        same("container prune --force").differs(PRUNED),
        same("ps -a --sort names --format '{{.Names}}'"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn logs_of_one_and_of_several() -> Result<()> {
    Pair::new()?.run(&[
        streams("run --name one --log-driver k8s-file IMAGE sh -c 'echo a; echo b >&2; echo c; printf d'"),
        same("run -d --name two --log-driver json-file IMAGE sh -c 'for i in 1 2 3 4 5; do echo $i; done'"),
        same("wait two"),
        streams("logs one"),
        streams("logs two"),
        same("logs --tail 2 two"),
        same("logs --tail=0 two"),
        same("logs --tail=-1 two"),
        same("logs --tail all two").differs("Docker's word"),
        same("logs --tail x two"),
        same("logs -t two"),
        same("logs --timestamps --tail 1 two"),
        same("logs --since 1h two"),
        same("logs --since 2020-01-01 two"),
        same("logs --until 2020-01-01 two"),
        // Both have printed all of it more than a second ago then.
        same("run IMAGE sleep 1"),
        same("logs --since 2020-01-01T00:00:00Z --until 1s two"),
        same("logs --since nonsense two"),
        same("logs -f two"),
        same("logs --follow --tail 1 two"),
        status("logs one two"),
        status("logs --names one two"),
        same("logs -n two").differs("Docker's -n is --tail, Podman's is --names"),
        same("logs nobody"),
        same("logs two nobody"),
        same("logs"),
        same("logs --no-such-flag two"),
        same("run -d --name quiet --log-driver none IMAGE echo x"),
        same("wait quiet"),
        same("logs quiet"),
        same("run --log-driver nonsense IMAGE true"),
        same("run --log-opt nonsense=1 IMAGE true").differs("Podman takes any option, and does nothing about it"),
        same("run --name sized --log-opt max-size=10m IMAGE echo x"),
        same("logs sized"),
        same("run -d --name tty -t IMAGE sh -c 'echo a; echo b >&2'"),
        same("wait tty"),
        streams("logs tty"),
        same("create --name fresh IMAGE true"),
        same("logs fresh"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn what_inspect_shows_to_scripts() -> Result<()> {
    let pair = Pair::new()?;
    pair.write("env", "# comment\nFROM_FILE=1\nWITH=a=b\n")?;
    pair.write("labels", "from.file=x\n")?;
    pair.run(&[
        same("run -d --name one --hostname box --label a=1 --label-file labels --annotation x=y -e A=1 --env-file env -w /tmp -u 5 --restart=on-failure:3 -v /tmp:/data:ro --stop-signal INT --stop-timeout 3 --shm-size 1m --ulimit nofile=100:200 --cap-add SYS_TIME --cap-drop CHOWN --dns 1.2.3.4 --dns-search example.com --dns-option debug --add-host h:1.2.3.5 --group-add 7 --sysctl net.ipv4.ip_forward=1 --init --log-driver k8s-file IMAGE sleep 600"),
        same("inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Dead}} {{.State.Restarting}}' one"),
        status("inspect -f '{{.State.Pid}}' one"),
        same("inspect -f '{{.State.StartedAt}}' one"),
        same("inspect -f '{{.State.FinishedAt}}' one"),
        same("inspect -f '{{.Created}}' one"),
        same("inspect -f '{{.Id}} {{.ID}}' one"),
        same("inspect -f '{{.Name}}' one"),
        same("inspect -f '{{.Image}}' one").differs("Docker's way: the algorithm before the digits"),
        same("inspect -f '{{.ImageName}}' one"),
        same("inspect -f '{{.Path}} {{.Args}}' one").differs("Podman shows its init"),
        same("inspect -f '{{.RestartCount}}' one"),
        same("inspect -f '{{.Config.Cmd}}' one"),
        same("inspect -f '{{json .Config.Cmd}}' one"),
        same("inspect -f '{{json .Config.Entrypoint}}' one").differs("Podman 4 makes one text of it; later ones and Docker have a list"),
        same("inspect -f '{{range .Config.Env}}{{println .}}{{end}}' one").differs(ENVIRONMENT),
        same("inspect -f '{{range .Config.Env}}{{if eq . \"A=1\" \"WITH=a=b\" \"HOSTNAME=box\"}}x{{end}}{{end}}' one"),
        same("inspect -f '{{json .Config.Labels}}' one"),
        same("inspect -f '{{.Config.Labels.a}} {{index .Config.Labels \"from.file\"}}' one"),
        same("inspect -f '{{.Config.Hostname}}' one"),
        same("inspect -f '{{.Config.User}}' one"),
        same("inspect -f '{{.Config.WorkingDir}}' one"),
        same("inspect -f '{{.Config.Image}}' one"),
        same("inspect -f '{{.Config.Tty}} {{.Config.OpenStdin}}' one"),
        same("inspect -f '{{.Config.StopSignal}} {{.Config.StopTimeout}}' one").differs("Podman 4 has a number; later ones and Docker have its name"),
        same("inspect -f '{{.Config.StopTimeout}}' one"),
        same("inspect -f '{{.Config.Umask}} {{.Config.Timeout}}' one"),
        same("inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}' one"),
        same("inspect -f '{{json .HostConfig.RestartPolicy}}' one"),
        same("inspect -f '{{.HostConfig.LogConfig.Type}}' one"),
        same("inspect -f '{{.HostConfig.NetworkMode}}' one").differs("Podman is told to have none here"),
        same("inspect -f '{{.HostConfig.AutoRemove}} {{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Init}}' one"),
        same("inspect -f '{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}' one"),
        same("inspect -f '{{.HostConfig.ShmSize}}' one"),
        same("inspect -f '{{.HostConfig.Binds}}' one").differs("Docker's way: as it was given"),
        same("inspect -f '{{.HostConfig.Dns}} {{.HostConfig.DnsSearch}} {{.HostConfig.DnsOptions}}' one"),
        same("inspect -f '{{.HostConfig.ExtraHosts}} {{.HostConfig.GroupAdd}}' one"),
        same("inspect -f '{{json .HostConfig.Ulimits}}' one").differs("Docker's names, and none that was not asked for"),
        same("inspect -f '{{.HostConfig.IpcMode}} {{.HostConfig.PidMode}} {{.HostConfig.UTSMode}}' one"),
        same("inspect -f '{{.HostConfig.OomScoreAdj}}' one"),
        same("inspect -f '{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}{{end}}' one"),
        same("inspect -f '{{.NetworkSettings.IPAddress}}' one").differs("Podman is told to have none here"),
        same("inspect -f '{{.Mounts | len}}' one"),
        status("inspect -f '{{.LogPath}}' one").differs("Docker's place for it; Podman has HostConfig.LogConfig.Path"),
        same("inspect -f '{{.Driver}}' one").differs("another one is used"),
        same("inspect -f '{{.Nonsense}}' one"),
        same("inspect -f '{{.Name' one"),
        same("inspect nobody"),
        same("inspect -f '{{.Name}}' one nobody"),
        same("inspect"),
        same("inspect --type container -f '{{.Name}}' one"),
        same("inspect --type image -f '{{.Id}}' IMAGE").differs("Docker's way: the algorithm before the digits"),
        same("inspect --type image one"),
        same("inspect --type nonsense one"),
        same("inspect -s -f '{{.SizeRw}}' one").differs("Podman counts what it has put into /etc"),
        same("inspect --format json one --type nonsense"),
        status("inspect --format json one"),
        same("container inspect -f '{{.Name}}' one"),
        same("container inspect IMAGE"),
        same("kill one"),
        same("wait one"),
        same("inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}' one"),
        same("inspect -f '{{.State.FinishedAt}}' one"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn what_is_measured_and_told() -> Result<()> {
    Pair::new()?.run(&[
        same("run -d --name one --label a=1 IMAGE sleep 600"),
        status("top one"),
        same("top one pid args"),
        same("top one pid,user,comm"),
        status("top one hpid"),
        same("top one nonsense").differs("Podman tries ps(1) inside the container then"),
        same("top one -eo pid,args"),
        same("top nobody"),
        same("top"),
        same("port one"),
        same("port one 80").differs("Docker's way: it is a failure to ask for one that is not published"),
        same("port nobody"),
        same("port --all"),
        same("port"),
        stdout("stats --no-stream --format '{{.Name}} {{.ID}}' one"),
        same("stats --no-stream nobody"),
        same("stats --no-stream --format '{{.Nonsense}}' one"),
        same("kill one"),
        same("wait one"),
        status("top one"),
        same("stats --no-stream --format '{{.Name}}' one").differs("what does not run uses nothing, and there is nothing to show"),
        same("run --rm --name two IMAGE true"),
        same("events --stream=false --since 1h --filter container=one --filter event=start --format '{{.Name}} {{.Status}} {{.Type}}'"),
        same("events --stream=false --since 1h --filter container=one --format '{{.Status}}'").differs(EVENTS),
        same("events --stream=false --since 1h --filter container=two --format '{{.Status}}'").differs(EVENTS),
        same("events --stream=false --since 1h --filter label=a=1 --filter event=create --format '{{.Name}} {{.Image}}'"),
        same("events --stream=false --since 1h --filter type=container --filter event=died --format '{{.Name}} {{.ContainerExitCode}}'"),
        same("events --stream=false --since 1h --filter event=create --format '{{.ID}}'"),
        same("events --stream=false --since 1h --filter event=create --filter container=one --format '{{json .Name}}'"),
        same("events --stream=false --until 2020-01-01"),
        same("events --stream=false --filter nonsense=1").differs("Podman gives nothing and is silent about it"),
        same("events --stream=false --since nonsense").differs("Podman gives nothing and is silent about it"),
        same("events --stream=false --format '{{.Nonsense}}' --since 1h"),
        status("events --stream=false --since 1h --format json"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn what_a_workload_finds() -> Result<()> {
    let pair = Pair::new()?;
    pair.write("env", "# comment\nFROM_FILE=1\nWITH=a=b\nPATH\n")?;
    pair.run(&[
        same("run --rm --ulimit nofile=100:200 IMAGE sh -c 'ulimit -Sn; ulimit -Hn'"),
        same("run --rm --ulimit nofile=50 IMAGE sh -c 'ulimit -Sn; ulimit -Hn'"),
        same("run --rm --ulimit nonsense=50 IMAGE true"),
        same("run --rm --umask 0077 IMAGE sh -c umask"),
        same("run --rm IMAGE sh -c umask"),
        same("run --rm --umask 999 IMAGE true"),
        same("run --rm --oom-score-adj 100 IMAGE cat /proc/self/oom_score_adj"),
        same("run --rm --oom-score-adj 2000 IMAGE true").differs(UNTOLD),
        same("run --rm --shm-size 1m IMAGE sh -c 'df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'"),
        same("run --rm IMAGE sh -c 'df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'")
            .differs("Docker's 64m, in powers of 1024"),
        same("run --rm --shm-size nonsense IMAGE true"),
        same("run --rm --sysctl net.ipv4.ip_forward=1 IMAGE cat /proc/sys/net/ipv4/ip_forward"),
        same("run --rm --sysctl nonsense=1 IMAGE true"),
        same("run --rm --sysctl kernel.hostname=x IMAGE true"),
        same("run --rm --device /dev/null:/dev/nil IMAGE sh -c 'echo x > /dev/nil; test -c /dev/nil'"),
        same("run --rm --device /dev/no-such IMAGE true"),
        same("run --rm IMAGE ls /dev").differs("no link to /proc/kcore, which is masked"),
        same("run --rm --user 5 --group-add 7 IMAGE id -G"),
        same("run --rm --group-add nonsense IMAGE true").differs(UNTOLD),
        same("run --rm --add-host h:1.2.3.4 IMAGE grep -w h /etc/hosts"),
        same("run --rm --add-host nonsense IMAGE true"),
        same("run --rm --dns 1.2.3.4 --dns-search example.com --dns-option debug IMAGE cat /etc/resolv.conf")
            .differs("without a network, Podman makes no such file"),
        same("run --rm --dns nonsense IMAGE true"),
        same("run --rm --hostname box IMAGE hostname"),
        same("run --rm --network none --hostname box --name named IMAGE grep box /etc/hosts"),
        same("run --rm --hostname box IMAGE cat /etc/hostname").differs("Docker's way: the line ends"),
        same("run --rm IMAGE cat /etc/hosts").differs("Docker's way: nothing of the host's"),
        same("run --rm --label nonsense IMAGE true"),
        same("run --rm --label-file no-such IMAGE true"),
        same("run --rm --env-file env IMAGE env").differs(ENVIRONMENT),
        same("run --rm --env-file env IMAGE sh -c 'echo $FROM_FILE $WITH $HOME $PATH'"),
        same("run --rm --env-file no-such IMAGE true"),
        same("run --rm -e A=1 -e B= -e USER -e NOT_THERE IMAGE sh -c 'echo $A $B $USER ${NOT_THERE-unset}'"),
        same("run --rm --hostname box -e TERM=x IMAGE env").differs(ENVIRONMENT),
        same("run --rm --hostname box IMAGE env").differs(ENVIRONMENT),
        same("run --rm --env-host IMAGE sh -c 'echo $USER'"),
        same("run --rm --tz UTC IMAGE date +%Z"),
        same("run --rm --tz Nonsense IMAGE true"),
        same("run --rm --tmpfs /t:size=1m,mode=700 IMAGE stat -c %a /t"),
        same("run --rm --mount type=tmpfs,destination=/t,tmpfs-mode=711 IMAGE stat -c %a /t"),
        same("run --rm --mount type=bind,source=/tmp,destination=/t,readonly IMAGE touch /t/x"),
        same("run --rm --mount type=nonsense,destination=/t IMAGE true"),
        same("run --rm --mount type=bind,destination=/t IMAGE true"),
        same("run --rm -v /tmp:relative IMAGE true"),
        same("run --rm -v /tmp:/t:nonsense IMAGE true"),
        same("run --rm --read-only IMAGE touch /x"),
        same("run --rm --read-only IMAGE touch /tmp/x").differs("Docker's way: nothing can be written to"),
        same("run --rm --read-only IMAGE touch /dev/shm/x"),
        same("run --rm --ipc private IMAGE true"),
        same("run --rm --ipc nonsense IMAGE true"),
        same("run --rm --pid nonsense IMAGE true"),
        same("run --rm --uts nonsense IMAGE true"),
        same("run --rm --uts host IMAGE true"),
        same("run --rm --pid container:nobody IMAGE true"),
        same("run --rm --cap-drop ALL IMAGE grep CapEff /proc/self/status"),
        same("run --rm --cap-drop ALL --cap-add CHOWN IMAGE grep Cap /proc/self/status"),
        same("run --rm IMAGE grep Cap /proc/self/status"),
        same("run --rm --user 5 IMAGE grep Cap /proc/self/status"),
        same("run --rm --cap-add NONSENSE IMAGE true"),
        same("run --rm --security-opt no-new-privileges IMAGE grep NoNewPrivs /proc/self/status"),
        same("run --rm --security-opt nonsense IMAGE true"),
        same("run --rm --attach stdout IMAGE sh -c 'echo out; echo err >&2'"),
        same("run --rm -a stderr IMAGE sh -c 'echo out; echo err >&2'"),
        same("run --rm -a nonsense IMAGE true"),
        same("run --rm -i IMAGE cat"),
        same("run --rm --network nonsense-net IMAGE true"),
        same("run --rm --pull nonsense IMAGE true"),
        same("run --rm --restart nonsense IMAGE true"),
        same("run --rm --restart always IMAGE true"),
        same("run --rm --stop-signal NONSENSE IMAGE true"),
        same("run --rm --stop-timeout x IMAGE true"),
        same("run --rm --timeout 1 IMAGE sleep 600").differs("as after any SIGKILL"),
        same("run -d --name well --health-cmd 'test -e /well' --health-interval disable IMAGE sleep 600"),
        same("healthcheck run well"),
        same("exec well touch /well"),
        same("healthcheck run well"),
        same("healthcheck run nobody"),
        same("run --rm --health-cmd true --health-interval nonsense IMAGE true"),
        same("run --rm --health-cmd true --health-retries -1 IMAGE true"),
        same("exec -e A=1 -w /tmp -u 5 well sh -c 'echo $A; pwd; id -u; exit 6'"),
        same("exec well /no/such/program"),
        same("exec well /etc"),
        same("exec nobody true"),
        same("exec well").differs("a wrong command line, as any other"),
        same("run --rm --pid container:well IMAGE ps -o args"),
    ]);
    Ok(())
}

#[test]
#[ignore = "long: needs podman"]
fn files_from_outside() -> Result<()> {
    let pair = Pair::new()?;
    pair.write("file", "text\n")?;
    pair.write("other", "other\n")?;
    let script = "create --name box IMAGE sh -c 'mkdir -p /d/in /new; echo x > /d/x; ln -s x /d/link; echo y >> /etc/passwd; \
        rm /etc/group; chmod 700 /tmp; echo z > /new/z; cat /mine 2>/dev/null; :'";
    pair.run(&[
        same(script),
        same("diff box"),
        same("diff --format json box"),
        same("cp file box:/mine"),
        same("start -a box"),
        same("diff --format bogus box"),
        same("diff nobody"),
        same("diff"),
        same("cp box:/d/x got"),
        same("cp box:/d new"),
        same("cp box:/d/. new"),
        same("cp box:/none got"),
        same("cp box:/d file"),
        same("cp box:/d/x missing/"),
        same("cp box:/d/x missing/x"),
        same("cp file box:/d/"),
        same("cp file box:/d/copied"),
        same("cp new box:/d/x"),
        same("cp new box:/tree"),
        same("cp file box:/none/"),
        same("cp file box:/none/x"),
        same("cp none box:/x"),
        same("cp file other"),
        same("cp file nobody:/x"),
        same("cp file"),
        same("cp"),
        status("cp box:/d/x -"),
        status("export box"),
        same("export -o box.tar box"),
        same("export nobody"),
        same("export"),
        same("run -d --name two IMAGE sleep 600"),
        same("cp new two:/tmp"),
        same("exec two find /tmp"),
        same("exec two cat /tmp/new/x"),
        same("cp two:/tmp/new/x here"),
        same("diff two").differs("Podman tells of /etc for the files that it mounts there itself; Docker does not"),
        same("unshare sh -c 'id -u; exit 7'"),
        same("unshare cat /proc/self/uid_map"),
        same("unshare no-such-program"),
        same("unshare /etc/passwd"),
        same("unshare sh -c 'kill -KILL $$'").differs("rbox is the program by then, and a shell says 137 of it"),
        same("rm -f -t 0 two"),
        same("rm box"),
    ]);
    Ok(())
}
