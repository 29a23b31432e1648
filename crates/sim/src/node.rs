//! A node of the simulated world: the dispatcher and what reaches it.
//!
//! Owns the part that the server's driver plays: messages in their order, effects carried out one at a time.
//! Must not decide anything.

use std::collections::VecDeque;
use std::sync::Arc;

use hookfast_engine::dispatch::{Dispatcher, Input, Limits};
use hookfast_engine::id::DestinationId;
use hookfast_engine::time::Timestamp;
use hookfast_store::{ClaimedDelivery, Slots};
use parking_lot::Mutex;

/// What reaches a node's driver.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Input(Input),
    Attempt(Vec<ClaimedDelivery>),
}

/// A node's dispatcher with its inbox.
pub(crate) struct Node {
    pub(crate) dispatcher: Mutex<Dispatcher>,
    messages: Mutex<VecDeque<Message>>,
}

impl Node {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let dispatcher = Mutex::new(Dispatcher::new(limits));
        Arc::new(Self {
            dispatcher,
            messages: Mutex::default(),
        })
    }

    pub(crate) fn post(&self, message: Message) {
        self.messages.lock().push_back(message);
    }

    pub(crate) fn next(&self) -> Option<Message> {
        self.messages.lock().pop_front()
    }
}

impl Slots for Node {
    fn reserve(&self, now: Timestamp, destination: DestinationId, bytes: usize) -> bool {
        self.dispatcher.lock().reserve(now, destination, bytes)
    }

    fn give_back(&self, destination: DestinationId, bytes: usize) {
        self.post(Message::Input(Input::GivenBack { destination, bytes }));
    }

    fn hand_over(&self, claimed: Vec<ClaimedDelivery>) {
        self.post(Message::Attempt(claimed));
    }

    fn waiting(&self, destination: DestinationId, due_at: Timestamp) {
        self.post(Message::Input(Input::Waiting { destination, due_at }));
    }
}
