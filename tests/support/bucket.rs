//! An S3 server on the loopback interface, within the tests' process: `s3s-fs`, whose buckets are folders.
//!
//! It checks signatures, keeps metadata and knows uploads in parts. It ends with its value, and its folder with it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::PrivateKeyDer;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use vggt::store::{Bucket, BucketLimits, BucketSettings};

/// The credentials that the server knows.
pub(crate) const ACCESS_KEY: &str = "ANN";
pub(crate) const SECRET_KEY: &str = "not-a-secret-of-anybody";

/// The bucket that is there from the start.
pub(crate) const BUCKET: &str = "scenes";

/// For tests in which nothing is late: generous, since many run at the same time.
pub(crate) const PATIENT: BucketLimits = BucketLimits {
    connect: Duration::from_secs(10),
    silence: Duration::from_secs(20),
    total: Duration::from_secs(60),
    slowest: 32 << 10,
    pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(200),
};

/// A server with a folder of its own.
pub(crate) struct S3 {
    address: SocketAddr,
    root: PathBuf,
    /// Of a server with one of its own.
    dir: Option<TempDir>,
    certificate: Option<PathBuf>,
    task: JoinHandle<()>,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    })
}

impl S3 {
    pub(crate) fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), None)
    }

    /// One whose buckets are the folders in `root`.
    pub(crate) fn start_in(root: &Path) -> Self {
        Self::serve(root.to_owned(), None, None)
    }

    /// One with TLS, and a certificate that nobody but [`S3::certificate`] trusts.
    pub(crate) fn start_tls() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self::start_with(dir, Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn start_with(dir: TempDir, tls: Option<TlsAcceptor>) -> Self {
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join(BUCKET)).unwrap();
        Self::serve(root, Some(dir), tls)
    }

    fn serve(root: PathBuf, dir: Option<TempDir>, tls: Option<TlsAcceptor>) -> Self {
        let mut service = S3ServiceBuilder::new(FileSystem::new(&root).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let certificate = match (&dir, &tls) {
            (Some(dir), Some(_)) => Some(dir.path().join("cert.pem")),
            _ => None,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let task = runtime().spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let (service, tls) = (service.clone(), tls.clone());
                tokio::spawn(async move {
                    let http = http1::Builder::new();
                    // What a client does to its connection is its own matter.
                    let _ = match tls {
                        None => http.serve_connection(TokioIo::new(socket), service).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => {
                                http.serve_connection(TokioIo::new(socket), service).await
                            }
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        Self {
            address,
            root,
            dir,
            certificate,
            task,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn certificate(&self) -> &Path {
        self.certificate.as_deref().unwrap()
    }

    /// The folder of the objects.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join(BUCKET)
    }

    /// The variables that lead to it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        variables(self.address)
    }

    /// The bucket below a prefix.
    pub(crate) fn bucket(&self, prefix: &str) -> Bucket {
        bucket_at(self.address, prefix, PATIENT)
    }

    /// What uploads in parts have left.
    pub(crate) fn unfinished(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("upload")).collect()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
        // Behind the server.
        drop(self.dir.take());
    }
}

/// The variables that lead to a server at an address.
pub(crate) fn variables(address: SocketAddr) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL", format!("http://{address}").as_str()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The bucket below a prefix, at the address of a server or of a proxy.
pub(crate) fn bucket_at(address: SocketAddr, prefix: &str, limits: BucketLimits) -> Bucket {
    let url = format!("s3://{BUCKET}/{prefix}").parse().unwrap();
    let mut settings = BucketSettings::from_variables(variables(address));
    settings.limits = limits;
    Bucket::with(&url, &settings).unwrap()
}
