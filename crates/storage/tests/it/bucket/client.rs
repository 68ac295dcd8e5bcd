//! The bucket as one process sees it, with one thing that goes wrong.
//!
//! Owns: which request it happens to, and how: the answer, whether it was done, whether the process is there afterwards.
//! Does not own: what requests do (see `world`), what a process asks for (see `life`).

use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use pintail_storage::blob::{Answer, Blob, Fault, Meta, Object, ObjectKey, Page, PartTag, Reach, UploadId};
use tokio::time::Instant;

use super::world::{Reply, Request, World};

/// What happens at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The process is killed before it.
    CrashBefore,
    /// The process is killed after it was done.
    CrashAfter,
    /// It is done, and no answer comes.
    AnswerLost,
    /// It is done and answered 5xx, and sent again before anybody hears of that: the second answer is the one that is heard.
    DoneTwice,
    /// It is not done. A creation is told that something is there (S3's retryable 409), any other that there are too many requests.
    NotDone,
    /// It is not done, and never answered: whatever else goes on does, and then the process is killed.
    HangBefore,
    /// As that, but it is done.
    HangAfter,
    /// The process is killed before it; it is still under way, and done when the next process has ended.
    Late,
    /// The process is stopped before it, and goes on when another one has started, committed and stopped.
    Stopped,
    /// All uploads that are not completed expire before it.
    Expired,
    /// The bucket is put back before it to the copy that somebody made, or emptied if there is none.
    PutBack,
    /// The bucket is away, and was put back in that way when it is asked again.
    Away,
}

/// What became of the process by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Running,
    Killed,
    Stopped,
}

/// How long a bucket is away that is put back meanwhile.
const AWAY: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct State {
    event: Option<(usize, Event)>,
    asked: Vec<Request>,
    standing: Standing,
    waiting: Vec<Waker>,
}

/// The bucket of one process.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    world: Arc<Mutex<World>>,
    state: Arc<Mutex<State>>,
    /// The time of the server when the process started, and that of the runtime.
    began: (DateTime<Utc>, Instant),
}

impl Client {
    /// Connects a process, to which something happens at the request of a number, counted from 0.
    pub(crate) fn new(world: Arc<Mutex<World>>, event: Option<(usize, Event)>) -> Self {
        let began = (world.lock().unwrap().now, Instant::now());
        let state = State { event, asked: Vec::new(), standing: Standing::Running, waiting: Vec::new() };
        Self { world, state: Arc::new(Mutex::new(state)), began }
    }

