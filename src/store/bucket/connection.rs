//! The connections below the crate `object_store`: HTTP/1.1 on hyper, TLS on rustls with the roots of the rest of this program, names
//! found by [`Resolver`], and limits in time that the crate's own client would lack.
//!
//! An answer that is not a success becomes a [`Failure`] here, since the crate shows neither status nor text of the answers that it
//! gave up on.

use std::{
    fs,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Uri,
    body::Bytes,
    header::{HeaderValue, USER_AGENT},
    http::uri::Scheme,
};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
        HttpResponse, HttpResponseBody, HttpService,
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    BucketLimits, BucketSettings,
    body::{Watched, is_list, whole_list},
    error::{Failure, Verdict},
};
use crate::resolver::Resolver;

/// How long an unused connection is kept: S3 closes it after some 20 seconds.
const IDLE: Duration = Duration::from_secs(15);

/// The longest answer to a request that failed.
const LONGEST_ANSWER: usize = 64 << 10;

/// What the server is told of this program.
const AGENT: &str = concat!("vggt/", env!("CARGO_PKG_VERSION"));

/// Makes the clients of `object_store`.
#[derive(Debug)]
pub(super) struct Connections {
    tls: Arc<ClientConfig>,
    resolver: Resolver,
    limits: BucketLimits,
}

impl Connections {
    /// Reads the authorities of certificates.
    ///
    /// # Errors
    /// When their file cannot be read or holds none.
    pub(super) fn new(settings: &BucketSettings) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match &settings.roots {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                let failed = |e: &dyn std::fmt::Display| {
                    format!("cannot use AWS_CA_BUNDLE={}: {e}", file.display())
                };
                let pem = fs::read(file).map_err(|e| failed(&e))?;
                for der in CertificateDer::pem_slice_iter(&pem) {
                    roots
                        .add(der.map_err(|e| failed(&e))?)
                        .map_err(|e| failed(&e))?;
                }
                if roots.is_empty() {
                    return Err(failed(&"it holds no certificate"));
                }
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(tls),
            resolver: settings.resolver,
            limits: settings.limits,
        })
    }
}

impl HttpConnector for Connections {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let connect = Connect {
            tls: self.tls.clone(),
            resolver: self.resolver,
            limit: self.limits.connect,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connect);
        Ok(HttpClient::new(Service {
            client,
            limits: self.limits,
            allow_http: allow_http.as_deref() == Some("true"),
        }))
    }
}

/// Sends one request and hands on its answer.
#[derive(Debug)]
struct Service {
    client: Client<Connect, HttpRequestBody>,
    limits: BucketLimits,
    allow_http: bool,
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = host_of(request.uri());
        if request.uri().scheme() != Some(&Scheme::HTTPS) && !self.allow_http {
            let text =
                format!("{host} would be asked without TLS; set AWS_ALLOW_HTTP=true to allow that");
            return Err(failed(Failure::new(&host, Verdict::Refused, text)));
        }
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let is_list = is_list(request.method(), request.uri());
        let body = request.body().content_length() as u64;
        let limit = self.limits.of_answer(body);
        let Ok(answer) = timeout(limit, self.client.request(request)).await else {
            return Err(failed(silent(&host, limit)));
        };
        let answer = answer.map_err(|e| failed(of_request(&host, &e)))?;
        let (parts, body) = answer.into_parts();
        let body = Watched {
            body,
            host: host.clone(),
            limit: self.limits.silence,
            waiting: None,
        };
        if parts.status.is_success() && is_list {
            let list = whole_list(&host, body).await?;
            return Ok(HttpResponse::from_parts(parts, list.into()));
        }
        if parts.status.is_success() {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        // What there is of its text; the status says enough without it.
        let text = timeout(
            self.limits.silence,
            Limited::new(body, LONGEST_ANSWER).collect(),
        )
        .await;
        let text = match text {
            Ok(Ok(text)) => text.to_bytes(),
            _ => Bytes::new(),
        };
        let region = parts.headers.get("x-amz-bucket-region");
        let region = region.and_then(|region| region.to_str().ok());
        let text = String::from_utf8_lossy(&text);
        Err(failed(Failure::of_answer(
            &host,
            parts.status,
            region,
            &text,
        )))
    }
}

/// Returns the host of an address with its port, as messages name it.
pub(super) fn host_of(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, |authority| {
        let text = authority.as_str();
        text.rsplit_once('@')
            .map_or(text, |(_, host)| host)
            .to_owned()
    })
}

/// Of a kind that `object_store` does not try again by itself.
pub(super) fn failed(failure: Failure) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, failure)
}

fn silent(host: &str, limit: Duration) -> Failure {
    let text = format!("{host} did not answer within {} s", limit.as_secs_f32());
    Failure::new(host, Verdict::Passing, text)
}

fn of_request(host: &str, e: &hyper_util::client::legacy::Error) -> Failure {
    let what = match e.is_connect() {
        true => "cannot connect to",
        false => "lost the connection to",
    };
    let verdict = match is_of_tls(e) {
        true => Verdict::Refused,
        false => Verdict::Passing,
    };
    Failure::new(host, verdict, format!("{what} {host}: {}", innermost(e)))
}

/// Returns true when the server's certificate or its TLS is at fault.
fn is_of_tls(e: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(e);
    while let Some(e) = cause {
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if e.is::<rustls::Error>() || inner.is_some_and(|e| e.is::<rustls::Error>()) {
            return true;
        }
        cause = e.source();
    }
    false
}

pub(super) fn innermost(e: &(dyn std::error::Error + 'static)) -> String {
    let mut last = e;
    while let Some(e) = last.source() {
        last = e;
    }
    last.to_string()
}

/// Connects, with TLS where the address asks for it.
#[derive(Debug, Clone)]
struct Connect {
    tls: Arc<ClientConfig>,
    resolver: Resolver,
    limit: Duration,
}

/// What a connection reads and writes.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Connection for Box<dyn Wire> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tower_service::Service<Uri> for Connect {
    type Response = TokioIo<Box<dyn Wire>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let limit = this.limit;
            match timeout(limit, this.open(&uri)).await {
                Ok(opened) => opened.map(TokioIo::new),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {} s", limit.as_secs_f32()),
                )),
            }
        })
    }
}

impl Connect {
    async fn open(&self, uri: &Uri) -> io::Result<Box<dyn Wire>> {
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().ok_or(io::ErrorKind::InvalidInput)?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let addresses = self.resolver.addresses(host, port).await?;
        // The first that answers.
        let stream = TcpStream::connect(addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(self.tls.clone())
            .connect(name, stream)
            .await?;
        Ok(Box::new(stream))
    }
}
