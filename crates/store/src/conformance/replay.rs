//! Replays: what they take, how they go on, and what they leave alone.

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::health::Health;
use hookfast_engine::id::EventId;

use super::{Bench, answered, at, page};
use crate::{EventFilter, NewReplay, Replay, ReplaySelection, ReplayState};

impl Bench {
    fn new_replay(&self, selection: ReplaySelection, seconds: u64) -> NewReplay {
        NewReplay {
            id: self.replay_id(),
            application: self.application,
            selection,
            rate: 100,
            new_id: false,
            created_at: at(seconds),
        }
    }

    async fn step(&self, replay: &Replay, seconds: u64, limit: u32) -> Replay {
        let stepped = self.store.step_replay(replay.new.id, at(seconds), limit);
        stepped.await.unwrap().expect("the job")
    }

    /// Starts a replay and takes it to its end.
    async fn replay_all(&self, selection: ReplaySelection, seconds: u64) -> Replay {
        let new = self.new_replay(selection, seconds);
        let mut replay = self.store.start_replay(new).await.unwrap();
        assert_eq!((replay.state, replay.looked_at), (ReplayState::Running, 0));
        for _ in 0..100 {
            if replay.state != ReplayState::Running {
                break;
            }
            replay = self.step(&replay, seconds, 2).await;
        }
        assert_eq!(
            (replay.state, replay.ended_at),
            (ReplayState::Done, Some(at(seconds)))
        );
        replay
    }

    async fn delivered(&self, destination: hookfast_engine::id::DestinationId, seconds: u64) -> EventId {
        let event = self.append("a", seconds).await;
        self.deliver(destination, seconds, answered(200)).await;
        event
    }
}

pub async fn a_replay_makes_settled_deliveries_due_again_under_the_same_id(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let first = bench.delivered(destination, 0).await;
    let second = bench.delivered(destination, 1).await;
    bench.waiting().await;
    let replay = bench.replay_all(ReplaySelection::default(), 10).await;
    assert_eq!((replay.total, replay.looked_at), (2, 2));
    assert_eq!((replay.replayed, replay.skipped), (2, 0));
    assert!(bench.waiting().await.contains(&(destination, at(10))));
    let delivery = bench.delivery(first, destination).await;
    assert_eq!(
        (delivery.state, delivery.due_at),
        (DeliveryState::Pending, Some(at(10)))
    );
    assert_eq!(
        (delivery.progress.replay, delivery.settled_at),
        (Some(replay.new.id), None)
    );
    let claimed = bench.claim(destination, 10, 10).await.deliveries;
    let ids: Vec<EventId> = claimed.iter().map(|it| it.event.id).collect();
    assert_eq!(ids, [first, second]);
    assert_eq!(claimed[0].attempt, 2);
    assert_eq!(claimed[0].replay, Some((replay.new.id, None)));
}

pub async fn a_replay_with_new_ids_shows_each_event_under_one_other_id(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let events = [
        bench.delivered(destination, 0).await,
        bench.delivered(destination, 1).await,
    ];
    let mut shown = std::collections::BTreeSet::new();
    for seconds in [10, 20] {
        let mut new = bench.new_replay(ReplaySelection::default(), seconds);
        new.new_id = true;
        let replay = bench.store.start_replay(new).await.unwrap();
        bench.step(&replay, seconds, 10).await;
        for _ in 0..2 {
            let first = bench.claim_one(destination, seconds).await;
            let (job, id) = first.replay.unwrap();
            assert_eq!(job, replay.new.id);
            assert!(shown.insert(id.unwrap()), "another id for each job and event");
            bench
                .store
                .extend(first.id, first.attempt, at(seconds))
                .await
                .unwrap();
            let again = bench.store.delivery(first.id).await.unwrap().unwrap().0;
            assert_eq!(again.event, first.event.id);
            bench.end(&first, seconds, answered(200)).await;
        }
    }
    assert!(events.iter().all(|event| !shown.contains(event)));
}

pub async fn the_shown_id_of_a_replay_stays_over_attempts(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.delivered(destination, 0).await;
    let mut new = bench.new_replay(ReplaySelection::default(), 10);
    new.new_id = true;
    let replay = bench.store.start_replay(new).await.unwrap();
    bench.step(&replay, 10, 10).await;
    let first = bench.claim_one(destination, 10).await;
    bench.end(&first, 10, answered(500)).await;
    bench.reopen(11).await;
    let second = bench.claim_one(destination, 100).await;
    assert_eq!(second.replay, first.replay);
}

