//! The connection of one command: password, login, and the output file.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use anyhow::Context;
use serde_json::json;
use tokio::runtime::{self, Runtime};

use super::{super::resolver, OptionArgs, ServerArgs, UsageError, print};
use crate::cli::{
    plain::{plain, plain_json},
    terminal::{print_text, tell},
};
use crate::{
    client::{Client, ClientSettings},
    output::{Sink, Target},
    protocol::{FileEntry, Hash, ReconstructionOptions},
};

/// A connection, logged in if there is a user.
pub(super) struct Session {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    /// `None` without a login.
    pub(super) is_vip: Option<bool>,
}

impl Session {
    /// Connects, and logs in if there is a user.
    pub(super) fn open(args: &ServerArgs, must_log_in: bool) -> anyhow::Result<Self> {
        if must_log_in && args.user.is_none() {
            return Err(UsageError("a login needs --user NAME".to_owned()).into());
        }
        // Prompts before it connects: a server drops idle connections.
        let password = args
            .user
            .as_ref()
            .map(|name| password(name, args))
            .transpose()?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the client")?;
        let settings = ClientSettings {
            reconstruction: Duration::from_secs(args.timeout),
            resolver: resolver()?,
            ..ClientSettings::default()
        };
        let client = runtime.block_on(Client::connect(&args.host, args.port, settings))?;
        let mut session = Self {
            runtime,
            client,
            is_vip: None,
        };
        if let (Some(name), Some(password)) = (&args.user, password) {
            let login = session.client.login(name, &password);
            session.is_vip = Some(session.runtime.block_on(login)?);
        }
        Ok(session)
    }

    /// Sets the options that were given, if any.
    pub(super) fn set_options(&mut self, options: &OptionArgs) -> anyhow::Result<()> {
        let options = ReconstructionOptions::new(options)?;
        // An older server has no options: nothing is sent when there are none.
        if options != ReconstructionOptions::default() {
            self.runtime.block_on(self.client.options(&options))?;
        }
        Ok(())
    }

    /// Prints all files of the user, page by page.
    pub(super) fn list(&mut self, json: bool) -> anyhow::Result<()> {
        let mut before = None;
        // The pages are one array, as if it were printed at once.
        let mut text = if json { "[" } else { "" }.to_owned();
        loop {
            let page = self.runtime.block_on(self.client.page(before))?;
            for (i, file) in page.files.iter().enumerate() {
                if json {
                    text += if i > 0 || before.is_some() { "," } else { "" };
                    text += &plain_json(&serde_json::to_string(file)?);
                } else {
                    text += &describe(file);
                    text.push('\n');
                }
            }
            before = page.next;
            if before.is_none() {
                break;
            }
            print_text(&text);
            text.clear();
        }
        text += if json { "]\n" } else { "" };
        print_text(&text);
        Ok(())
    }

    /// Lets `receive` write a GLB to `out`, and prints its hash and size: to standard error if the GLB goes to standard output.
    pub(super) fn write_glb(
        &mut self,
        out: Option<&Target>,
        json: bool,
        receive: impl FnOnce(&mut Self, &mut Sink) -> anyhow::Result<(Hash, u64)>,
    ) -> anyhow::Result<()> {
        let out = out.context("the command has no output")?;
        let mut sink = out.create()?;
        let (hash, bytes) = receive(self, &mut sink)?;
        sink.commit()
            .with_context(|| format!("cannot write \"{}\"", out.path().display()))?;
        let path = out.path();
        let answer = json!({"hash": hash, "out": path, "bytes": bytes});
        let text = || format!("wrote {} ({bytes} bytes)\nhash  {hash}", path.display());
        if out.is_standard_output() {
            tell!("{}", text());
            return Ok(());
        }
        print(json, &answer, text)
    }
}

fn describe(file: &FileEntry) -> String {
    let public = if file.public { "public" } else { "private" };
    format!(
        "{}  {:>11}  {public:>7}  {}  {}",
        file.hash,
        file.size,
        plain(&file.created_at),
        plain(&file.name)
    )
}

fn password(user: &str, args: &ServerArgs) -> anyhow::Result<String> {
    if args.password_stdin {
        let mut line = String::new();
        io::stdin()
            .read_line(&mut line)
            .context("cannot read the password")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    if let Ok(password) = std::env::var("VGGT_PASSWORD") {
        return Ok(password);
    }
    if !io::stdin().is_terminal() {
        let fix = "cannot prompt for the password without a terminal: set VGGT_PASSWORD or use --password-stdin";
        return Err(UsageError(fix.to_owned()).into());
    }
    rpassword::prompt_password(format!("password of {user}: ")).context("cannot read the password")
}
