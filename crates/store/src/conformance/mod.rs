//! The suite that every store passes.
//!
//! Owns the named cases, each a sentence about [`Store`], and the bench they stand on. Must not know any
//! store: a store plugs in with a [`Fixture`] and [`conformance_suite!`](crate::conformance_suite), which
//! makes one test of each case. After each case the store's own check must find nothing.
#![expect(
    clippy::unwrap_used,
    missing_docs,
    reason = "this is test code, and the names of its cases are sentences"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hookfast_engine::delivery::{DeliveryKey, DeliveryState};
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{
    ApplicationId, DeliveryId, DestinationId, EventId, QuarantineId, ReplayId, SourceId,
};
use hookfast_engine::outcome::Outcome;
use hookfast_engine::retry::{Policy, Schedule};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    Application, Destination, DestinationKind, DestinationStatus, Source, TopologyChange, Verify,
};
use parking_lot::Mutex;

use crate::{
    Appended, Attempt, AttemptEnd, Claim, Claimed, ClaimedDelivery, Dedupe, DeliveryFilter, DeliverySummary,
    NewEvent, Page, Retention, Settled, Slots, Store,
};

pub mod append;
pub mod claim;
pub mod differential;
pub mod health;
pub mod lists;
pub mod prune;
pub mod quarantine;
pub mod replay;
pub mod settle;
pub mod topology;

/// A store under test: how it is opened, and opened again on the same data.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens an empty store.
    async fn open(&self, slots: Arc<dyn Slots>, now: Timestamp) -> Arc<dyn Store>;

    /// Closes `store`, which [`Fixture::open`] or this gave, and opens what it stored again.
    async fn reopen(&self, store: Arc<dyn Store>, slots: Arc<dyn Slots>, now: Timestamp) -> Arc<dyn Store>;
}

/// The fixture of the memory model.
#[derive(Debug, Default)]
pub struct MemoryFixture(Mutex<Option<Arc<crate::memory::MemoryStore>>>);

#[async_trait]
impl Fixture for MemoryFixture {
    async fn open(&self, slots: Arc<dyn Slots>, _: Timestamp) -> Arc<dyn Store> {
        let store = crate::memory::MemoryStore::new(slots);
        *self.0.lock() = Some(store.clone());
        store
    }

    async fn reopen(&self, _: Arc<dyn Store>, slots: Arc<dyn Slots>, now: Timestamp) -> Arc<dyn Store> {
        let mut open = self.0.lock();
        let store = open.as_ref().unwrap().crash(slots, now);
        *open = Some(store.clone());
        store
    }
}

/// A delivery side that remembers what it was told. It has no free slots until it is given some.
#[derive(Debug, Default)]
pub struct Recorder {
    free: AtomicUsize,
    asked: Mutex<Vec<DestinationId>>,
    handed_over: Mutex<Vec<ClaimedDelivery>>,
    waiting: Mutex<Vec<(DestinationId, Timestamp)>>,
}

impl Recorder {
    pub fn set_free(&self, slots: usize) {
        self.free.store(slots, Ordering::SeqCst);
    }

    /// Which destinations it was asked for since the last call.
    pub fn take_asked(&self) -> Vec<DestinationId> {
        std::mem::take(&mut self.asked.lock())
    }

    pub fn take_handed_over(&self) -> Vec<ClaimedDelivery> {
        std::mem::take(&mut self.handed_over.lock())
    }

    pub fn take_waiting(&self) -> Vec<(DestinationId, Timestamp)> {
        std::mem::take(&mut self.waiting.lock())
    }
}

impl Slots for Recorder {
    fn reserve(&self, _: Timestamp, destination: DestinationId, _: usize) -> bool {
        self.asked.lock().push(destination);
        let take_one = |free: usize| free.checked_sub(1);
        self.free
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one)
            .is_ok()
    }

    fn give_back(&self, _: DestinationId, _: usize) {
        self.free.fetch_add(1, Ordering::SeqCst);
    }

    fn hand_over(&self, claimed: Vec<ClaimedDelivery>) {
        self.handed_over.lock().extend(claimed);
    }

    fn waiting(&self, destination: DestinationId, due_at: Timestamp) {
        self.waiting.lock().push((destination, due_at));
    }
}

