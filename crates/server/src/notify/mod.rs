//! Notices of a destination's health by e-mail (SPEC O7).
//!
//! Owns when a letter is tried, again or no more, and that one letter in trouble holds up no other. All but
//! `owed` knows no store: [`run`] is told what waits and says what is done with, so a notice waits there until then.

mod message;
mod mime;
mod owed;
mod smtp;

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use message::{Change, Letter, Words, words};
pub use mime::{Mail, compose};
pub use owed::mail_what_is_owed;
pub use smtp::{Mailer, Session, Unavailable, Verdict};

use crate::clock::{Clock, Stopwatch};
use crate::telemetry::{Mailed, Metrics};

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long a recipient is tried whom the server puts off every time, as mail servers do it among each other
/// (RFC 5321 section 4.5.4.1 asks for four or five days).
const PATIENCE: Duration = Duration::from_secs(4 * 24 * 60 * 60);
/// Waiting letters are looked for this often even if nobody tells of a new one.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long to wait after so many failures in a row: 1 s, doubling to 5 min.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    Duration::from_secs(u64::from(failures.min(1)) << doublings).min(LONGEST_PAUSE)
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Every recipient has it or never will: there is nothing left to do.
    Done,
    /// It waits, and is worth another try after this time.
    Later(Duration),
}

/// Sends letters and remembers how far each of them got.
///
/// What it remembers is in memory: after a restart a letter may reach a recipient again, with the same Message-ID.
#[derive(Debug)]
pub struct Notifier {
    mailer: Option<Arc<Mailer>>,
    metrics: Metrics,
    clock: Clock,
    session: Option<Session>,
    /// The pause that the server as a whole is left alone for.
    server: Pause,
    letters: HashMap<u128, Begun>,
}

/// How far a letter got.
#[derive(Debug)]
struct Begun {
    /// The recipients that are done with, by their place in the letter.
    done: BTreeSet<usize>,
    /// The pause after some of the others were put off.
    pause: Pause,
    /// Runs since somebody was put off for the first time.
    put_off: Option<Stopwatch>,
}

/// A pause that grows with each failure.
#[derive(Debug)]
struct Pause {
    failures: u32,
    since: Stopwatch,
}

impl Pause {
    fn none(clock: Clock) -> Self {
        Self {
            failures: 0,
            since: clock.start(),
        }
    }

    fn failed(&mut self, clock: Clock) {
        self.failures = self.failures.saturating_add(1);
        self.since = clock.start();
    }

    fn left(&self) -> Duration {
        backoff(self.failures).saturating_sub(self.since.elapsed())
    }
}

impl Notifier {
    /// A notifier that mails by `mailer`. Without one, letters are done with as soon as they are there: the change
    /// that each tells of can be seen, and subscribed to, in other ways.
    #[must_use]
    pub fn new(mailer: Option<Mailer>, metrics: Metrics, clock: Clock) -> Self {
        if mailer.is_none() {
            tracing::debug!("smtp.url is not set: notices are not mailed");
        }
        Self {
            mailer: mailer.map(Arc::new),
            metrics,
            clock,
            session: None,
            server: Pause::none(clock),
            letters: HashMap::new(),
        }
    }

    /// Sends `letter` to those of its recipients who do not have it yet, if it is time for that.
    pub async fn send(&mut self, letter: &Letter) -> Progress {
        let Some(mailer) = self.mailer.clone() else {
            return Progress::Done;
        };
        let clock = self.clock;
        let mut begun = self.letters.remove(&letter.id).unwrap_or_else(|| Begun {
            done: BTreeSet::new(),
            pause: Pause::none(clock),
            put_off: None,
        });
        let progress = match self.server.left().max(begun.pause.left()) {
            Duration::ZERO => self.send_now(&mailer, letter, &mut begun).await,
            pause => Progress::Later(pause),
        };
        self.letters.insert(letter.id, begun);
        progress
    }

