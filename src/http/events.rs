//! What happens to a job, as it happens: `text/event-stream`, which the `EventSource` of browsers reads.
//!
//! A stream is fed by the job's own notifications, not by the database. It is slower than they are: what changes in between is told
//! with the next event, and a peer that does not read keeps no more than one.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response, Sse, sse::Event},
};
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    App,
    auth::Caller,
    blocking,
    connection::Peer,
    input::Key,
    jobs::{Job, no_such_job},
    problem::{Code, Problem},
};
use crate::{
    jobs::{Following, ListedJob, OwnJob},
    peers::NoPlace,
    store::Draft,
};

/// Shortest time between two events: a bar that moves five times in a second looks smooth.
const SPACING: Duration = Duration::from_millis(200);

/// Time between two signs of life, at each of which the login is checked: proxies close a silent connection after 60 s (nginx, HAProxy
/// and AWS by default), and a shorter stall timeout means that silence is noticed sooner.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Shortest heartbeat, whatever the stall timeout is.
const HEARTBEAT_MIN: Duration = Duration::from_millis(250);

/// When a browser comes back after a stream was cut off. Browsers have 3 to 5 s of their own, which not all say.
const RETRY: Duration = Duration::from_secs(3);

/// Time between two looks at the row of a job that this process does not run yet, as the watcher of the rows has it.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes of an event's id: as many of a SHA-256 as make a coincidence out of the question.
const ID_LEN: usize = 12;

