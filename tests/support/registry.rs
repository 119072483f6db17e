//! A real registry (Debian's docker-registry) on a port of its own, with its storage in a temporary directory, ended with
//! the test. Images are pushed to it over its HTTP API, with no code of this project.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "what a test stands on is there, or the test fails"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The one user that a registry with logins knows, and the password.
pub(crate) const USER: (&str, &str) = ("bob", "hunter2");
/// The same for the registry: bcrypt, as it wants it.
const HTPASSWD: &str = "bob:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Whether a registry is installed; says so loudly if not, and fails if `FNCTR_REQUIRE_REAL` is set.
pub(crate) fn available(test: &str) -> bool {
    let found = std::env::var("PATH")
        .unwrap_or_default()
        .split(':')
        .any(|dir| Path::new(dir).join("docker-registry").is_file());
    if !found {
        assert!(
            std::env::var_os("FNCTR_REQUIRE_REAL").is_none(),
            "{test} needs a registry: apt-get install docker-registry"
        );
        let line = format!("\n!!! SKIPPED {test}: docker-registry is not installed\n");
        if fs::write("/dev/stderr", &line).is_err() {
            eprintln!("{line}");
        }
    }
    found
}

/// What kind of registry.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kind {
    /// It wants [`USER`].
    pub(crate) login: bool,
    /// It serves https with this certificate and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// It wants a certificate of a client, made with this one.
    pub(crate) client_ca: Option<PathBuf>,
}

/// A registry that runs.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    port: u16,
    kind: Kind,
    dir: tempfile::TempDir,
}

impl Registry {
    /// An open one.
    pub(crate) fn start() -> Self {
        Self::of(Kind::default(), tempfile::tempdir().unwrap())
    }

    fn of(kind: Kind, dir: tempfile::TempDir) -> Self {
        // A port that was free a moment ago may be taken by another test now.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut child = spawn(&kind, dir.path(), port);
            for _ in 0..500 {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self {
                        child,
                        port,
                        kind,
                        dir,
                    };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(child.kill());
            drop(child.wait());
        }
        let log = fs::read_to_string(dir.path().join("log"));
        panic!("the registry does not come up: {log:?}");
    }

    /// The same storage, served another way from here on.
    pub(crate) fn turned_into(mut self, kind: Kind) -> Self {
        drop(self.child.kill());
        drop(self.child.wait());
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::of(kind, dir)
    }

    /// As in `127.0.0.1:5000`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Uploads a blob. Its digest.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let begun = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]);
        assert_eq!(begun.status, 202, "{begun:?}");
        let location = begun.header("location").unwrap();
        let path = location
            .split_once(&self.address())
            .map_or(location.as_str(), |(_, path)| path);
        let joint = if path.contains('?') { '&' } else { '?' };
        let put = format!("{path}{joint}digest={digest}");
        let done = self.request(
            "PUT",
            &put,
            &[("content-type", "application/octet-stream")],
            bytes,
        );
        assert_eq!(done.status, 201, "{done:?}");
        digest
    }

    /// Uploads a manifest or an index under a tag or its own digest. Its digest.
    pub(crate) fn push_manifest(
        &self,
        repository: &str,
        version: Option<&str>,
        kind: &str,
        manifest: &Value,
    ) -> String {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = digest(&bytes);
        let path = format!("/v2/{repository}/manifests/{}", version.unwrap_or(&digest));
        let done = self.request("PUT", &path, &[("content-type", kind)], &bytes);
        assert_eq!(
            done.status,
            201,
            "{done:?} {}",
            String::from_utf8_lossy(&done.body)
        );
        digest
    }

    /// Uploads an image for this machine. The digest of its manifest.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        self.push_with(repository, Some(tag), image)
    }

    pub(crate) fn push_with(&self, repository: &str, version: Option<&str>, image: &Image) -> String {
        let manifest = image.manifest(|bytes| {
            self.push_blob(repository, bytes);
        });
        self.push_manifest(repository, version, image.kind(), &manifest)
    }

    /// One request, without any library between.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.address(),
            body.len()
        );
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        Response {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: answer[end + 4..].to_vec(),
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(kind: &Kind, dir: &Path, port: u16) -> Child {
    let mut http = json!({"addr": format!("127.0.0.1:{port}")});
    if let Some((certificate, key)) = &kind.tls {
        http["tls"] = json!({"certificate": certificate, "key": key});
        if let Some(client_ca) = &kind.client_ca {
            http["tls"]["clientcas"] = json!([client_ca]);
        }
    }
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {"filesystem": {"rootdirectory": dir.join("data")}},
        "http": http,
    });
    if kind.login {
        let file = dir.join("htpasswd");
        fs::write(&file, HTPASSWD).unwrap();
        config["auth"] = json!({"htpasswd": {"realm": "test", "path": file}});
    }
    let file = dir.join("config.yml");
    // YAML is a superset of JSON.
    fs::write(&file, config.to_string()).unwrap();
    let log = fs::File::create(dir.join("log")).unwrap();
    Command::new("docker-registry")
        .arg("serve")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// What a registry answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    Docker,
    OciGzip,
    OciZstd,
    OciPlain,
}