/// When every case begins.
pub const START: Timestamp = Timestamp::from_secs(1_790_000_000);

/// `seconds` after [`START`].
#[must_use]
pub fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

/// How long the bench's claims are leased, in seconds.
pub const LEASE: u64 = 60;
/// A day, in seconds.
pub const DAY: u64 = 86_400;
/// How long things are kept, where a case does not say.
pub const RETENTION: Retention = Retention {
    settled: Duration::from_secs(30 * DAY),
    dead: Duration::from_secs(90 * DAY),
    waiting: Duration::from_secs(30 * DAY),
    quarantine: Duration::from_secs(7 * DAY),
};

/// What a case stands on: an open store with one application and one source of it.
pub struct Bench {
    fixture: Box<dyn Fixture>,
    pub store: Arc<dyn Store>,
    pub slots: Arc<Recorder>,
    pub application: ApplicationId,
    pub source: SourceId,
    ids: AtomicU64,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bench").finish_non_exhaustive()
    }
}

impl Bench {
    pub async fn new(fixture: Box<dyn Fixture>) -> Self {
        let slots = Arc::new(Recorder::default());
        let store = fixture.open(slots.clone(), START).await;
        Self {
            fixture,
            ..Self::over(store, slots).await
        }
    }

    /// A bench over an empty store that is never opened again.
    pub async fn over(store: Arc<dyn Store>, slots: Arc<Recorder>) -> Self {
        let bench = Self {
            fixture: Box::new(MemoryFixture::default()),
            store,
            slots,
            application: ApplicationId::new(START, 1),
            source: SourceId::new(START, 1),
            ids: AtomicU64::new(1),
        };
        bench
            .put(vec![
                TopologyChange::PutApplication(application(bench.application, "default")),
                TopologyChange::PutSource(source(bench.source, bench.application, "orders")),
            ])
            .await;
        bench
    }

    /// What must hold at the end of each case.
    pub async fn finish(self) {
        assert_eq!(self.store.check().await.unwrap(), Vec::<String>::new());
        self.store.close().await;
    }

    pub async fn reopen(&mut self, seconds: u64) {
        let slots = self.slots.clone();
        self.store = self.fixture.reopen(self.store.clone(), slots, at(seconds)).await;
    }

    /// Returns once the delivery side was told of every write that returned: another write has to return.
    async fn told(&self) {
        let nobodys = DeliveryId::of_key(START, DeliveryKey::from_i64(1 << 50));
        assert!(!self.store.extend(nobodys, 1, START).await.unwrap());
    }

    /// Which destinations the delivery side was asked for a slot of since the last call.
    pub async fn asked(&self) -> Vec<DestinationId> {
        self.told().await;
        self.slots.take_asked()
    }

    /// What the delivery side was handed over since the last call.
    pub async fn handed_over(&self) -> Vec<ClaimedDelivery> {
        self.told().await;
        self.slots.take_handed_over()
    }

    /// What the delivery side was told to wait for since the last call.
    pub async fn waiting(&self) -> Vec<(DestinationId, Timestamp)> {
        self.told().await;
        self.slots.take_waiting()
    }

    fn next_id(&self) -> u128 {
        self.ids.fetch_add(1, Ordering::SeqCst).into()
    }

    pub async fn put(&self, changes: Vec<TopologyChange>) {
        let changed = self.store.change_topology(START, "test".into(), changes).await;
        changed.unwrap();
    }

    /// A destination as [`Bench::push`] makes it, not yet put.
    pub fn new_destination(&self, name: &str, trigger_types: &[&str]) -> Destination {
        let kind = DestinationKind::Push {
            url: "https://example.test/hook".into(),
        };
        let id = DestinationId::new(START, self.next_id());
        Destination {
            sources: vec![self.source],
            trigger_types: trigger_types.iter().map(|&pattern| pattern.into()).collect(),
            concurrency: 8,
            ..Destination::new(id, self.application, name, kind, START)
        }
    }

