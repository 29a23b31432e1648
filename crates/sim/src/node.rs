//! A node: the real dispatcher over the real store.
//!
//! Owns what the server's driver owns: the messages to the dispatcher in their order, the destinations it was told
//! of, the snapshot of the topology; and the node's clock. Must not decide anything. What is done with an effect
//! stands in `driver`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hookfast_engine::dispatch::{Dispatcher, Input, Limits};
use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::Topology;
use hookfast_store::{ClaimedDelivery, Slots};
use parking_lot::Mutex;

use crate::storage::Opened;

/// What reaches a node's driver.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Input(Input),
    Attempt(Vec<ClaimedDelivery>),
    LookEverywhere,
}

/// The delivery side as the store sees it.
pub(crate) struct Side {
    pub(crate) dispatcher: Mutex<Dispatcher>,
    told: Mutex<Vec<Message>>,
}

impl Side {
    pub(crate) fn new() -> Arc<Self> {
        // Few slots, so that sharing them is exercised.
        let limits = Limits {
            attempts: 40,
            bytes: 8 << 20,
        };
        Arc::new(Self {
            dispatcher: Mutex::new(Dispatcher::new(limits)),
            told: Mutex::default(),
        })
    }

    /// What the store told since the last call. It may tell of several destinations in any order, so they are put
    /// into one that does not depend on the store's insides.
    pub(crate) fn take_told(&self) -> Vec<Message> {
        let mut told = std::mem::take(&mut *self.told.lock());
        told.sort_by_key(|message| match message {
            Message::Input(Input::Waiting { destination, due_at }) => Some((*destination, *due_at)),
            Message::Input(_) | Message::Attempt(_) | Message::LookEverywhere => None,
        });
        told
    }
}

impl Slots for Side {
    fn reserve(&self, now: Timestamp, destination: DestinationId, bytes: usize) -> bool {
        self.dispatcher.lock().reserve(now, destination, bytes)
    }

    fn give_back(&self, destination: DestinationId, bytes: usize) {
        let message = Message::Input(Input::GivenBack { destination, bytes });
        self.told.lock().push(message);
    }

    fn hand_over(&self, claimed: Vec<ClaimedDelivery>) {
        self.told.lock().push(Message::Attempt(claimed));
    }

    fn waiting(&self, destination: DestinationId, due_at: Timestamp) {
        let message = Message::Input(Input::Waiting { destination, due_at });
        self.told.lock().push(message);
    }
}

/// One node. What belongs to an earlier life of it is void.
pub(crate) struct Node {
    pub(crate) life: u64,
    /// None while its process is dead.
    pub(crate) process: Option<Process>,
    /// How far its clock is ahead of the truth, in microseconds.
    pub(crate) ahead: i64,
}

/// A node's process.
pub(crate) struct Process {
    pub(crate) side: Arc<Side>,
    pub(crate) opened: Opened,
    pub(crate) inbox: VecDeque<Message>,
    /// The push destinations that the dispatcher was told are open.
    pub(crate) open: BTreeSet<DestinationId>,
    /// The snapshot.
    pub(crate) topology: Arc<Topology>,
    /// When it wakes up next, in true time.
    pub(crate) wakes_at: Option<Timestamp>,
}

impl Process {
    pub(crate) fn post(&mut self, message: Message) {
        self.inbox.push_back(message);
    }
}

impl Node {
    /// The time by the node's own clock.
    pub(crate) fn local(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros().saturating_add(self.ahead))
    }

    /// The time as the node uses it: its own clock, put right by what it knows of the one that all nodes share.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        let local = self.local(now);
        match &self.process {
            Some(process) => process.opened.shared_time(local),
            None => local,
        }
    }
}