/// An image that can be pushed.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Bare tars, lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) packed: Packed,
    /// What its configuration says beyond the layers.
    pub(crate) config: Value,
}

impl Image {
    /// Busybox, and further layers that each have one file of this many bytes which nothing compresses. `salt` makes it unlike
    /// all others.
    pub(crate) fn busybox(packed: Packed, salt: &str, files: &[usize]) -> Self {
        let busybox = fs::read("/bin/busybox").unwrap();
        let mut lower = vec![("bin/busybox".to_owned(), busybox, 0o755)];
        lower.push(("etc/salt".to_owned(), salt.as_bytes().to_vec(), 0o644));
        let mut layers = vec![tar_of(
            &lower,
            &[
                ("bin/sh", "busybox"),
                ("bin/cat", "busybox"),
                ("bin/true", "busybox"),
            ],
        )];
        for (at, size) in files.iter().enumerate() {
            let file = vec![(format!("data/{at}"), noise(&format!("{salt}{at}"), *size), 0o644)];
            layers.push(tar_of(&file, &[]));
        }
        Self {
            layers,
            packed,
            config: json!({"architecture": architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]}}),
        }
    }

    /// For another platform.
    pub(crate) fn of(mut self, os: &str, architecture: &str, variant: Option<&str>) -> Self {
        self.config["os"] = json!(os);
        self.config["architecture"] = json!(architecture);
        if let Some(variant) = variant {
            self.config["variant"] = json!(variant);
        }
        self
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self.packed {
            Packed::Docker => DOCKER_MANIFEST,
            _ => OCI_MANIFEST,
        }
    }

    /// The layers as they are transferred, with their media type.
    pub(crate) fn blobs(&self) -> Vec<(Vec<u8>, String)> {
        let pack = |tar: &Vec<u8>| match self.packed {
            Packed::Docker => (gzip(tar), DOCKER_LAYER.to_owned()),
            Packed::OciGzip => (gzip(tar), format!("{OCI_LAYER}+gzip")),
            Packed::OciZstd => (zstd(tar), format!("{OCI_LAYER}+zstd")),
            Packed::OciPlain => (tar.clone(), OCI_LAYER.to_owned()),
        };
        self.layers.iter().map(pack).collect()
    }

    /// The manifest. Every blob that it names is given to `push`.
    pub(crate) fn manifest(&self, mut push: impl FnMut(&[u8])) -> Value {
        let mut config = self.config.clone();
        let diff_ids: Vec<_> = self.layers.iter().map(|tar| digest(tar)).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let config = serde_json::to_vec(&config).unwrap();
        push(&config);
        let config_kind = match self.packed {
            Packed::Docker => "application/vnd.docker.container.image.v1+json",
            _ => "application/vnd.oci.image.config.v1+json",
        };
        let link = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let mut layers = Vec::new();
        for (bytes, kind) in self.blobs() {
            push(&bytes);
            layers.push(link(&kind, &bytes));
        }
        json!({
            "schemaVersion": 2, "mediaType": self.kind(),
            "config": link(config_kind, &config), "layers": layers,
        })
    }
}