    /// An open push destination of the source, with the policy `inbox`.
    pub async fn push(&self, name: &str, trigger_types: &[&str]) -> DestinationId {
        self.put_destination(self.new_destination(name, trigger_types))
            .await
    }

    pub async fn pull(&self, name: &str) -> DestinationId {
        let mut destination = self.new_destination(name, &["*"]);
        destination.kind = DestinationKind::Pull;
        self.put_destination(destination).await
    }

    pub async fn put_destination(&self, destination: Destination) -> DestinationId {
        let id = destination.id;
        self.put(vec![TopologyChange::PutDestination(destination)]).await;
        id
    }

    pub async fn change(&self, id: DestinationId, change: impl FnOnce(&mut Destination)) {
        let mut destination = self.store.topology().destinations[&id].clone();
        change(&mut destination);
        self.put_destination(destination).await;
    }

    pub async fn pause(&self, id: DestinationId) {
        self.change(id, |it| it.status = DestinationStatus::Paused).await;
    }

    pub async fn resume(&self, id: DestinationId) {
        self.change(id, |it| it.status = DestinationStatus::Active).await;
    }

    pub async fn delete(&self, id: DestinationId) {
        self.change(id, |it| it.deleted_at = Some(START)).await;
    }

    /// An event of the source, with a body of 7 bytes and without a dedupe key.
    pub fn event(&self, event_type: &str, seconds: u64) -> NewEvent {
        NewEvent {
            event: Arc::new(Event {
                id: EventId::new(at(seconds), self.next_id()),
                application: self.application,
                source: self.source,
                provider_id: None,
                event_type: Some(event_type.into()),
                occurred_at: None,
                accepted_at: at(seconds),
                headers: HeaderBlock::pack([(&b"Content-Type"[..], &b"application/json"[..])]),
                body: Bytes::from_static(b"{\"a\":1}"),
            }),
            dedupe: None,
            lease_margin: Duration::from_secs(5),
        }
    }

    /// The same event with a dedupe key, recognised for a week.
    pub fn keyed(&self, key: u8, body: u8, seconds: u64) -> NewEvent {
        let mut new = self.event("order.created", seconds);
        new.dedupe = Some(Dedupe {
            key: [key; 16],
            body: [body; 8],
            expires_at: at(seconds + 7 * DAY),
        });
        new
    }

    /// Appends an event that is accepted.
    pub async fn accept(&self, new: NewEvent) -> EventId {
        let id = new.event.id;
        let appended = self.store.append(new).await.unwrap();
        assert!(matches!(appended, Appended::Accepted { .. }), "{appended:?}");
        id
    }

    pub async fn append(&self, event_type: &str, seconds: u64) -> EventId {
        self.accept(self.event(event_type, seconds)).await
    }

    pub async fn claim(&self, destination: DestinationId, seconds: u64, limit: u32) -> Claimed {
        let claim = Claim {
            destination,
            now: at(seconds),
            due_from: None,
            limit,
            bytes: usize::MAX,
            lease: Duration::from_secs(LEASE),
        };
        self.store.claim(claim).await.unwrap()
    }

    /// The one delivery that a claim gives.
    pub async fn claim_one(&self, destination: DestinationId, seconds: u64) -> ClaimedDelivery {
        let mut claimed = self.claim(destination, seconds, 1).await;
        claimed.deliveries.pop().expect("something to claim")
    }

    pub async fn end(&self, claimed: &ClaimedDelivery, seconds: u64, outcome: Outcome) -> Settled {
        let end = attempt_end(claimed, at(seconds), outcome);
        self.store.settle(end).await.unwrap()
    }

    /// Claims and ends one delivery at once.
    pub async fn deliver(&self, destination: DestinationId, seconds: u64, outcome: Outcome) -> Settled {
        let claimed = self.claim_one(destination, seconds).await;
        self.end(&claimed, seconds, outcome).await
    }

    /// The delivery of `event` to `destination`.
    pub async fn delivery(&self, event: EventId, destination: DestinationId) -> DeliverySummary {
        let stored = self.store.event(event).await.unwrap().expect("the event");
        let mut of_event = stored.deliveries.into_iter();
        let found = of_event.find(|delivery| delivery.destination == destination);
        found.expect("a delivery to the destination")
    }

