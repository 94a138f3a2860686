//! Programs that others have written, in containers: package managers, and both ends of HTTPS.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rbox_tests::alpine;
use rbox_tests::command::{output, read};
use rbox_tests::debian;
use rbox_tests::detached::Detached;
use rbox_tests::elf;
use rbox_tests::hash::digest_of_file;
use rbox_tests::host;
use rbox_tests::image::{Compression, Format};
use rbox_tests::layer::Layer;
use rbox_tests::layout::Layout;
use rbox_tests::patience::until;
use rbox_tests::rbox::Rbox;
use rbox_tests::servers::{self, Web, free_port};
use rbox_tests::traffic::Pattern;
use tempfile::TempDir;

/// The host, as these containers reach it.
const HOST: &str = "host.containers.internal";
const NETWORK: &str = "--network=slirp:allow_host_loopback=true";

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The port of the server in the container.
const HTTPS: u16 = 8443;

fn with_alpine() -> Result<(Rbox, String)> {
    Rbox::with_image(&alpine::layout()?, alpine::TAG, "t/alpine:3.23")
}

fn directory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("software.").tempdir_in(host::scratch_base())?)
}

/// Some megabytes at this path; gives their SHA-256.
fn bulk(path: &Path) -> Result<String> {
    fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
    fs::write(path, Pattern::bytes(1, 8 << 20))?;
    sum(path)
}

fn sum(path: &Path) -> Result<String> {
    Ok(digest_of_file(path)?.trim_start_matches("sha256:").to_owned())
}

fn volume(from: &Path, to: &str) -> String {
    format!("--volume={}:{to}", from.display())
}