pub async fn a_replay_takes_what_its_filter_names(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let mut events = Vec::new();
    for (seconds, event_type) in [(0, "a.x"), (10, "a.y"), (20, "b.x"), (30, "a.x")] {
        events.push(bench.append(event_type, seconds).await);
        bench.deliver(destination, seconds, answered(200)).await;
    }
    let selection = ReplaySelection {
        events: EventFilter {
            event_type: Some("a.*".into()),
            from: Some(at(10)),
            until: Some(at(30)),
            ..EventFilter::default()
        },
        ..ReplaySelection::default()
    };
    let replay = bench.replay_all(selection, 50).await;
    assert_eq!((replay.total, replay.looked_at, replay.replayed), (1, 1, 1));
    let selection = ReplaySelection {
        event: Some(events[3]),
        ..ReplaySelection::default()
    };
    let replay = bench.replay_all(selection, 51).await;
    assert_eq!((replay.total, replay.replayed), (1, 1));
    let claimed = bench.claim(destination, 60, 10).await.deliveries;
    let ids: Vec<EventId> = claimed.iter().map(|it| it.event.id).collect();
    assert_eq!(ids, [events[1], events[3]]);
}

pub async fn a_replay_by_state_takes_only_deliveries_in_that_state(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.delivered(destination, 0).await;
    let rejected = bench.append("a", 1).await;
    bench.deliver(destination, 1, answered(410)).await;
    let selection = ReplaySelection {
        state: Some(DeliveryState::Rejected),
        ..ReplaySelection::default()
    };
    let replay = bench.replay_all(selection, 10).await;
    assert_eq!((replay.looked_at, replay.replayed, replay.skipped), (2, 1, 0));
    assert_eq!(bench.claim_one(destination, 10).await.event.id, rejected);
}

pub async fn a_replay_to_another_destination_makes_deliveries_there_alone(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.delivered(destination, 0).await;
    let another = bench.push("another", &["never"]).await;
    let selection = ReplaySelection {
        destination: Some(another),
        ..ReplaySelection::default()
    };
    let replay = bench.replay_all(selection.clone(), 10).await;
    assert_eq!(replay.replayed, 1);
    assert_eq!(bench.state(event, destination).await, DeliveryState::Delivered);
    let claimed = bench.claim_one(another, 10).await;
    assert_eq!((claimed.event.id, claimed.attempt), (event, 1));
    let in_state = ReplaySelection {
        state: Some(DeliveryState::Delivered),
        ..selection
    };
    let replay = bench.replay_all(in_state.clone(), 11).await;
    assert_eq!((replay.replayed, replay.skipped), (0, 0), "it is in flight there");
    bench.end(&claimed, 12, answered(200)).await;
    assert_eq!(bench.replay_all(in_state, 13).await.replayed, 1);
}

pub async fn a_replay_skips_what_waits_or_is_in_flight(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let waiting = bench.append("a", 0).await;
    bench.append("a", 1).await;
    bench.deliver(destination, 0, answered(500)).await;
    bench.claim_one(destination, 1).await;
    let before = bench.delivery(waiting, destination).await;
    let replay = bench.replay_all(ReplaySelection::default(), 10).await;
    assert_eq!((replay.looked_at, replay.replayed, replay.skipped), (2, 0, 2));
    assert_eq!(bench.delivery(waiting, destination).await, before);
}

pub async fn a_replay_goes_on_where_it_stopped_after_reopening(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    for seconds in 0..5 {
        bench.delivered(destination, seconds).await;
    }
    let new = bench.new_replay(ReplaySelection::default(), 10);
    let replay = bench.store.start_replay(new).await.unwrap();
    let replay = bench.step(&replay, 10, 2).await;
    assert_eq!((replay.looked_at, replay.replayed), (2, 2));
    bench.deliver(destination, 10, answered(200)).await;
    bench.reopen(11).await;
    assert_eq!(
        bench.store.replay(replay.new.id).await.unwrap(),
        Some(replay.clone())
    );
    let replay = bench.step(&replay, 11, 2).await;
    assert_eq!((replay.looked_at, replay.state), (4, ReplayState::Running));
    let replay = bench.step(&replay, 12, 2).await;
    let replay = bench.step(&replay, 13, 2).await;
    assert_eq!(
        (replay.looked_at, replay.replayed),
        (5, 5),
        "nothing is replayed twice"
    );
    assert_eq!(replay.state, ReplayState::Done);
}

