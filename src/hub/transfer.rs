//! Talking HTTP to the hub: what a file is, and its bytes from anywhere on.

use ureq::{Agent, Body, http::Response};

use super::{HubError, HubSettings, agent::agent};

/// The hub answers with one redirect, with a few after a repo was renamed.
const REDIRECTS: u32 = 5;
/// The list of a repo's files.
const MAX_LIST: u64 = 16 << 20;
/// No checkpoint of this family is larger; a size beyond it is a mistake.
const MAX_FILE: u64 = 1 << 40;
/// The hub keeps larger files in LFS, whose etag is the SHA-256; below, the size has to do.
const MAX_UNHASHED: u64 = 10 << 20;

/// What the hub says about a file.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) commit: String,
    /// Name of the blob; the SHA-256 of the bytes when it has 64 digits.
    pub(super) etag: String,
    pub(super) size: u64,
}

/// What the hub says about a repo.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub(super) files: Vec<String>,
    /// As the repo states it, in the hub's short form.
    pub(super) license: Option<String>,
}

/// One attempt's failure.
pub(super) enum Failed {
    /// Worth another attempt.
    Again {
        url: String,
        what: String,
    },
    For(HubError),
}

impl From<HubError> for Failed {
    fn from(e: HubError) -> Self {
        Self::For(e)
    }
}

pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Result<Self, HubError> {
        let wrong = |what, value: &str, expected| HubError::Setting {
            what,
            value: value.to_owned(),
            expected,
        };
        let endpoint = settings.endpoint.trim_end_matches('/');
        let token = settings.token.clone();
        let host = authority(endpoint);
        if host.is_none_or(|host| host.is_empty() || host.contains('@')) {
            let expected =
                "expected http:// or https:// and a host, such as https://huggingface.co";
            return Err(wrong("HF_ENDPOINT", endpoint, expected));
        }
        if token
            .as_ref()
            .is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(wrong(
                "HF_TOKEN",
                "(hidden)",
                "expected the bare token, without spaces or line breaks",
            ));
        }
        Ok(Self {
            agent: agent(settings)?,
            endpoint: endpoint.to_owned(),
            token,
        })
    }

    /// The files of a repo, and its license.
    pub(super) fn list(&self, repo: &str, revision: &str) -> Result<Listing, Failed> {
        #[derive(serde::Deserialize)]
        struct Info {
            siblings: Vec<Sibling>,
            #[serde(default)]
            tags: Vec<String>,
        }
        #[derive(serde::Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision_in_url = revision.replace('/', "%2F");
        let url = format!(
            "{}/api/models/{repo}/revision/{revision_in_url}",
            self.endpoint
        );
        let (url, mut answer) = self.follow(&url, |url| self.send(url, "GET", None))?;
        self.expect(
            &url,
            answer.status().as_u16(),
            &[200],
            repo,
            revision,
            "list of files",
        )?;
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_LIST)
            .read_to_vec();
        let text = text.map_err(|e| again(&url, e))?;
        let info: Info = serde_json::from_slice(&text).map_err(|e| odd(&url, e.to_string()))?;
        let license = info
            .tags
            .iter()
            .find_map(|tag| tag.strip_prefix("license:"));
        // A stranger's text for the terminal: a short word only.
        let license = license
            .filter(|license| license.len() <= 64 && license.bytes().all(|b| b.is_ascii_graphic()));
        Ok(Listing {
            license: license.map(str::to_owned),
            files: info.siblings.into_iter().map(|s| s.rfilename).collect(),
        })
    }

    /// What `file` is, without its bytes.
    pub(super) fn look(&self, repo: &str, revision: &str, file: &str) -> Result<Remote, Failed> {
        let mut url = self.address(repo, revision, file);
        for _ in 0..REDIRECTS {
            let answer = self.send(&url, "HEAD", None)?;
            let status = answer.status().as_u16();
            let header = |name: &str| {
                answer
                    .headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok())
            };
            // A redirect without a commit only says that the repo has another name now.
            if is_redirect(status) && header("x-repo-commit").is_none() {
                url = self.next(&url, header("location"))?;
                continue;
            }
            let expected = if is_redirect(status) { status } else { 200 };
            self.expect(&url, status, &[expected], repo, revision, file)?;
            let missing = |name: &str| odd(&url, format!("no usable {name}"));
            let word = |value: &&str| {
                (20..=128).contains(&value.len())
                    && value.bytes().all(|b| b.is_ascii_alphanumeric())
            };
            let commit = header("x-repo-commit")
                .filter(word)
                .ok_or_else(|| missing("x-repo-commit"))?;
            let etag = header("x-linked-etag").or(header("etag")).map(bare);
            let etag = etag.filter(word).ok_or_else(|| missing("etag"))?;
            let plain = (status == 200).then(|| header("content-length")).flatten();
            let size = header("x-linked-size")
                .or(plain)
                .and_then(|size| size.parse().ok());
            let size = size
                .filter(|size| *size <= MAX_FILE)
                .ok_or_else(|| missing("size"))?;
            if etag.len() != 64 && size > MAX_UNHASHED {
                return Err(odd(&url, format!("{size} bytes without a SHA-256")).into());
            }
            return Ok(Remote {
                commit: commit.to_owned(),
                etag: etag.to_owned(),
                size,
            });
        }
        Err(odd(&url, "too many redirects".to_owned()).into())
    }

    /// The bytes of `file` from `start` on, and where they really start.
    pub(super) fn bytes(
        &self,
        repo: &str,
        remote: &Remote,
        file: &str,
        start: u64,
    ) -> Result<(String, Body, u64), Failed> {
        // By commit: the branch may have moved since.
        let url = self.address(repo, &remote.commit, file);
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let (url, answer) = self.follow(&url, |url| self.send(url, "GET", range.as_deref()))?;
        let status = answer.status().as_u16();
        self.expect(&url, status, &[200, 206], repo, &remote.commit, file)?;
        if status == 200 {
            return Ok((url, answer.into_body(), 0));
        }
        let said = answer
            .headers()
            .get("content-range")
            .and_then(|value| value.to_str().ok());
        let wanted = format!(
            "bytes {start}-{}/{}",
            remote.size.saturating_sub(1),
            remote.size
        );
        if said != Some(&wanted) {
            return Err(odd(
                &url,
                format!("content-range {said:?} instead of {wanted:?}"),
            )
            .into());
        }
        Ok((url, answer.into_body(), start))
    }

    fn address(&self, repo: &str, revision: &str, file: &str) -> String {
        format!(
            "{}/{repo}/resolve/{}/{file}",
            self.endpoint,
            revision.replace('/', "%2F")
        )
    }

    /// Repeats `send` along redirects; gives the last address and its answer.
    fn follow(
        &self,
        url: &str,
        send: impl Fn(&str) -> Result<Response<Body>, Failed>,
    ) -> Result<(String, Response<Body>), Failed> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let answer = send(&url)?;
            if !is_redirect(answer.status().as_u16()) {
                return Ok((url, answer));
            }
            url = self.next(
                &url,
                answer
                    .headers()
                    .get("location")
                    .and_then(|v| v.to_str().ok()),
            )?;
        }
        Err(odd(&url, "too many redirects".to_owned()).into())
    }

    /// Where a redirect from `url` leads.
    fn next(&self, url: &str, location: Option<&str>) -> Result<String, HubError> {
        let scheme = url.split("//").next().unwrap_or_default();
        let to = match location {
            Some(path) if path.starts_with("//") => format!("{scheme}{path}"),
            Some(path) if path.starts_with('/') => {
                format!("{scheme}//{}{path}", authority(url).unwrap_or_default())
            }
            Some(whole) if authority(whole).is_some() => whole.to_owned(),
            _ => return Err(odd(url, "a redirect to nowhere".to_owned())),
        };
        if url.starts_with("https:") && !to.starts_with("https:") {
            return Err(odd(url, "a redirect away from https".to_owned()));
        }
        Ok(to)
    }

    fn send(&self, url: &str, method: &str, range: Option<&str>) -> Result<Response<Body>, Failed> {
        let mut request = if method == "HEAD" {
            self.agent.head(url)
        } else {
            self.agent.get(url)
        };
        // Same scheme, host and port: the token is only for the hub.
        let home = url
            .strip_prefix(&self.endpoint)
            .is_some_and(|rest| rest.starts_with('/'));
        if let Some(token) = self.token.as_ref().filter(|_| home) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let answer = request.call().map_err(|e| again(url, e))?;
        match answer.status().as_u16() {
            status @ (408 | 429 | 500..=599) => Err(again(url, format!("status {status}"))),
            _ => Ok(answer),
        }
    }

    fn expect(
        &self,
        url: &str,
        status: u16,
        wanted: &[u16],
        repo: &str,
        revision: &str,
        what: &str,
    ) -> Result<(), HubError> {
        if wanted.contains(&status) {
            return Ok(());
        }
        let (repo, endpoint) = (repo.to_owned(), self.endpoint.clone());
        Err(match status {
            401 | 403 if self.token.is_none() => HubError::NoAccess { repo, endpoint },
            401 | 403 => HubError::Refused { repo, endpoint },
            404 => {
                let (revision, what) = (revision.to_owned(), what.to_owned());
                HubError::NotFound {
                    endpoint,
                    repo,
                    revision,
                    what,
                }
            }
            _ => odd(url, format!("status {status}")),
        })
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Host and port of an address.
fn authority(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    rest.split(['/', '?', '#']).next()
}

/// An etag without quotes and without the mark of a weak one.
fn bare(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// An address without its query: signed addresses carry a secret there.
pub(super) fn plain(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

fn odd(url: &str, what: String) -> HubError {
    HubError::Answer {
        url: plain(url),
        what,
    }
}

fn again(url: &str, what: impl ToString) -> Failed {
    Failed::Again {
        url: plain(url),
        what: what.to_string(),
    }
}