#[test]
fn apk_adds_a_package_from_a_mirror_on_the_hosts_loopback() -> Result<()> {
    let (rbox, image) = with_alpine()?;
    let (port, dir) = (free_port(LOOPBACK)?, directory()?);
    let mirror = Web::start(None, &[&format!("http://{LOOPBACK}:{port}")], &[])?;
    let inside = |name: &str| dir.path().join(name);
    let bulk = bulk(&inside("files/usr/share/greeting/bulk"))?;
    read(Command::new("openssl").args(["genrsa", "-out"]).arg(inside("key")).arg("2048"))?;
    read(Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(inside("key")).arg("-out").arg(inside("pub")))?;
    let make = "set -e; arch=$(apk --print-arch); mkdir /mirror/$arch; cd /mirror/$arch
        apk mkpkg --info name:greeting --info version:1-r0 --info arch:$arch --files /made/files \
            --output greeting-1-r0.apk --sign-key /made/key
        apk mkndx --output Packages.adb --sign-key /made/key greeting-1-r0.apk";
    // Whoever makes a list of packages looks at who has signed them.
    let key = volume(&inside("pub"), "/etc/apk/keys/mirror.rsa.pub:ro");
    let volumes = [volume(dir.path(), "/made"), volume(&mirror.files(), "/mirror")];
    rbox.sh(&image, &["--network=none", &key, &volumes[0], &volumes[1]], make);

    let add = format!(
        "echo v3 http://{HOST}:{port} >/etc/apk/repositories
         apk update && apk add greeting && sha256sum </usr/share/greeting/bulk"
    );
    let said = rbox.sh(&image, &[NETWORK, &key], &add);
    assert!(said.contains("Installing greeting (1-r0)") && said.contains(&bulk), "{said}");

    // Nothing comes by another way.
    for (flags, why) in [
        (&[NETWORK][..], "UNTRUSTED signature"),
        (&["--network=slirp", &key], "Connection refused"),
        (&["--network=none", &key], "DNS"),
    ] {
        let outcome = rbox.run([&["run", "--rm"], flags, &[&image, "sh", "-c", &add]].concat());
        assert!(outcome.status != 0 && outcome.stderr.contains(why), "{flags:?}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn apt_and_git_in_debian_have_what_the_hosts_loopback_offers() -> Result<()> {
    let (rbox, image) = Rbox::with_image(&debian::layout()?, debian::TAG, "t/debian:12")?;
    let (port, https, dir) = (free_port(LOOPBACK)?, free_port(LOOPBACK)?, directory()?);
    let urls = [format!("http://{LOOPBACK}:{port}"), format!("https://{LOOPBACK}:{https}")];
    let mirror = Web::start(None, &urls.each_ref().map(String::as_str), &[&format!("DNS:{HOST}")])?;

    let package = dir.path().join("package");
    let bulk = bulk(&package.join("usr/share/greeting/bulk"))?;
    fs::create_dir(package.join("DEBIAN"))?;
    let control =
        "Package: greeting\nVersion: 1\nArchitecture: all\nMaintainer: one <one@localhost>\nDescription: many\n";
    fs::write(package.join("DEBIAN/control"), control)?;
    let built = mirror.files().join("greeting.deb");
    read(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&package).arg(&built))?;
    let (size, digest) = (fs::metadata(&built)?.len(), sum(&built)?);
    let listed = format!("{control}Filename: ./greeting.deb\nSize: {size}\nSHA256: {digest}\n");
    fs::write(mirror.files().join("Packages"), listed)?;
    let install = format!(
        "set -e
         rm -f /etc/apt/sources.list.d/*
         echo 'deb [trusted=yes] http://{HOST}:{port} ./' >/etc/apt/sources.list
         apt-get -o APT::Update::Error-Mode=any update
         apt-get install -y greeting
         sha256sum </usr/share/greeting/bulk"
    );
    let said = rbox.sh(&image, &[NETWORK], &install);
    assert!(said.contains("Setting up greeting (1)") && said.contains(&bulk), "{said}");
    let without = rbox.run(["run", "--rm", "--network=slirp", &image, "sh", "-c", &install]);
    assert!(without.status != 0 && without.stderr.contains("Could not connect"), "{}", without.stderr);

    let (repository, tree) = (mirror.add_repository("bulk.git")?, dir.path().join("tree"));
    let git = |words: &[&str]| {
        let who = ["-c", "user.name=one", "-c", "user.email=one@localhost"];
        read(Command::new("git").args(who).arg("-C").arg(&tree).args(words).env("GIT_CONFIG_GLOBAL", "/dev/null"))
    };
    fs::rename(package.join("usr"), &tree)?;
    git(&["init", "--quiet", "--initial-branch=main"])?;
    git(&["add", "."])?;
    git(&["commit", "--quiet", "-m", "Add what is large"])?;
    git(&["push", "--quiet", &repository.display().to_string(), "main"])?;
    let clone = format!(
        "git -c http.sslCAInfo=/ca.pem clone --quiet https://{HOST}:{https}/git/bulk.git cloned
         git -C cloned fsck --strict && sha256sum <cloned/share/greeting/bulk"
    );
    let authority = volume(&mirror.authority(), "/ca.pem:ro");
    let said = rbox.sh(&image, &[NETWORK, &authority], &clone);
    assert!(said.contains(&bulk), "{said}");
    Ok(())
}

#[test]
fn curl_in_a_container_by_the_hosts_names_and_addresses() -> Result<()> {
    let (rbox, image) = with_alpine()?;
    let own = host::address()?;
    let at = [SocketAddr::from((LOOPBACK, free_port(LOOPBACK)?)), SocketAddr::from((own, free_port(own)?))];
    let urls = at.map(|at| format!("https://{at}"));
    let web = Web::start(None, &urls.each_ref().map(String::as_str), &[&format!("DNS:{HOST}")])?;
    let bulk = bulk(&web.files().join("bulk"))?;
    let authority = volume(&web.authority(), "/ca.pem:ro");
    for (number, (network, host, at)) in
        [(NETWORK, HOST, at[0]), ("--network=slirp", HOST, at[1]), ("--network=slirp", &own.to_string(), at[1])]
            .into_iter()
            .enumerate()
    {
        let (curl, url) = ("curl -sSf --cacert /ca.pem", format!("https://{host}:{}", at.port()));
        let script = format!("{curl} -o /got {url}/bulk && {curl} -T /got {url}/put{number} && sha256sum </got");
        let said = rbox.sh(&image, &[network, &authority], &script);
        assert!(said.starts_with(&bulk), "{url}: {said}");
        assert_eq!(sum(&web.files().join(format!("put{number}")))?, bulk, "{url}");
        // Nor is anybody else taken for it.
        let without = rbox.run(["run", "--rm", network, &image, "curl", "-sSf", &format!("{url}/bulk")]);
        without.exits(60);
    }
    let ping = rbox.sh(&image, &[NETWORK], &format!("ping -c 3 -i 0.2 {HOST}"));
    assert!(ping.contains("3 packets received, 0% packet loss"), "{ping}");
    Ok(())
}

/// An image of a server of the machine's, with its libraries.
fn image_of_nginx() -> Result<(Rbox, String)> {
    let dir = directory()?;
    let layout = Layout::create(&dir.path().join("layout"))?;
    let nginx = servers::program("nginx")?;
    let mut layer = Layer::new().dir("libraries", 0o755).file("bin/nginx", 0o755, fs::read(nginx.get_program())?);
    for path in elf::libraries(&nginx)? {
        let name = path.file_name().context("a library has a name")?.to_string_lossy();
        // The loader is found by its path, and finds all others by their names.
        let to = if name.starts_with("ld-") { path.display().to_string() } else { format!("libraries/{name}") };
        layer = layer.file(to.trim_start_matches('/'), 0o755, fs::read(&path)?);
    }
    let image = alpine::on_small(&layout, Format::Oci)?;
    let environment = serde_json::json!(["PATH=/bin", "LD_LIBRARY_PATH=/libraries"]);
    image.set("Env", environment).layer(&layer, Compression::Plain)?.finish_as("1")?;
    Rbox::with_image(&layout, "1", "t/nginx:1")
}

#[test]
fn curl_by_the_published_port_of_an_nginx_in_a_container() -> Result<()> {
    let (rbox, image) = image_of_nginx()?;
    let own = host::address()?;
    let names = [LOOPBACK, own].map(|address| format!("IP:{address}"));
    let url = format!("https://0.0.0.0:{HTTPS}");
    let web = Web::new(&[&url], &names.each_ref().map(String::as_str))?;
    let bulk = bulk(&web.files().join("bulk"))?;
    let published = [LOOPBACK, own].map(|address| format!("--publish={address}::{HTTPS}"));
    let dir = web.files().parent().context("it is in a directory")?.to_owned();
    let files = volume(&dir, &dir.display().to_string());
    let script = format!("exec nginx -c {}", web.configuration().display());
    let container = Detached::start(&rbox, &image, "web", &[&published[0], &published[1], &files], &script);
    let said = rbox.run(["port", "web", &HTTPS.to_string()]).success();
    let at: Vec<SocketAddr> = said.lines().map(str::parse).collect::<Result<_, _>>()?;
    assert_eq!(at.iter().map(SocketAddr::ip).collect::<Vec<_>>(), [LOOPBACK, own]);
    for at in at {
        let curl = |words: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["-sSf", "--noproxy", "*", "--max-time", "60", "--cacert"]).arg(web.authority()).args(words);
            output(&mut curl)
        };
        let (got, put) = (dir.join("got"), format!("put{}", at.port()));
        let get = ["-o", &got.display().to_string(), &format!("https://{at}/bulk")];
        // Before anybody listens there, connections end.
        let answered = until(
            || (curl(&get).map(|output| output.status.code()).unwrap_or_default(), container.status()),
            |(code, status)| *code == Some(0) || status != "running",
        );
        assert_eq!(answered.0, Some(0), "{}", container.logs());
        assert_eq!(sum(&got)?, bulk, "{at}");
        let put_there = curl(&["-T", &got.display().to_string(), &format!("https://{at}/{put}")])?;
        assert!(put_there.status.success(), "{}", String::from_utf8_lossy(&put_there.stderr));
        assert_eq!(sum(&web.files().join(&put))?, bulk, "{at}");
    }
    Ok(())
}