    pub async fn state(&self, event: EventId, destination: DestinationId) -> DeliveryState {
        self.delivery(event, destination).await.state
    }

    /// Every delivery of a filter, over all pages.
    pub async fn all_deliveries(&self, filter: DeliveryFilter) -> Vec<DeliverySummary> {
        let mut all = Vec::new();
        let mut page = Page {
            limit: 100,
            cursor: None,
        };
        loop {
            let listed = self.store.deliveries(filter.clone(), page.clone()).await.unwrap();
            all.extend(listed.items);
            page.cursor = listed.next_cursor;
            if page.cursor.is_none() {
                return all;
            }
        }
    }

    pub fn replay_id(&self) -> ReplayId {
        ReplayId::new(START, self.next_id())
    }

    pub fn quarantine_id(&self) -> QuarantineId {
        QuarantineId::new(START, self.next_id())
    }

    /// A second application with a source of its own.
    pub async fn second_application(&self) -> (ApplicationId, SourceId) {
        let (other, its_source) = (ApplicationId::new(START, 2), SourceId::new(START, 2));
        self.put(vec![
            TopologyChange::PutApplication(application(other, "other")),
            TopologyChange::PutSource(source(its_source, other, "invoices")),
        ])
        .await;
        (other, its_source)
    }
}

/// The end of the attempt that `claimed` began.
#[must_use]
pub fn attempt_end(claimed: &ClaimedDelivery, now: Timestamp, outcome: Outcome) -> AttemptEnd {
    AttemptEnd {
        delivery: claimed.id,
        token: claimed.attempt,
        now,
        attempt: Attempt {
            number: claimed.attempt,
            started_at: now,
            duration: Duration::from_millis(12),
            outcome,
            error: None,
            response_headers: HeaderBlock::pack([(&b"Server"[..], &b"test"[..])]),
            response_body: Bytes::from_static(b"\xffanswer\x00"),
        },
    }
}

#[must_use]
pub fn answered(status: u16) -> Outcome {
    Outcome::Answered {
        status,
        retry_after: None,
    }
}

#[must_use]
pub fn page(limit: u32) -> Page {
    Page { limit, cursor: None }
}

#[must_use]
pub fn application(id: ApplicationId, name: &str) -> Application {
    Application::new(id, name, START)
}

#[must_use]
pub fn source(id: SourceId, application: ApplicationId, name: &str) -> Source {
    Source {
        verify: Verify::None,
        ..Source::new(id, application, name, "generic", START)
    }
}

/// A policy for random operations, `even`, without jitter: that depends on the numbers which a store gives. And
/// `watched`, the same with health windows in place of a breaker.
#[must_use]
pub fn policies() -> [Policy; 2] {
    let even = Policy {
        name: "even".into(),
        schedule: Schedule::Delays([2, 5].map(Duration::from_secs).to_vec()),
        jitter_percent: 0,
        ..Policy::inbox()
    };
    let watched = Policy {
        name: "watched".into(),
        breaker: false,
        health_windows: true,
        ..even.clone()
    };
    [even, watched]
}

/// Numbers that look like chance (`SplitMix64`); the same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut hash = self.0;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let bound = u64::try_from(from.len()).ok().filter(|length| *length > 0)?;
        from.get(usize::try_from(self.below(bound)).ok()?).cloned()
    }
}