pub async fn a_cancelled_replay_does_nothing_more(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    for seconds in 0..3 {
        bench.delivered(destination, seconds).await;
    }
    let new = bench.new_replay(ReplaySelection::default(), 10);
    let replay = bench.store.start_replay(new).await.unwrap();
    bench.step(&replay, 10, 1).await;
    let cancelled = bench
        .store
        .cancel_replay(replay.new.id, at(11))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (cancelled.state, cancelled.ended_at),
        (ReplayState::Cancelled, Some(at(11)))
    );
    assert_eq!(bench.step(&replay, 12, 10).await, cancelled);
    assert_eq!(bench.claim(destination, 20, 10).await.deliveries.len(), 1);
    let again = bench.store.cancel_replay(replay.new.id, at(13)).await.unwrap();
    assert_eq!(again, Some(cancelled));
}

pub async fn a_dry_run_counts_what_is_then_replayed(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.delivered(destination, 0).await;
    bench.append("a", 1).await;
    bench.deliver(destination, 1, answered(410)).await;
    bench.append("a", 2).await;
    let second = bench.push("second", &["*"]).await;
    bench.append("a", 3).await;
    let states = [None, Some(DeliveryState::Rejected), Some(DeliveryState::Pending)];
    for state in states {
        for destination in [None, Some(second)] {
            let selection = ReplaySelection {
                state,
                destination,
                ..ReplaySelection::default()
            };
            let count = bench.store.count_replay(selection.clone()).await.unwrap();
            let replay = bench.replay_all(selection, 10).await;
            assert_eq!(count.events, replay.total);
            assert_eq!(count.events, replay.looked_at);
            assert_eq!(
                (count.deliveries, count.skipped),
                (replay.replayed, replay.skipped)
            );
        }
    }
}

pub async fn events_accepted_after_the_replay_was_asked_for_are_left_out(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.delivered(destination, 0).await;
    let new = bench.new_replay(ReplaySelection::default(), 10);
    let replay = bench.store.start_replay(new).await.unwrap();
    bench.delivered(destination, 11).await;
    let replay = bench.step(&replay, 12, 10).await;
    assert_eq!((replay.state, replay.looked_at), (ReplayState::Done, 1));
}

pub async fn a_replay_leaves_the_health_of_a_working_destination_alone(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let mut event = bench.new_destination("fresh", &["never"]);
    event.policy = "inbox".into();
    let fresh = bench.put_destination(event).await;
    bench.delivered(destination, 0).await;
    let selection = ReplaySelection {
        destination: Some(fresh),
        ..ReplaySelection::default()
    };
    bench.replay_all(selection, 10).await;
    bench.deliver(fresh, 10, answered(500)).await;
    assert_eq!(bench.store.health(fresh).await.unwrap(), Health::default());
}

pub async fn a_replay_touches_nothing_of_another_application_or_a_deleted_destination(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.delivered(destination, 0).await;
    let (other, its_source) = bench.second_application().await;
    let mut foreign = bench.new_destination("foreign", &["*"]);
    (foreign.application, foreign.sources) = (other, vec![its_source]);
    let foreign = bench.put_destination(foreign).await;
    let selection = ReplaySelection {
        destination: Some(foreign),
        ..ReplaySelection::default()
    };
    let replay = bench.replay_all(selection, 10).await;
    assert_eq!((replay.replayed, replay.skipped), (0, 0));
    let mut new = bench.new_replay(ReplaySelection::default(), 11);
    new.application = other;
    let replay = bench.store.start_replay(new).await.unwrap();
    assert_eq!(replay.total, 0);
    assert_eq!(bench.step(&replay, 11, 10).await.state, ReplayState::Done);
    bench.delete(destination).await;
    let replay = bench.replay_all(ReplaySelection::default(), 12).await;
    assert_eq!((replay.replayed, replay.skipped), (0, 0));
    assert_eq!(bench.state(event, destination).await, DeliveryState::Delivered);
}

pub async fn replays_are_listed_newest_first(bench: &mut Bench) {
    let mut started = Vec::new();
    for seconds in 0..3 {
        let new = bench.new_replay(ReplaySelection::default(), seconds);
        started.insert(0, bench.store.start_replay(new).await.unwrap());
    }
    let first = bench.store.replays(page(2)).await.unwrap();
    let mut rest = page(2);
    rest.cursor = first.next_cursor;
    let second = bench.store.replays(rest).await.unwrap();
    assert_eq!([first.items, second.items].concat(), started);
    assert_eq!(second.next_cursor, None);
    assert_eq!(bench.store.replay(bench.replay_id()).await.unwrap(), None);
    assert_eq!(
        bench
            .store
            .step_replay(bench.replay_id(), at(9), 1)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        bench.store.cancel_replay(bench.replay_id(), at(9)).await.unwrap(),
        None
    );
}