    /// Returns the bucket, for what a mutant does to it.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Returns the requests so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.state.lock().unwrap().asked.clone()
    }

    pub(crate) fn standing(&self) -> Standing {
        self.state.lock().unwrap().standing
    }

    /// Lets the process go on after it was stopped.
    pub(crate) fn go_on(&self) {
        let mut state = self.state.lock().unwrap();
        state.standing = Standing::Running;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    fn end(&self, standing: Standing) {
        self.state.lock().unwrap().standing = standing;
    }

    /// Passes once the process runs.
    async fn running(&self) {
        poll_fn(|context| {
            let mut state = self.state.lock().unwrap();
            if state.standing == Standing::Running {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Counts a request. Returns what happens at it.
    fn count(&self, request: &Request) -> Option<Event> {
        let mut state = self.state.lock().unwrap();
        let number = state.asked.len();
        state.asked.push(request.clone());
        state.event.filter(|(at, _)| *at == number).map(|(_, event)| event)
    }

    fn apply(&self, request: &Request) -> Result<Reply, Fault> {
        let mut world = self.world.lock().unwrap();
        let passed = TimeDelta::from_std(self.began.1.elapsed()).unwrap();
        world.now = world.now.max(self.began.0 + passed);
        world.apply(request)
    }

    async fn send(&self, request: Request) -> Result<Reply, Fault> {
        self.running().await;
        let never = std::future::pending::<Result<Reply, Fault>>;
        match self.count(&request) {
            None => self.apply(&request),
            Some(Event::CrashBefore) => {
                self.end(Standing::Killed);
                never().await
            }
            Some(Event::CrashAfter) => {
                let _ = self.apply(&request);
                self.end(Standing::Killed);
                never().await
            }
            Some(Event::AnswerLost) => {
                let _ = self.apply(&request);
                Err(Fault::Unknown("no answer".into()))
            }
            Some(Event::DoneTwice) => {
                let _ = self.apply(&request);
                self.apply(&request)
            }
            Some(Event::NotDone) if matches!(request, Request::PutIfAbsent(..)) => Err(Fault::Exists),
            Some(Event::NotDone) => Err(Fault::Throttled(None)),
            Some(Event::HangBefore) => never().await,
            Some(Event::HangAfter) => {
                let _ = self.apply(&request);
                never().await
            }
            Some(Event::Late) => {
                self.world.lock().unwrap().late = Some(request);
                self.end(Standing::Killed);
                never().await
            }
            Some(Event::Stopped) => {
                self.end(Standing::Stopped);
                self.running().await;
                self.apply(&request)
            }
            Some(Event::Expired) => {
                self.world.lock().unwrap().expire();
                self.apply(&request)
            }
            Some(Event::Away) => {
                self.world.lock().unwrap().put_back();
                Err(Fault::Throttled(Some(AWAY)))
            }
            Some(Event::PutBack) => {
                self.world.lock().unwrap().put_back();
                self.apply(&request)
            }
        }
    }

    fn ask<T>(&self, request: Request, take: impl FnOnce(Reply) -> Option<T> + Send + 'static) -> Answer<'_, T> {
        Box::pin(async move { Ok(take(self.send(request).await?).expect("each request has answers of its own kind")) })
    }
}

impl Blob for Client {
    fn get<'a>(&'a self, key: &'a ObjectKey, range: Range<u64>) -> Answer<'a, Option<Object>> {
        self.ask(Request::Get(key.to_string(), range), |reply| if let Reply::Object(object) = reply { Some(object) } else { None })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, Option<Meta>> {
        self.ask(Request::Head(key.to_string()), |reply| if let Reply::Meta(meta) = reply { Some(meta) } else { None })
    }

    fn put_if_absent<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        self.ask(Request::PutIfAbsent(key.to_string(), bytes), |_| Some(()))
    }

    fn replace<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        self.ask(Request::Replace(key.to_string(), bytes), |_| Some(()))
    }

    fn create_upload<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, UploadId> {
        self.ask(Request::CreateUpload(key.to_string()), |reply| if let Reply::Upload(id) = reply { Some(id) } else { None })
    }

    fn put_part<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, index: usize, bytes: Bytes) -> Answer<'a, PartTag> {
        let request = Request::PutPart(key.to_string(), upload.0.clone(), index, bytes);
        self.ask(request, |reply| if let Reply::Part(tag) = reply { Some(tag) } else { None })
    }

    fn complete<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, parts: &'a [PartTag]) -> Answer<'a, ()> {
        let parts = parts.iter().map(|part| part.0.clone()).collect();
        self.ask(Request::Complete(key.to_string(), upload.0.clone(), parts), |_| Some(()))
    }

    fn list(&self, at_most: usize) -> Answer<'_, Vec<ObjectKey>> {
        self.ask(Request::List(at_most), |reply| if let Reply::Keys(keys) = reply { Some(keys) } else { None })
    }

    fn abort<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId) -> Answer<'a, ()> {
        self.ask(Request::Abort(key.to_string(), upload.0.clone()), |_| Some(()))
    }

    fn page<'a>(&'a self, dir: &'a str, reach: Reach, page: Option<String>) -> Answer<'a, Page> {
        self.ask(Request::Page(dir.to_owned(), reach, page), |reply| if let Reply::Page(page) = reply { Some(page) } else { None })
    }
}
