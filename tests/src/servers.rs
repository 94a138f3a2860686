//! Servers that others have written, as they are: nginx, with Git behind it, OpenSSH's and dnsmasq.
//!
//! Their packages would start services, so they are unpacked where the machine has none ([`packages`]). They run as
//! whoever runs the test, with all that they read and write in a directory of their own, and end with it.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::command::{read, shown};
use crate::netns::{Namespace, Running};
use crate::traffic::is_listened_at;
use crate::{host, packages, tls};

/// Programs, and the packages that have them.
const PROGRAMS: [(&str, &str); 4] =
    [("nginx", "nginx"), ("fcgiwrap", "fcgiwrap"), ("sshd", "openssh-server"), ("dnsmasq", "dnsmasq-base")];

/// Unpacks what the machine has not.
pub fn set_up() -> Result<()> {
    PROGRAMS.iter().try_for_each(|(name, _)| program(name).map(drop))
}

/// What starts the program.
pub fn program(name: &str) -> Result<Command> {
    let (_, package) = PROGRAMS.iter().find(|(program, _)| *program == name).context("it is listed")?;
    packages::command(package, name)
}

/// A port of this address of the machine's at which nobody listened a moment ago.
pub fn free_port(address: IpAddr) -> Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}

/// nginx. Its files can be got and put; its repositories can be cloned and pushed to, below `/git/`.
pub struct Web {
    dir: TempDir,
    ports: Vec<u16>,
    processes: Vec<Running>,
}

impl Web {
    /// Serves at these URLs of addresses and ports, where a namespace is given in that. `names` are those by which
    /// clients come besides, of the kinds that [`tls::certificates_for`] has.
    pub fn start(namespace: Option<&Namespace>, urls: &[&str], names: &[&str]) -> Result<Self> {
        let mut web = Self::new(urls, names)?;
        let (mut git, socket) = (program("fcgiwrap")?, web.path("fcgi"));
        git.arg("-s").arg(format!("unix:{}", socket.display()));
        web.processes.push(started_until(|| socket.exists(), namespace, &mut git, &web.path("git.log"))?);
        let mut nginx = program("nginx")?;
        nginx.arg("-c").arg(web.configuration());
        web.processes.push(started(namespace, &mut nginx, &web.path("log"), &web.ports)?);
        Ok(web)
    }

