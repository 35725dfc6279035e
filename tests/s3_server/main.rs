//! An S3 server for trying things and for tools/checks: buckets are the folders of a folder.
//!
//! ```text
//! cargo run --example s3_server -- FOLDER [PORT]
//! ```
//!
//! It listens on the loopback interface alone, prints its address, and knows one pair of keys: `test` and `not-a-secret`.

use std::{error::Error, io::Write, net::SocketAddr, path::PathBuf};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let root = PathBuf::from(args.next().ok_or("usage: s3_server FOLDER [PORT]")?);
    let port = match args.next() {
        Some(port) => port.to_str().ok_or("the port is a number")?.parse()?,
        None => 0,
    };
    let files =
        FileSystem::new(&root).map_err(|e| format!("cannot use {}: {e:?}", root.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single("test", "not-a-secret"));
    let service = service.build();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    println!("http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (socket, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            // What a client does to its connection is its own matter.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}
