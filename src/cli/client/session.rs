//! The connection of one command: password, login, and the output file.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use super::{super::resolver, UsageError, describe_state, print};
use crate::cli::{
    plain::{plain, plain_json, plain_lines},
    terminal::{print_text, tell},
};
use crate::{
    client::{Client, ClientError, ClientSettings},
    output::{Sink, Target},
    protocol::{
        ErrorCode, FileEntry, Hash, JobEntry, JobStateReply, JobStatusReply, ReconstructionOptions,
    },
};

/// Where a server is, and who logs in there.
pub(in crate::cli) struct Login {
    pub(in crate::cli) host: String,
    pub(in crate::cli) port: u16,
    /// Name and password.
    user: Option<(String, String)>,
    /// Longest wait for a job.
    timeout: Duration,
}

impl Login {
    /// Takes the password from standard input, the environment or the terminal, if there is a user.
    pub(in crate::cli) fn new(
        (host, port): (String, u16),
        user: Option<&str>,
        password_stdin: bool,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let with_password = |name: &str| Ok((name.to_owned(), password(name, password_stdin)?));
        let user: anyhow::Result<_> = user.map(with_password).transpose();
        Ok(Self {
            host,
            port,
            user: user?,
            timeout,
        })
    }
}

/// A GLB that was fetched.
pub(in crate::cli) struct Fetched {
    pub(in crate::cli) hash: Hash,
    pub(in crate::cli) bytes: u64,
    /// Its job; `None` from a server without jobs.
    pub(in crate::cli) job: Option<i64>,
}

/// A connection, logged in if there is a user.
pub(in crate::cli) struct Session {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    /// `None` without a login.
    pub(super) is_vip: Option<bool>,
    /// Longest wait for a job.
    pub(super) timeout: Duration,
}

