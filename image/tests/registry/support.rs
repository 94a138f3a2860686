//! A registry made of a closure: an HTTP/1.1 server on a free loopback port that answers as a test wants, however
//! wrong, and remembers what it was asked.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rbox_image::{Client, ClientOptions, Retry};
use rbox_types::{Digest, Reference};
use serde_json::{Value, json};
use sha2::Digest as _;

/// What the server was asked; header names in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Content-Length, where it is to differ from the body's; None sends chunks.
    length: Option<usize>,
    /// How the connection goes on after the body.
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    Close,
    Hang,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), length: Some(body.len()), body, then: Then::Next }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Announces all of the body, sends `bytes` of it and closes the connection.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self.then = Then::Close;
        self
    }

    /// Announces all of the body, sends `bytes` of it and no more.
    pub(crate) fn hang(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self.then = Then::Hang;
        self
    }

    /// Announces no length.
    pub(crate) fn chunked(mut self) -> Self {
        self.length = None;
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(handler), None)
    }

    /// The same over TLS, with the self-signed certificate beside this file.
    pub(crate) fn start_tls(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let certificate = CertificateDer::from_pem_slice(include_bytes!("cert.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("key.pem")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a TLS configuration");
        Self::listen(Arc::new(handler), Some(Arc::new(config)))
    }

    fn listen(handler: Arc<Handler>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen, count) = (Arc::clone(&requests), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let (handler, seen, tls) = (Arc::clone(&handler), Arc::clone(&seen), tls.clone());
                // A client that went away is no failure of the server's.
                thread::spawn(move || match tls {
                    None => serve(stream, &*handler, &seen).unwrap_or_default(),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).expect("a TLS connection");
                        serve(rustls::StreamOwned::new(connection, stream), &*handler, &seen).unwrap_or_default();
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    /// The requests so far, without the probe for how the registry is spoken to.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.path != "/v2/").cloned().collect()
    }

    /// The probes so far.
    pub(crate) fn probes(&self) -> usize {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.path == "/v2/").count()
    }

    /// The connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// An image of this registry.
    pub(crate) fn image(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().expect("an image name")
    }
}

fn serve(stream: impl Read + Write, handler: &Handler, seen: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let request = Request { method, path, headers };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let reply = if request.path == "/v2/" { Reply::new(200, "{}") } else { handler(&request) };
        let out = stream.get_mut();
        write!(out, "HTTP/1.1 {} Text\r\n", reply.status)?;
        for (name, value) in &reply.headers {
            write!(out, "{name}: {value}\r\n")?;
        }
        match reply.length {
            Some(length) => write!(out, "Content-Length: {length}\r\n\r\n")?,
            None => write!(out, "Transfer-Encoding: chunked\r\n\r\n")?,
        }
        if request.method != "HEAD" {
            if reply.length.is_none() {
                for chunk in reply.body.chunks(10_000) {
                    write!(out, "{:x}\r\n", chunk.len())?;
                    out.write_all(chunk)?;
                    out.write_all(b"\r\n")?;
                }
                out.write_all(b"0\r\n\r\n")?;
            } else {
                out.write_all(&reply.body)?;
            }
        }
        out.flush()?;
        match reply.then {
            Then::Next => {}
            Then::Close => return Ok(()),
            Then::Hang => thread::sleep(Duration::from_secs(60)),
        }
    }
}

/// A port that nothing listens on, nor will: a free one could be another test's the moment after.
pub(crate) fn closed_port() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

/// A server that takes a connection and closes it without a word, each time.
pub(crate) fn mute_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop::<Option<TcpStream>>(stream.ok());
        }
    });
    address
}

/// A client that loses little time between its tries, but gives a server all the time that it needs.
pub(crate) fn client() -> Client {
    Client::new(options())
}

/// The same, for servers that hang. Where all processors are taken an honest one, too, may be silent for a moment.
pub(crate) fn impatient_client() -> Client {
    Client::new(ClientOptions { idle_timeout: Duration::from_secs(3), ..options() })
}

pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        retry: Retry { tries: 4, base: Duration::from_millis(5), patience: Duration::from_secs(5) },
        ..ClientOptions::default()
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A repository: documents and blobs by digest or tag.
#[derive(Clone, Default)]
pub(crate) struct Repository {
    pub(crate) manifests: HashMap<String, (String, Vec<u8>)>,
    pub(crate) blobs: HashMap<Digest, Vec<u8>>,
}

impl Repository {
    pub(crate) fn add_manifest(&mut self, tag: Option<&str>, media_type: &str, value: &Value) -> Digest {
        let bytes = value.to_string().into_bytes();
        let name = digest(&bytes);
        for key in [Some(name.to_string()), tag.map(str::to_owned)].into_iter().flatten() {
            self.manifests.insert(key, (media_type.to_owned(), bytes.clone()));
        }
        name
    }

    pub(crate) fn add_blob(&mut self, bytes: &[u8]) -> Digest {
        let name = digest(bytes);
        self.blobs.insert(name, bytes.to_vec());
        name
    }

    /// An image of these layers.
    pub(crate) fn add_image(&mut self, tag: Option<&str>, architecture: &str, layers: &[&[u8]]) -> Digest {
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer).to_string()).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let config_digest = self.add_blob(config.as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| {
                let media_type = "application/vnd.oci.image.layer.v1.tar";
                json!({"mediaType": media_type, "digest": self.add_blob(layer), "size": layer.len()})
            })
            .collect();
        let config_type = "application/vnd.oci.image.config.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": config_type, "digest": config_digest, "size": config.len()},
            "layers": layers,
        });
        self.add_manifest(tag, MANIFEST, &manifest)
    }

    /// What an honest registry answers.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let unknown = || Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
        let Some((_, rest)) = request.path.split_once("/v2/repo/") else { return unknown() };
        let found = match rest.split_once('/') {
            Some(("manifests", name)) => {
                self.manifests.get(name).map(|(kind, bytes)| (kind.as_str(), digest(bytes), bytes))
            }
            Some(("blobs", name)) => name
                .parse()
                .ok()
                .and_then(|name: Digest| self.blobs.get(&name).map(|bytes| ("application/octet-stream", name, bytes))),
            _ => None,
        };
        let Some((kind, name, bytes)) = found else { return unknown() };
        let start = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let reply = match start.and_then(|start| start.parse::<usize>().ok()) {
            Some(start) => Reply::new(206, &bytes[start..])
                .header("Content-Range", &format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
            None => Reply::new(200, bytes.as_slice()),
        };
        reply.header("Content-Type", kind).header("Docker-Content-Digest", &name.to_string())
    }
}