/// Follows a job: an event `status` with the job as `GET /api/v1/jobs/{id}` has it, now and with each change, until it has ended; an
/// event `stopping` when the server stops.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/events", operation_id = "follow_job", tag = "jobs",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that the client has; it is not told again"),
    ),
    responses(
    (status = 200, description = "Server-sent events: `status`, whose data is the job as JSON, and `stopping`",
        body = String, content_type = "text/event-stream"),
    (status = 204, description = "The job has ended, and the client knows how: an `EventSource` does not come back"),
    (status = 404, description = "`not_found`: the user has no such job", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_events`: too many streams of the user, or of all; ask for the job instead",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn follow(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    caller: Caller,
    Key(id): Key,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = headers.get("last-event-id");
    let seen = seen.and_then(|seen| seen.to_str().ok()).map(str::to_owned);
    let (found, following) = look(&app, caller.user.id, id)
        .await?
        .ok_or_else(no_such_job)?;
    if found.is_final() && seen.is_some() && seen == told(&found).map(|(id, _)| id) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let user = caller.user.id;
    peer.place.follow_job(user).map_err(too_many)?;
    peer.expect_little();
    let heartbeat = (app.peers.limits.stall / 2).clamp(HEARTBEAT_MIN, HEARTBEAT);
    let now = Instant::now();
    let stream = Stream {
        stopped: app.stopped.clone(),
        app,
        caller,
        id,
        found,
        following,
        seen,
        begun: false,
        over: false,
        heartbeat,
        next_beat: now + heartbeat,
        next_event: now,
        next_look: now + LOOK,
    };
    let events = stream::unfold(stream, |mut stream| async {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let headers = [
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // Else nginx collects some kilobytes before it passes anything on.
        ("x-accel-buffering", "no"),
        // Its place is one of event streams until its end.
        (header::CONNECTION.as_str(), "close"),
    ];
    Ok((headers, Sse::new(events)).into_response())
}

fn too_many(e: NoPlace) -> Problem {
    let what = match e {
        NoPlace::EventsOfUser(_) => "of your event streams",
        _ => "event streams",
    };
    let detail = format!("too many {what} are open; ask for the job from time to time instead");
    Problem::new(Code::TooManyEvents, detail)
}

/// Returns a job and what tells of its changes, as long as it has not ended.
async fn look(
    app: &App,
    user: i32,
    id: i64,
) -> Result<Option<(Found, Option<Following>)>, Problem> {
    let jobs = app.jobs.clone();
    blocking(move || {
        if let Some(draft) = jobs.draft(user, id)? {
            let name = jobs.name_of_draft(&draft);
            return Ok(Some((Found::Uploading(draft, name), None)));
        }
        // Before the row is read: of a job that ends in between it says so.
        let following = jobs.follow(user, id);
        let found = jobs.find(user, id)?;
        Ok(found.map(|own| (Found::Job(Box::new(own)), following)))
    })
    .await?
}

/// A job as its rows have it.
enum Found {
    /// With the name that its user gave it.
    Uploading(Draft, Option<String>),
    Job(Box<OwnJob>),
}

impl Found {
    fn is_final(&self) -> bool {
        match self {
            Self::Uploading(..) => false,
            Self::Job(own) => own.job.status.state.is_final(),
        }
    }
}

/// Returns the JSON of a job, and an id that another state does not have and the same state has after a restart of the server too.
fn told(found: &Found) -> Option<(String, String)> {
    let job = match found {
        Found::Uploading(draft, name) => Job::uploading(draft, name.clone()),
        Found::Job(own) => Job::from((**own).clone()),
    };
    let json = serde_json::to_string(&job).ok()?;
    let digest = Sha256::digest(&json);
    let id = digest.iter().take(ID_LEN).map(|byte| format!("{byte:02x}"));
    Some((id.collect(), json))
}

/// What ended a wait.
enum Woken {
    Changed,
    Beat,
    Stopped,
}

/// A stream of events.
struct Stream {
    app: App,
    caller: Caller,
    id: i64,
    /// The job as it was when its row was read.
    found: Found,
    /// `None`: the row has to be looked at.
    following: Option<Following>,
    /// The id of what the client knows.
    seen: Option<String>,
    begun: bool,
    over: bool,
    heartbeat: Duration,
    next_beat: Instant,
    next_event: Instant,
    /// Of a job that is not followed.
    next_look: Instant,
    stopped: watch::Receiver<bool>,
}

impl Stream {
    /// Waits for the next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        if !self.begun {
            self.begun = true;
            return Some(Event::default().retry(RETRY));
        }
        while !self.over {
            let is_final = self.found.is_final();
            let (id, json) = told(&self.found)?;
            if self.seen.as_ref() != Some(&id) {
                self.seen = Some(id.clone());
                self.over = is_final;
                self.next_event = Instant::now() + SPACING;
                return Some(Event::default().event("status").id(id).data(json));
            }
            if is_final {
                return None;
            }
            match self.wait().await {
                Woken::Changed => self.update().await?,
                Woken::Beat => {
                    self.next_beat = Instant::now() + self.heartbeat;
                    if !self.may_go_on().await {
                        return None;
                    }
                    return Some(Event::default().comment("alive"));
                }
                Woken::Stopped => {
                    self.over = true;
                    return Some(Event::default().event("stopping").data("{}"));
                }
            }
        }
        None
    }

    /// Waits for a change, but not less than the time between two events. Loses none when a sign of life comes first.
    async fn wait(&mut self) -> Woken {
        let (next_event, next_look) = (self.next_event, self.next_look);
        let following = &mut self.following;
        // A change that is told of while this sleeps is not lost when the sleep is: nobody has taken it yet.
        let changed = async {
            sleep_until(next_event).await;
            match following {
                // An error would mean that nobody changes it any more.
                Some(following) => drop(following.changes().changed().await),
                None => sleep_until(next_look).await,
            }
        };
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|stopped| *stopped) => Woken::Stopped,
            () = sleep_until(self.next_beat) => Woken::Beat,
            () = changed => Woken::Changed,
        }
    }

    /// Brings the job up to date; `None` when it is gone.
    async fn update(&mut self) -> Option<()> {
        if let (Some(following), Found::Job(own)) = (&mut self.following, &mut self.found) {
            let status = following.status();
            if !status.state.is_final() {
                own.job = ListedJob {
                    status,
                    ..own.job.clone()
                };
                return Some(());
            }
        }
        // The row also has the result, and the time.
        let found = look(&self.app, self.caller.user.id, self.id).await;
        (self.found, self.following) = found.ok()??;
        self.next_look = Instant::now() + LOOK;
        Some(())
    }

    /// Returns false once the session or the token has ended.
    async fn may_go_on(&self) -> bool {
        let store = self.app.store.clone();
        let (user, token) = (self.caller.user.clone(), self.caller.token.id);
        let holds = blocking(move || {
            let user = store.user_of_session(user.id, &user.stamp)?;
            user.map_or(Ok(false), |user| store.holds_token(user.id, token))
        });
        match holds.await {
            Ok(Ok(holds)) => holds,
            // A database that fails now may answer at the next look.
            Ok(Err(e)) => {
                tracing::warn!("cannot look whether a login still holds: {e}");
                true
            }
            Err(_) => false,
        }
    }
}