/// What is sent for a reconstruction.
pub(in crate::cli) enum Input<'a> {
    Images(&'a [PathBuf]),
    Video(&'a Path),
}

/// Longest JSON of names that is sent with the options: a request other than an upload has 64 KiB.
const NAMES_MAX: usize = 48 << 10;

impl Session {
    /// Connects, and logs in if there is a user.
    pub(in crate::cli) fn open(to: &Login) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the client")?;
        let settings = ClientSettings {
            reconstruction: to.timeout,
            resolver: resolver()?,
            ..ClientSettings::default()
        };
        let client = runtime.block_on(Client::connect(&to.host, to.port, settings))?;
        let mut session = Self {
            runtime,
            client,
            is_vip: None,
            timeout: to.timeout,
        };
        if let Some((name, password)) = &to.user {
            let login = session.client.login(name, password);
            session.is_vip = Some(session.runtime.block_on(login)?);
        }
        Ok(session)
    }

    /// Sends an input, follows its job and writes the GLB. To a server without jobs, as the older service, the same in one
    /// request.
    pub(super) fn reconstruct(
        &mut self,
        input: &Input<'_>,
        options: ReconstructionOptions,
        out: Option<&Target>,
        json: bool,
    ) -> anyhow::Result<()> {
        if self.knows_jobs()? {
            self.check_login()?;
            let job = self.submit(input, options)?.job;
            return self.fetch_result(job, out, json);
        }
        self.set_options(options)?;
        self.write_glb(out, json, None, |s, file| {
            let glb = s.without_jobs(input, file)?;
            Ok((glb.hash, glb.bytes))
        })
    }

    /// As [`Session::reconstruct`], into a file.
    pub(in crate::cli) fn reconstruct_into(
        &mut self,
        input: &Input<'_>,
        options: ReconstructionOptions,
        file: &mut impl io::Write,
    ) -> anyhow::Result<Fetched> {
        if !self.knows_jobs()? {
            self.set_options(options)?;
            return self.without_jobs(input, file);
        }
        self.check_login()?;
        let job = self.submit(input, options)?.job;
        let hash = self.hash_of(job)?;
        let bytes = self.runtime.block_on(self.client.get(&hash, file))?;
        let job = Some(job);
        Ok(Fetched { hash, bytes, job })
    }

    /// Has an input reconstructed in one request.
    fn without_jobs(
        &mut self,
        input: &Input<'_>,
        file: &mut impl io::Write,
    ) -> anyhow::Result<Fetched> {
        let glb = match input {
            Input::Images(paths) => self.runtime.block_on(self.client.images(paths, file))?,
            Input::Video(path) => self.runtime.block_on(self.client.video(path, file))?,
        };
        Ok(Fetched {
            hash: glb.hash,
            bytes: glb.bytes,
            job: None,
        })
    }

    fn knows_jobs(&mut self) -> anyhow::Result<bool> {
        match self.runtime.block_on(self.client.info()) {
            Ok(_) => Ok(true),
            Err(e) if is_refused(&e, ErrorCode::UnknownCommand) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Fails when nobody is logged in, before anything large is sent. A server may continue an earlier login.
    pub(super) fn check_login(&mut self) -> anyhow::Result<()> {
        if self.is_vip.is_some() {
            return Ok(());
        }
        // No job has this number.
        match self.runtime.block_on(self.client.status(0)) {
            Err(e) if is_refused(&e, ErrorCode::JobNotFound) => Ok(()),
            Err(e) if is_refused(&e, ErrorCode::NotLoggedIn) => {
                Err(UsageError("the server wants a login: use --user NAME".to_owned()).into())
            }
            Err(e) => Err(e.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Submits an input as a job, with the names of its images.
    pub(super) fn submit(
        &mut self,
        input: &Input<'_>,
        mut options: ReconstructionOptions,
    ) -> anyhow::Result<JobStatusReply> {
        if let Input::Images(paths) = input {
            let names = Value::from_iter(paths.iter().map(|path| name_of(path)));
            if names.to_string().len() <= NAMES_MAX {
                options.fields.insert("names".to_owned(), names);
            }
        }
        match self.set_options(options.clone()) {
            // A server of an earlier version.
            Err(e) if options.fields.remove("names").is_some() && is_bad_request(&e) => {
                self.set_options(options)?;
            }
            set => set?,
        }
        let submitted = match input {
            Input::Images(paths) => self.runtime.block_on(self.client.submit_images(paths)),
            Input::Video(path) => self.runtime.block_on(self.client.submit_video(path)),
        };
        Ok(submitted?)
    }

    /// Submits a job once more, with other options; returns the new one's number.
    pub(super) fn rerun(
        &mut self,
        job: i64,
        options: ReconstructionOptions,
    ) -> anyhow::Result<i64> {
        self.set_options(options)?;
        Ok(self.runtime.block_on(self.client.rerun(job))?.job)
    }

    /// Follows a job and writes its GLB.
    pub(super) fn fetch_result(
        &mut self,
        job: i64,
        out: Option<&Target>,
        json: bool,
    ) -> anyhow::Result<()> {
        let hash = self.hash_of(job)?;
        self.write_glb(out, json, Some(job), |s, file| {
            let bytes = s.runtime.block_on(s.client.get(&hash, file))?;
            Ok((hash, bytes))
        })
    }

    /// Follows a job and returns the hash of its GLB.
    fn hash_of(&mut self, job: i64) -> anyhow::Result<Hash> {
        match self.follow(job)?.state {
            JobStateReply::Done { hash } => Ok(hash),
            JobStateReply::Failed { reason } => bail!("job {job} failed: {}", plain(&reason)),
            _ => bail!("job {job} was cancelled"),
        }
    }

    /// Sets the options that were given, if any.
    fn set_options(&mut self, options: ReconstructionOptions) -> anyhow::Result<()> {
        // An older server has no options: nothing is sent when there are none.
        if options != ReconstructionOptions::default() {
            self.runtime.block_on(self.client.options(&options))?;
        }
        Ok(())
    }

    /// Prints all jobs of the user, page by page.
    pub(super) fn jobs(&mut self, json: bool) -> anyhow::Result<()> {
        let (mut before, mut first) = (None, true);
        loop {
            let page = self.runtime.block_on(self.client.jobs(before))?;
            let mut text = if json && first { "[" } else { "" }.to_owned();
            for job in &page.jobs {
                if json {
                    text += if first { "" } else { "," };
                    text += &plain_json(&serde_json::to_string(job)?);
                } else {
                    text += &describe_job(job);
                    text.push('\n');
                }
                first = false;
            }
            before = page.next;
            text += if json && before.is_none() { "]\n" } else { "" };
            print_text(&text);
            if before.is_none() {
                return Ok(());
            }
        }
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
        job: Option<i64>,
        receive: impl FnOnce(&mut Self, &mut Sink) -> anyhow::Result<(Hash, u64)>,
    ) -> anyhow::Result<()> {
        let out = out.context("the command has no output")?;
        let mut sink = out.create()?;
        let (hash, bytes) = receive(self, &mut sink)?;
        sink.commit()
            .with_context(|| format!("cannot write \"{}\"", out.path().display()))?;
        let path = out.path();
        let mut answer = json!({"hash": hash, "out": path, "bytes": bytes});
        if let Some(job) = job {
            answer["job"] = job.into();
        }
        let text = || format!("wrote {} ({bytes} bytes)\nhash  {hash}", path.display());
        if out.is_standard_output() {
            tell!("{}", text());
            return Ok(());
        }
        print(json, &answer, text)
    }
}

/// The name of a file, as a server is told it.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let clean = |c: char| if c.is_control() { '?' } else { c };
    name.to_string_lossy()
        .chars()
        .take(255)
        .map(clean)
        .collect()
}

fn is_refused(e: &ClientError, code: ErrorCode) -> bool {
    e.refusal().is_some_and(|refusal| refusal.is(code))
}

fn is_bad_request(e: &anyhow::Error) -> bool {
    let refused = e.downcast_ref::<ClientError>();
    refused.is_some_and(|e| is_refused(e, ErrorCode::BadRequest))
}

/// A line: number, state, times, name, and the hash of the result.
fn describe_job(job: &JobEntry) -> String {
    let state = match &job.status.state {
        JobStateReply::Done { hash } => format!("done {hash}"),
        state => plain_lines(&describe_state(state)).replace('\n', " "),
    };
    let ended = job.finished_at.as_deref().unwrap_or("-");
    format!(
        "{:>6}  {}  {}  {}  {state}",
        job.status.job,
        plain(&job.created_at),
        plain(ended),
        plain(&job.name),
    )
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

fn password(user: &str, from_stdin: bool) -> anyhow::Result<String> {
    if from_stdin {
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