    /// As [`start`](Self::start), for an nginx without Git that somebody else starts with [`Self::configuration`].
    pub fn new(urls: &[&str], names: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("web.").tempdir_in(host::scratch_base())?;
        for name in ["files", "git"] {
            fs::create_dir(dir.path().join(name))?;
        }
        let (mut listens, mut own_names, mut ports) = (String::new(), vec!["DNS:localhost".to_owned()], Vec::new());
        for url in urls {
            let (scheme, address) = url.split_once("://").context("a URL has a scheme")?;
            let at: SocketAddr = address.parse()?;
            listens += &format!("listen {at}{};\n", if scheme == "https" { " ssl http2" } else { "" });
            own_names.push(format!("IP:{}", at.ip()));
            ports.push(at.port());
        }
        let names: Vec<&str> = own_names.iter().map(String::as_str).chain(names.iter().copied()).collect();
        tls::certificates_for(dir.path(), &names)?;
        fs::write(dir.path().join("nginx.conf"), configuration(dir.path(), &listens)?)?;
        Ok(Self { dir, ports, processes: Vec::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory of what is at `/`.
    pub fn files(&self) -> PathBuf {
        self.path("files")
    }

    /// The certificate of whom clients must trust.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// nginx's configuration. All that it names is in the same directory.
    pub fn configuration(&self) -> PathBuf {
        self.path("nginx.conf")
    }

    /// Makes an empty repository, `/git/<name>`, that can be pushed to.
    pub fn add_repository(&self, name: &str) -> Result<PathBuf> {
        let path = self.path("git").join(name);
        read(Command::new("git").args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&path))?;
        // Else only by whom the server has asked who he is (git-http-backend(1)).
        read(Command::new("git").arg("-C").arg(&path).args(["config", "http.receivepack", "true"]))?;
        Ok(path)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // Nothing is written there any more when it is removed.
        self.processes.clear();
    }
}

/// One process, since nobody would end the workers of one that is killed; and of no other user.
fn configuration(dir: &Path, listens: &str) -> Result<String> {
    let backend = Path::new(read(Command::new("git").arg("--exec-path"))?.trim()).join("git-http-backend");
    let (dir, backend) = (dir.display(), backend.display());
    let temporary: String = ["client_body", "fastcgi", "proxy", "scgi", "uwsgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
        .collect();
    let parameters: String = ["QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_PROTOCOL"]
        .iter()
        .map(|name| format!("fastcgi_param {name} ${};\n", name.to_lowercase()))
        .collect();
    Ok(format!(
        "daemon off;
         master_process off;
         user root;
         pid {dir}/pid;
         error_log stderr;
         events {{ }}
         http {{
             access_log off;
             client_max_body_size 0;
             {temporary}
             server {{
                 {listens}
                 ssl_certificate {dir}/server.pem;
                 ssl_certificate_key {dir}/server.key;
                 location / {{
                     root {dir}/files;
                     dav_methods PUT;
                 }}
                 location ~ ^/git(/.*) {{
                     fastcgi_pass unix:{dir}/fcgi;
                     {parameters}
                     fastcgi_param SCRIPT_FILENAME {backend};
                     fastcgi_param PATH_INFO $1;
                     fastcgi_param GIT_PROJECT_ROOT {dir}/git;
                     fastcgi_param GIT_HTTP_EXPORT_ALL 1;
                 }}
             }}
         }}\n"
    ))
}

/// OpenSSH's server, which lets in who has the key [`Ssh::client`] has.
pub struct Ssh {
    dir: TempDir,
    _process: Running,
}

/// As whom sshd(8) runs and lets people in.
const USER: &str = "tester";

/// sshd(8) looks for users in passwd(5), and from 9.8 on for parts of itself where it was installed. The words of the
/// command follow.
const SSHD: &str = "mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /usr/lib/openssh && shift 2 && \
    exec unshare --user --map-user=1000 --map-group=1000 -- \"$@\"";

impl Ssh {
    /// Listens at all addresses of the namespace.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ssh.").tempdir_in(host::scratch_base())?;
        let inside = |name: &str| dir.path().join(name);
        for name in ["host", "client"] {
            let mut keygen = Command::new("ssh-keygen");
            read(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(inside(name)))?;
        }
        fs::write(inside("known"), format!("server {}", fs::read_to_string(inside("host.pub"))?))?;
        fs::write(inside("passwd"), format!("{USER}:x:1000:1000::{}:/bin/sh\n", dir.path().display()))?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700))?;
        let (host_key, keys) = (inside("host"), inside("client.pub"));
        fs::write(
            inside("sshd_config"),
            format!(
                "Port {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n",
                host_key.display(),
                keys.display()
            ),
        )?;
        let sshd = program("sshd")?;
        let program = Path::new(sshd.get_program());
        let parts = program.with_file_name("../lib/openssh");
        // Where root is all there is, it cannot become the users it needs.
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", SSHD, "sh"]).arg(inside("passwd")).arg(parts);
        command.arg(program).args(["-D", "-e", "-f"]).arg(inside("sshd_config"));
        command.envs(sshd.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let process = started(Some(namespace), &mut command, &inside("log"), &[port])?;
        Ok(Self { dir, _process: process })
    }

    /// ssh(1) that runs a command there and knows whom to trust.
    pub fn client(&self, to: IpAddr, port: u16, command: &str) -> Command {
        let inside = |name: &str| self.dir.path().join(name).display().to_string();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "HostKeyAlias=server", "-o", "IdentitiesOnly=yes"]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", inside("known"))).arg("-i").arg(inside("client"));
        ssh.args(["-p", &port.to_string(), "-l", USER, &to.to_string(), command]);
        ssh
    }
}

/// dnsmasq.
pub struct Dns {
    _dir: TempDir,
    _process: Running,
}

impl Dns {
    /// Answers at this address what `records`, options of dnsmasq(8), say, in datagrams of up to 4096 bytes.
    pub fn start(namespace: &Namespace, at: IpAddr, records: &[String]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("dns.").tempdir_in(host::scratch_base())?;
        namespace.set("ipv4/ip_unprivileged_port_start", "0")?;
        // Where root is all there is, it cannot become the user it wants to be.
        let mut command = Command::new("unshare");
        let dnsmasq = program("dnsmasq")?;
        command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(dnsmasq.get_program());
        command.envs(dnsmasq.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="]);
        command.args(["--log-facility=-", "--bind-interfaces", "--edns-packet-max=4096"]);
        command.arg(format!("--listen-address={at}")).args(records);
        let process = started(Some(namespace), &mut command, &dir.path().join("log"), &[53])?;
        Ok(Self { _dir: dir, _process: process })
    }
}

/// Starts a server, and waits until it listens at these ports.
fn started(namespace: Option<&Namespace>, command: &mut Command, log: &Path, ports: &[u16]) -> Result<Running> {
    let listens = || ports.iter().all(|port| is_listened_at(*port));
    started_until(|| namespace.map_or_else(listens, |namespace| namespace.run(listens)), namespace, command, log)
}

fn started_until(
    is_ready: impl Fn() -> bool,
    namespace: Option<&Namespace>,
    command: &mut Command,
    log: &Path,
) -> Result<Running> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
    let mut running = match namespace {
        Some(namespace) => namespace.start(command)?,
        None => Running(command.spawn().with_context(|| shown(command))?),
    };
    while !is_ready() {
        let said = || format!("{}: {}", shown(command), fs::read_to_string(log).unwrap_or_default());
        running.check().with_context(said)?;
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Ok(running)
}
