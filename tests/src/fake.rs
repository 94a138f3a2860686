//! A registry that lies: a small HTTP server in the test's own process that answers as a registry would, except where
//! the test's script says otherwise.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::layout::Layout;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Besides `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body; not sent in answer to HEAD.
    pub body: Vec<u8>,
    /// How many bytes of the body are sent before the connection is cut, though the whole length was announced.
    pub cut_after: Option<usize>,
    /// How long to wait after each 16 KiB of the body.
    pub pause: Duration,
}

/// The server; it ends when this is dropped.
pub struct FakeRegistry {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<Mutex<bool>>,
}

impl Request {
    /// Whether a manifest or index is asked for, by tag or digest.
    pub fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/")
    }

    /// Whether the blob of this digest is asked for.
    pub fn is_blob(&self, digest: &str) -> bool {
        self.path.contains("/blobs/") && self.path.contains(digest)
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Answer {
    /// A status with a body of text.
    pub fn status(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.into(), cut_after: None, pause: Duration::ZERO }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl FakeRegistry {
    /// Offers everything that is in `layout`, in any repository; a tag is a name in the layout. `script` gets each
    /// request with the honest answer to it, and says what is sent.
    pub fn serve(layout: Layout, script: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(Mutex::new(false));
        let respond = Arc::new(move |request: &Request| script(request, honest(&layout, request)));
        let (log, stopped) = (requests.clone(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if *stopped.lock().expect("no holder panics") {
                    return;
                }
                let (respond, log) = (respond.clone(), log.clone());
                // A client that goes away is none of this server's troubles.
                thread::spawn(move || connection(&stream, &log, &*respond).ok());
            }
        });
        Ok(Self { address, requests, stop })
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `127.0.0.1:<port>/<name>`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no holder panics").clone()
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        *self.stop.lock().expect("no holder panics") = true;
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

/// What an honest registry of `layout` answers (OCI distribution spec, "Pull").
fn honest(layout: &Layout, request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.rsplitn(3, '/').collect();
    let (wanted, kind) = match parts[..] {
        [wanted, kind @ ("manifests" | "blobs"), _] => (wanted, kind),
        _ if path == "/v2/" => return Answer::status(200, "{}"),
        _ => return Answer::status(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
    };
    let is_digest = wanted.starts_with("sha256:");
    let digest = if is_digest { Ok(wanted.to_owned()) } else { layout.find(wanted).map(|found| found.digest) };
    let Some(body) = digest.as_ref().ok().and_then(|digest| layout.read(digest).ok()) else {
        return Answer::status(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}"#);
    };
    let mut answer = Answer::status(200, "").header("Docker-Content-Digest", &digest.unwrap_or_default());
    answer.body = body;
    if kind == "manifests" {
        let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        return answer.header("Content-Type", value["mediaType"].as_str().unwrap_or("application/json"));
    }
    let start = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    if let Some(start) = start.filter(|start: &usize| *start < answer.body.len()) {
        let total = answer.body.len();
        answer.status = 206;
        answer.body.drain(..start);
        answer = answer.header("Content-Range", &format!("bytes {start}-{}/{total}", total - 1));
    }
    answer.header("Content-Type", "application/octet-stream").header("Accept-Ranges", "bytes")
}

fn connection(
    stream: &TcpStream,
    log: &Mutex<Vec<Request>>,
    respond: &dyn Fn(&Request) -> Answer,
) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    while let Some(request) = read_request(&mut input)? {
        log.lock().expect("no holder panics").push(request.clone());
        let answer = respond(&request);
        let mut head = format!("HTTP/1.1 {} -\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut out = stream;
        out.write_all((head + "\r\n").as_bytes())?;
        if request.method == "HEAD" {
            continue;
        }
        let end = answer.cut_after.unwrap_or(answer.body.len()).min(answer.body.len());
        for chunk in answer.body[..end].chunks(1 << 14) {
            out.write_all(chunk)?;
            if !answer.pause.is_zero() {
                thread::sleep(answer.pause);
            }
        }
        if answer.cut_after.is_some() {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
    Ok(())
}

fn read_request(input: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let request = Request { method, path, headers };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    std::io::copy(&mut input.take(length), &mut std::io::sink())?;
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{output, read};
    use crate::image::{Compression, ImageBuilder};
    use crate::layer::Layer;
    use std::process::Command;

    fn layout(dir: &std::path::Path) -> Layout {
        let layout = Layout::create(dir).expect("a layout");
        let layer = Layer::new().file("f", 0o644, "x".repeat(100_000));
        let image = ImageBuilder::new(&layout).layer(&layer, Compression::Plain).expect("a layer");
        image.finish_as("1").expect("an image");
        layout
    }

    #[test]
    fn honest_it_serves_skopeo() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let registry = FakeRegistry::serve(layout(dir.path()), |_, answer| answer).expect("a server");
        let name = format!("docker://{}", registry.reference("a/b:1"));
        let to = format!("dir:{}", dir.path().join("to").display());
        read(Command::new("skopeo").args(["--insecure-policy", "copy", "--src-tls-verify=false", &name, &to]))
            .expect("copied");
        assert!(registry.requests().iter().any(Request::is_manifest));
    }

    #[test]
    fn it_cuts_and_resumes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let registry = FakeRegistry::serve(layout(dir.path()), |request, mut answer| {
            if request.header("range").is_none() {
                answer.cut_after = Some(1000);
            }
            answer
        });
        let registry = registry.expect("a server");
        let layer = Layout::open(dir.path()).and_then(|layout| {
            let manifest: serde_json::Value = serde_json::from_slice(&layout.read(&layout.find("1")?.digest)?)?;
            Ok(manifest["layers"][0]["digest"].as_str().unwrap_or_default().to_owned())
        });
        let url = format!("http://{}/v2/x/blobs/{}", registry.address(), layer.expect("a layer"));
        let cut = output(Command::new("curl").args(["-s", &url])).expect("curl");
        assert_eq!((cut.status.code(), cut.stdout.len()), (Some(18), 1000), "curl(1): 18 is a partial file");
        let rest = output(Command::new("curl").args(["-s", "-r", "1000-", &url])).expect("curl");
        assert!(rest.status.success() && rest.stdout.len() > 100_000);
    }
}
