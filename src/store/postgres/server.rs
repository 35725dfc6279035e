//! The address of a PostgreSQL server.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, config::SslMode};

use super::tls::{self, Trust};

/// How a `postgres://` address begins.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// How long to wait for a connection, unless the address says so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What `pg_stat_activity` shows, unless the address says so.
const APPLICATION: &str = "vggt";

/// Where a PostgreSQL server is, and how to log in there.
#[derive(Clone, PartialEq, Eq)]
pub struct Server(Arc<Login>);

#[derive(PartialEq, Eq)]
struct Login {
    config: Config,
    trust: Trust,
}

impl Server {
    /// Returns whether a text is such an address.
    pub fn is_address(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Connects, without diesel: `pump` is to move the bytes that are read from what it gets. To be called in the runtime that moves the
    /// bytes.
    pub(super) async fn connect_and<T>(
        &self,
        pump: impl FnOnce(BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>) -> T,
    ) -> Result<(Client, T), String> {
        let Login { config, trust } = &*self.0;
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, mut conn) = config.connect(NoTls).await.map_err(|e| told(&e))?;
            let messages = stream::poll_fn(move |cx| conn.poll_message(cx));
            return Ok((client, pump(messages.boxed())));
        }
        let tls = tls::connector(trust)?;
        let (client, mut conn) = config.connect(tls).await.map_err(|e| told(&e))?;
        let messages = stream::poll_fn(move |cx| conn.poll_message(cx));
        Ok((client, pump(messages.boxed())))
    }

    /// Connects. To be called in the runtime that moves the bytes.
    pub(super) async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        let failed = |e: tokio_postgres::Error| ConnectionError::BadConnection(told(&e));
        let Login { config, trust } = &*self.0;
        if config.get_ssl_mode() == SslMode::Disable {
            let (client, conn) = config.connect(NoTls).await.map_err(failed)?;
            return AsyncPgConnection::try_from_client_and_connection(client, conn).await;
        }
        let tls = tls::connector(trust).map_err(ConnectionError::BadConnection)?;
        let (client, conn) = config.connect(tls).await.map_err(failed)?;
        AsyncPgConnection::try_from_client_and_connection(client, conn).await
    }
}

/// Returns what went wrong, with its causes.
fn told(e: &tokio_postgres::Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}

impl FromStr for Server {
    type Err = String;

    /// Reads the address as libpq does, with `sslmode` and `sslrootcert`; the password may also come from PGPASSWORD.
    fn from_str(text: &str) -> Result<Self, String> {
        let (text, mode, file) = without_tls(text);
        let trust = Trust::new(mode.as_deref(), file)?;
        let mut config: Config = text
            .parse()
            .map_err(|e| format!("invalid address of a database: {}", told(&e)))?;
        config.ssl_mode(match mode.as_deref() {
            None | Some("prefer" | "allow") => SslMode::Prefer,
            Some("disable") => SslMode::Disable,
            _ => SslMode::Require,
        });
        if config.get_hosts().is_empty() {
            return Err("invalid address of a database: it names no host".to_owned());
        }
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        Ok(Self(Arc::new(Login { config, trust })))
    }
}

/// Takes the parameters of TLS out of an address.
fn without_tls(text: &str) -> (String, Option<String>, Option<String>) {
    let Some((address, parameters)) = text.split_once('?') else {
        return (text.to_owned(), None, None);
    };
    let (mut mode, mut file) = (None, None);
    let mut others = Vec::new();
    for parameter in parameters.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => {
                let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                file = Some(decoded.into_owned());
            }
            _ => others.push(parameter),
        }
    }
    let text = match others.is_empty() {
        true => address.to_owned(),
        false => format!("{address}?{}", others.join("&")),
    };
    (text, mode, file)
}

/// Without the password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use tokio_postgres::config::Host;
        let config = &self.0.config;
        f.write_str(SCHEMES[0])?;
        if let Some(user) = config.get_user() {
            write!(f, "{user}@")?;
        }
        let hosts = config.get_hosts().iter().enumerate();
        for (i, host) in hosts {
            let comma = if i > 0 { "," } else { "" };
            f.write_str(comma)?;
            if let Host::Tcp(name) = host {
                f.write_str(name)?;
            } else {
                f.write_str("socket")?;
            }
            let ports = config.get_ports();
            if let Some(port) = ports.get(i).or(ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        match config.get_dbname() {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Result<Server, String> {
        text.parse()
    }

    #[test]
    fn an_address_is_told_without_its_password() {
        let text =
            "postgres://ann:s3cret@db.example:5433/vggt?sslmode=verify-full&application_name=x";
        let server = server(text).unwrap();
        assert_eq!(server.to_string(), "postgres://ann@db.example:5433/vggt");
        assert!(!format!("{server:?}").contains("s3cret"));
        assert_eq!(server.0.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(server.0.config.get_application_name(), Some("x"));
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, word) in [
            ("postgres://", "host"),
            ("postgres://h:port/d", "port"),
            ("postgres://h/d?sslmode=maybe", "sslmode"),
            ("postgres://h/d?no_such=1", "no_such"),
            (
                "postgres://h/d?sslmode=verify-full&sslrootcert=/no/such",
                "/no/such",
            ),
        ] {
            let e = server(text).unwrap_err();
            assert!(e.contains(word), "{text}: {e}");
        }
        assert!(!Server::is_address("./postgres.db"));
        assert!(Server::is_address("postgresql://h/d"));
    }
}