/// Makes a module of tests, one of each case, for the stores that `$fixture` opens.
#[macro_export]
macro_rules! conformance_suite {
    ($module:ident, $fixture:expr) => {
        mod $module {
            use super::*;
            $crate::conformance_suite! { @cases $fixture;
                append::an_event_goes_to_each_destination_that_lists_its_type_and_to_no_other,
                append::an_event_without_a_type_goes_to_those_that_take_every_type,
                append::unrouted_events_are_kept_and_go_to_a_destination_that_is_added,
                append::routed_events_do_not_go_to_a_destination_that_is_added_later,
                append::changing_a_destination_gives_it_no_events_that_came_before,
                append::what_is_stored_is_what_came_byte_for_byte,
                append::a_repeat_is_answered_with_the_first_ones_id_and_delivered_once,
                append::a_repeat_after_the_window_is_a_new_event,
                append::other_keys_and_events_without_a_key_are_no_repeats,
                append::repeats_are_recognised_after_reopening,
                append::of_a_thousand_copies_at_once_exactly_one_is_accepted,
                append::a_delivery_is_born_in_flight_where_a_slot_is_free,
                append::paused_and_pull_destinations_are_not_asked_for_a_slot,
                append::a_repeat_takes_no_slot,
                append::many_appends_at_once_are_all_kept_in_one_order,
                claim::claims_come_oldest_due_first_and_then_in_acceptance_order,
                claim::a_claim_keeps_its_limit_and_says_what_is_next,
                claim::a_claim_keeps_its_bytes_but_gives_the_first_whatever_its_size,
                claim::a_claim_from_a_due_time_passes_over_the_backlog,
                claim::a_claim_begins_the_attempt_and_leases_it,
                claim::standings_say_what_waits_and_what_is_lost_and_nothing_of_what_is_under_way,
                claim::an_expired_lease_is_lost_and_claimed_again_with_the_next_token,
                claim::a_lease_that_ran_out_unclaimed_still_counts,
                claim::a_lease_is_extended_only_by_its_holder,
                claim::two_claims_at_once_never_give_the_same_delivery,
                claim::a_paused_destination_gives_nothing_and_holds_what_waits,
                claim::what_is_in_flight_when_its_destination_is_paused_settles_as_ever,
                claim::a_destination_that_does_not_exist_gives_nothing,
                claim::push_claims_are_lost_and_due_at_once_after_reopening,
                claim::lost_push_claims_go_before_an_older_backlog,
                claim::pull_leases_survive_reopening,
                settle::each_outcome_moves_the_delivery_as_its_policy_says,
                settle::a_delivery_is_dead_when_its_attempts_are_used_up,
                settle::attempts_are_kept_oldest_first_with_what_was_answered,
                settle::a_retry_survives_reopening,
                settle::a_stale_settlement_changes_nothing,
                settle::a_settlement_after_a_discard_is_stale,
                settle::two_settlements_at_once_count_once,
                settle::ten_failures_open_the_breaker_and_a_success_releases_what_waits_in_order,
                settle::health_survives_reopening,
                settle::a_retry_makes_all_but_delivered_and_in_flight_ones_due_in_a_new_round,
                settle::a_discard_gives_up_all_that_is_not_settled,
                settle::a_held_delivery_is_found_held_and_can_be_retried_and_discarded,
                settle::a_delivery_that_does_not_exist_is_nobodys,
                settle::what_waits_is_discarded_in_steps_and_nothing_else_is,
                settle::deleting_a_destination_gives_up_what_is_not_settled,
                health::a_destination_that_fails_for_72_hours_is_failing_then_failed_and_its_people_are_told,
                health::a_success_ends_failing_and_is_told,
                health::statuses_and_notices_survive_reopening,
                health::a_notice_is_owed_until_it_is_done,
                health::attempts_do_not_undo_a_pause,
                health::a_status_changes_although_the_clock_went_back,
                health::whoever_changes_a_destination_without_its_status_leaves_that_alone,
                health::what_is_said_of_destinations_goes_only_to_those_that_name_it,
                replay::a_replay_makes_settled_deliveries_due_again_under_the_same_id,
                replay::a_replay_with_new_ids_shows_each_event_under_one_other_id,
                replay::the_shown_id_of_a_replay_stays_over_attempts,
                replay::a_replay_takes_what_its_filter_names,
                replay::a_replay_by_state_takes_only_deliveries_in_that_state,
                replay::a_replay_to_another_destination_makes_deliveries_there_alone,
                replay::a_replay_skips_what_waits_or_is_in_flight,
                replay::a_replay_goes_on_where_it_stopped_after_reopening,
                replay::a_cancelled_replay_does_nothing_more,
                replay::a_dry_run_counts_what_is_then_replayed,
                replay::events_accepted_after_the_replay_was_asked_for_are_left_out,
                replay::a_replay_leaves_the_health_of_a_working_destination_alone,
                replay::a_replay_touches_nothing_of_another_application_or_a_deleted_destination,
                replay::replays_are_listed_newest_first,
                quarantine::what_is_quarantined_is_shown_whole_newest_first,
                quarantine::a_full_quarantine_refuses_the_newest_and_another_source_does_not_care,
                quarantine::quarantine_is_bounded_by_bytes_of_bodies_and_headers,
                quarantine::a_release_goes_through_dedupe_and_happens_once,
                quarantine::releases_at_once_accept_one,
                quarantine::quarantine_never_writes_a_dedupe_mark,
                quarantine::quarantine_and_refused_requests_are_filtered_by_source_and_application,
                quarantine::the_list_of_refused_requests_is_bounded_and_newest_first,
                topology::names_are_unique_and_a_deleted_name_is_free_again,
                topology::references_to_nothing_are_refused,
                topology::changes_are_made_all_or_none_and_in_any_order,
                topology::numbers_are_given_by_the_store_kept_on_update_and_never_used_again,
                topology::a_deleted_destination_stays_deleted_and_none_moves_between_applications,
                topology::the_topology_survives_reopening,
                topology::trigger_types_are_kept_by_application_and_removed,
                topology::what_an_application_publishes_goes_to_its_own_destinations_alone,
                topology::a_removed_source_leaves_its_events_and_its_destinations,
                topology::changes_at_once_are_made_one_after_the_other,
                lists::pages_cover_everything_once_while_events_come,
                lists::each_event_filter_takes_its_events_and_no_other,
                lists::what_comes_is_followed_oldest_first_in_pages,
                lists::each_delivery_filter_takes_its_deliveries_and_no_other,
                lists::summaries_show_what_was_stored,
                lists::a_page_has_at_least_one_item_and_at_most_a_thousand,
                lists::counts_add_up_and_each_routed_delivery_is_in_exactly_one_state,
                prune::settled_events_go_after_their_time_with_all_that_belongs_to_them,
                prune::marks_go_once_they_expired_and_not_before,
                prune::a_mark_outlives_its_event_until_it_expires,
                prune::what_waits_for_an_open_push_destination_is_spared_however_old,
                prune::dead_ones_are_kept_longer,
                prune::held_and_pull_ones_are_given_up_after_their_time_and_recorded,
                prune::unrouted_events_go_after_their_time,
                prune::quarantined_events_go_after_their_time,
                prune::each_step_is_bounded_and_the_rounds_reach_everything,
                prune::following_goes_on_after_the_followed_event_is_gone,
                differential::random_operations_agree_with_the_model_from_seed_1,
                differential::random_operations_agree_with_the_model_from_seed_2,
                differential::random_operations_agree_with_the_model_from_seed_3,
                differential::random_operations_agree_with_the_model_from_seed_4,
            }
        }
    };
    (@cases $fixture:expr; $($area:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let mut bench = $crate::conformance::Bench::new(Box::new($fixture)).await;
                $crate::conformance::$area::$case(&mut bench).await;
                bench.finish().await;
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_case_is_in_the_suite() {
        let areas = [
            ("append", include_str!("append.rs")),
            ("claim", include_str!("claim.rs")),
            ("settle", include_str!("settle.rs")),
            ("health", include_str!("health.rs")),
            ("replay", include_str!("replay.rs")),
            ("quarantine", include_str!("quarantine.rs")),
            ("topology", include_str!("topology.rs")),
            ("lists", include_str!("lists.rs")),
            ("prune", include_str!("prune.rs")),
            ("differential", include_str!("differential.rs")),
        ];
        let suite = include_str!("mod.rs");
        for (area, text) in areas {
            for line in text.lines() {
                let case = line
                    .strip_prefix("pub async fn ")
                    .and_then(|rest| rest.split('(').next());
                if let Some(case) = case {
                    assert!(
                        suite.contains(&format!("{area}::{case},")),
                        "{area}::{case} is missing"
                    );
                }
            }
        }
    }
}