/// This machine's architecture, in the words of images.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// Files with their mode, then links.
pub(crate) fn tar_of(files: &[(String, Vec<u8>, u32)], links: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        // As it is: the builder's own way refuses the names that an attacker would choose.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    for (name, to) in links {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, name, to).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame whose blocks are stored as they are (RFC 8878, 3.1.1): valid without a compressor.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
    frame.extend((bytes.len() as u64).to_le_bytes());
    let blocks: Vec<_> = bytes.chunks(128 << 10).collect();
    for (n, block) in blocks.iter().enumerate() {
        let last = u32::from(n + 1 == blocks.len());
        let header = (u32::try_from(block.len()).unwrap() << 3) | last;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(*block);
    }
    frame
}

/// Bytes that nothing compresses, the same for the same salt.
pub(crate) fn noise(salt: &str, size: usize) -> Vec<u8> {
    let mut state = u64::from_le_bytes(Sha256::digest(salt)[..8].try_into().unwrap()) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Makes a certificate authority, and a certificate of it for 127.0.0.1: `ca.pem`, `NAME.pem` and `NAME.key` in `dir`.
pub(crate) fn certificates(dir: &Path, names: &[&str]) {
    authority(dir, "ca", "P-256");
    for name in names {
        certificate(dir, name, "ca", "P-256", &[]);
    }
}

/// Runs openssl in a directory.
pub(crate) fn openssl(dir: &Path, args: &[&str]) {
    let done = Command::new("openssl")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {said}");
}

fn key_of(curve: &str) -> [String; 5] {
    let curve = format!("ec_paramgen_curve:{curve}");
    ["-newkey", "ec", "-pkeyopt", &curve, "-nodes"].map(str::to_owned)
}

/// A certificate that signs itself, for `NAME.pem`, with its key in `NAME.key`. What is added is said as in
/// `basicConstraints=critical,CA:FALSE`; without, it is an authority's, as openssl makes it.
pub(crate) fn signs_itself(dir: &Path, name: &str, curve: &str, added: &[&str]) {
    let (key, out, subject) = (
        format!("{name}.key"),
        format!("{name}.pem"),
        format!("/CN={name}"),
    );
    let mut args = vec![
        "req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &out,
    ];
    let made = key_of(curve);
    args.extend(made.iter().map(String::as_str));
    args.extend(added.iter().flat_map(|one| ["-addext", one]));
    openssl(dir, &args);
}

/// The same with a key that there is, for 127.0.0.1, and out of date.
pub(crate) fn out_of_date(dir: &Path, name: &str, key: &str) {
    let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n";
    fs::write(dir.join("old"), extensions).unwrap();
    let [key, request, out] = [format!("{key}.key"), format!("{name}.csr"), format!("{name}.pem")];
    fs::copy(dir.join(&key), dir.join(format!("{name}.key"))).unwrap();
    openssl(
        dir,
        &["req", "-new", "-key", &key, "-subj", "/CN=old", "-out", &request],
    );
    let mut args = vec!["x509", "-req", "-days", "-1", "-in", &request, "-signkey", &key];
    args.extend(["-extfile", "old", "-out", &out]);
    openssl(dir, &args);
}

/// An authority.
pub(crate) fn authority(dir: &Path, name: &str, curve: &str) {
    signs_itself(dir, name, curve, &[]);
}

/// A certificate for 127.0.0.1 that an authority has signed; `how` is for openssl.
pub(crate) fn certificate(dir: &Path, name: &str, authority: &str, curve: &str, how: &[&str]) {
    fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    let files = ["key", "csr", "pem"].map(|extension| format!("{name}.{extension}"));
    let [key, request, out] = files.each_ref().map(String::as_str);
    let subject = format!("/CN={name}");
    let made = key_of(curve);
    let mut args = vec!["req", "-subj", &subject, "-keyout", key, "-out", request];
    args.extend(made.iter().map(String::as_str));
    openssl(dir, &args);
    let signer = ["pem", "key"].map(|extension| format!("{authority}.{extension}"));
    let mut args = vec![
        "x509", "-req", "-days", "2", "-in", request, "-CA", &signer[0], "-CAkey", &signer[1],
    ];
    args.extend(["-CAcreateserial", "-extfile", "names", "-out", out]);
    args.extend(how);
    openssl(dir, &args);
}