    async fn send_now(&mut self, mailer: &Arc<Mailer>, letter: &Letter, begun: &mut Begun) -> Progress {
        let words = words(letter);
        let given_up = begun.put_off.is_some_and(|since| since.elapsed() >= PATIENCE);
        let mut deferred = false;
        for (place, recipient) in letter.recipients.iter().enumerate() {
            if begun.done.contains(&place) {
                continue;
            }
            let verdict = match compose(letter, &words, mailer.from(), place) {
                Ok(mail) => match self.send_mail(mailer, &mail).await {
                    Ok(verdict) => verdict,
                    Err(unavailable) => return self.server_failed(&unavailable),
                },
                Err(problem) => Verdict::Refused(problem),
            };
            match verdict {
                Verdict::Deferred(answer) if !given_up => {
                    self.count("deferred");
                    tracing::info!(
                        destination.name = letter.name,
                        recipient,
                        answer,
                        "a notice was put off; it is sent again later"
                    );
                    deferred = true;
                    continue;
                }
                Verdict::Sent => {
                    self.count("sent");
                    tracing::debug!(destination.name = letter.name, recipient, "a notice was mailed");
                }
                Verdict::Refused(answer) | Verdict::Deferred(answer) => {
                    self.count("refused");
                    tracing::warn!(
                        destination.name = letter.name,
                        recipient,
                        answer,
                        "a notice cannot be mailed to this recipient and is given up; see notification_email_addresses of the destination"
                    );
                }
            }
            begun.done.insert(place);
        }
        if !deferred {
            return Progress::Done;
        }
        begun.put_off.get_or_insert_with(|| self.clock.start());
        begun.pause.failed(self.clock);
        Progress::Later(begun.pause.left())
    }

    /// Sends one mail in the session that is open, or in a new one.
    async fn send_mail(&mut self, mailer: &Arc<Mailer>, mail: &Mail) -> Result<Verdict, Unavailable> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => mailer.open().await?,
        };
        let verdict = session.send(mail).await?;
        self.session = Some(session);
        self.server = Pause::none(self.clock);
        Ok(verdict)
    }

    fn server_failed(&mut self, unavailable: &Unavailable) -> Progress {
        self.count("unavailable");
        self.server.failed(self.clock);
        let pause = self.server.left();
        tracing::warn!(
            error = %unavailable,
            retry_after.s = pause.as_secs_f64().ceil(),
            "notices cannot be mailed and wait"
        );
        Progress::Later(pause)
    }

    fn count(&self, result: &'static str) {
        self.metrics.mails.get_or_create(&Mailed { result }).inc();
    }

    /// Forgets every letter but those that still wait.
    pub fn keep_only(&mut self, waiting: &[Letter]) {
        let waiting: BTreeSet<u128> = waiting.iter().map(|letter| letter.id).collect();
        self.letters.retain(|id, _| waiting.contains(id));
    }

    /// Ends the session, where one is open: there is nothing to send for now.
    pub async fn rest(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

/// Sends what `waiting` gives, oldest first, until it is dropped.
///
/// `waiting` gives nothing where what waits cannot be told just now. `done` records that a letter is done with and
/// says whether that worked; a letter for which it did not is not sent again for that. `changed` tells that there
/// may be a new letter.
pub async fn run<W, D>(
    mut notifier: Notifier,
    changed: &Notify,
    waiting: impl Fn() -> W,
    done: impl Fn(u128) -> D,
) where
    W: Future<Output = Option<Vec<Letter>>>,
    D: Future<Output = bool>,
{
    loop {
        let mut pause = LOOK_EVERY;
        let mut some_done = false;
        if let Some(letters) = waiting().await {
            notifier.keep_only(&letters);
            for letter in &letters {
                match notifier.send(letter).await {
                    Progress::Done => some_done |= done(letter.id).await,
                    Progress::Later(after) => pause = pause.min(after),
                }
            }
        }
        if some_done {
            // There may be more than were given at once.
            continue;
        }
        notifier.rest().await;
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_one_second_to_five_minutes() {
        let pauses: Vec<u64> = (0..12).map(|failures| backoff(failures).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff(u32::MAX), LONGEST_PAUSE);
    }
}
