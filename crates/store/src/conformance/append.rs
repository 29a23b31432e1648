//! Appending: routing, dedupe, being born in flight.

use std::sync::Arc;

use bytes::Bytes;
use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::DeliveryId;
use hookfast_engine::time::Timestamp;

use super::{Bench, DAY, answered, at, page};
use crate::{Appended, EventFilter, NewEvent, Slots};

pub async fn an_event_goes_to_each_destination_that_lists_its_type_and_to_no_other(bench: &mut Bench) {
    let every = bench.push("every", &["*"]).await;
    let prefix = bench.push("prefix", &["order.*"]).await;
    let exact = bench.push("exact", &["order.created", "order.*"]).await;
    bench.push("another", &["invoice.created", "orders.*"]).await;
    let new = bench.event("order.created", 0);
    let id = new.event.id;
    let appended = bench.store.append(new).await.unwrap();
    assert_eq!(appended, Appended::Accepted { deliveries: 3 });
    let stored = bench.store.event(id).await.unwrap().unwrap();
    let mut routed: Vec<_> = stored.deliveries.iter().map(|it| it.destination).collect();
    routed.sort();
    assert_eq!(routed, [every, prefix, exact]);
    for delivery in stored.deliveries {
        assert_eq!(delivery.state, DeliveryState::Pending);
        assert_eq!((delivery.accepted_at, delivery.due_at), (at(0), Some(at(0))));
        assert_eq!(delivery.id, DeliveryId::of_key(at(0), delivery.key));
    }
}

pub async fn an_event_without_a_type_goes_to_those_that_take_every_type(bench: &mut Bench) {
    bench.push("every", &["*"]).await;
    bench.push("typed", &["order.*"]).await;
    let mut new = bench.event("", 0);
    Arc::make_mut(&mut new.event).event_type = None;
    let appended = bench.store.append(new).await.unwrap();
    assert_eq!(appended, Appended::Accepted { deliveries: 1 });
}

pub async fn unrouted_events_are_kept_and_go_to_a_destination_that_is_added(bench: &mut Bench) {
    let first = bench.append("order.created", 0).await;
    let other = bench.append("invoice.created", 1).await;
    let unrouted = EventFilter {
        unrouted: true,
        ..EventFilter::default()
    };
    let before = bench.store.events(unrouted.clone(), page(10)).await.unwrap();
    assert_eq!(before.items.len(), 2);
    let added = bench.push("late", &["order.*"]).await;
    assert!(bench.waiting().await.contains(&(added, at(0))));
    assert_eq!(bench.state(first, added).await, DeliveryState::Pending);
    let after = bench.store.events(unrouted, page(10)).await.unwrap();
    let left: Vec<_> = after.items.iter().map(|event| event.id).collect();
    assert_eq!(left, [other]);
    assert_eq!(bench.claim_one(added, 5).await.event.id, first);
}

pub async fn routed_events_do_not_go_to_a_destination_that_is_added_later(bench: &mut Bench) {
    bench.push("early", &["*"]).await;
    bench.append("order.created", 0).await;
    let late = bench.push("late", &["*"]).await;
    assert!(bench.claim(late, 5, 10).await.deliveries.is_empty());
}

pub async fn changing_a_destination_gives_it_no_events_that_came_before(bench: &mut Bench) {
    let destination = bench.push("all", &["order.*"]).await;
    let event = bench.append("invoice.created", 0).await;
    let types = || vec!["*".to_owned()];
    bench.change(destination, |it| it.trigger_types = types()).await;
    bench.pause(destination).await;
    bench.resume(destination).await;
    assert!(
        bench
            .store
            .event(event)
            .await
            .unwrap()
            .unwrap()
            .deliveries
            .is_empty()
    );
    bench.append("invoice.created", 1).await;
    assert_eq!(bench.claim(destination, 1, 10).await.deliveries.len(), 1);
}

pub async fn what_is_stored_is_what_came_byte_for_byte(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let whole = Event {
        provider_id: Some("p-\u{1f980}".into()),
        event_type: Some("order.created".into()),
        occurred_at: Some(Timestamp::from_micros(-5)),
        headers: HeaderBlock::pack([(&b"X-Bin"[..], &b"\xff\x00"[..]), (b"x-bin", b"")]),
        body: Bytes::from((0..1_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>()),
        ..(*bench.event("", 1).event).clone()
    };
    let bare = Event {
        event_type: None,
        headers: HeaderBlock::default(),
        body: Bytes::new(),
        ..(*bench.event("", 2).event).clone()
    };
    for event in [&whole, &bare] {
        let new = NewEvent {
            event: Arc::new(event.clone()),
            ..bench.event("", 0)
        };
        bench.accept(new).await;
    }
    bench.reopen(3).await;
    for event in [whole, bare] {
        assert_eq!(*bench.store.event(event.id).await.unwrap().unwrap().event, event);
        assert_eq!(*bench.claim_one(destination, 3).await.event, event);
    }
}

pub async fn a_repeat_is_answered_with_the_first_ones_id_and_delivered_once(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let first = bench.accept(bench.keyed(1, 1, 0)).await;
    for (body, conflicting) in [(1, false), (2, true), (1, false)] {
        let repeat = bench.keyed(1, body, 10);
        let id = repeat.event.id;
        let appended = bench.store.append(repeat).await.unwrap();
        assert_eq!(appended, Appended::Repeat { first, conflicting });
        assert!(bench.store.event(id).await.unwrap().is_none());
    }
    let stored = bench.store.event(first).await.unwrap().unwrap();
    assert_eq!((stored.repeats, stored.conflicting), (3, 1));
    assert_eq!(bench.store.stats().await.unwrap().repeats, 3);
    assert_eq!(bench.claim(destination, 20, 10).await.deliveries.len(), 1);
}

pub async fn a_repeat_after_the_window_is_a_new_event(bench: &mut Bench) {
    let first = bench.accept(bench.keyed(1, 1, 0)).await;
    let repeat = bench.keyed(1, 1, 7 * DAY - 1);
    let appended = bench.store.append(repeat).await.unwrap();
    assert!(matches!(appended, Appended::Repeat { .. }));
    let second = bench.accept(bench.keyed(1, 1, 7 * DAY)).await;
    assert_ne!(first, second);
    let repeat = bench.keyed(1, 1, 8 * DAY);
    let expected = Appended::Repeat {
        first: second,
        conflicting: false,
    };
    assert_eq!(bench.store.append(repeat).await.unwrap(), expected);
}

pub async fn other_keys_and_events_without_a_key_are_no_repeats(bench: &mut Bench) {
    bench.accept(bench.keyed(1, 1, 0)).await;
    bench.accept(bench.keyed(2, 1, 0)).await;
    bench.append("order.created", 0).await;
    bench.append("order.created", 0).await;
    assert_eq!(bench.store.stats().await.unwrap().events, 4);
}

pub async fn repeats_are_recognised_after_reopening(bench: &mut Bench) {
    let first = bench.accept(bench.keyed(1, 1, 0)).await;
    bench.reopen(5).await;
    let expected = Appended::Repeat {
        first,
        conflicting: true,
    };
    assert_eq!(bench.store.append(bench.keyed(1, 9, 10)).await.unwrap(), expected);
    bench.reopen(20).await;
    let stored = bench.store.event(first).await.unwrap().unwrap();
    assert_eq!((stored.repeats, stored.conflicting), (1, 1));
    assert_eq!(bench.store.stats().await.unwrap().repeats, 1);
}

pub async fn of_a_thousand_copies_at_once_exactly_one_is_accepted(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let mut copies = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (store, copy) = (bench.store.clone(), bench.keyed(7, 7, 0));
        copies.spawn(async move { (copy.event.id, store.append(copy).await.unwrap()) });
    }
    let mut accepted = Vec::new();
    let mut firsts = std::collections::BTreeSet::new();
    for (id, appended) in copies.join_all().await {
        match appended {
            Appended::Accepted { .. } => accepted.push(id),
            Appended::Repeat { first, conflicting } => {
                assert!(!conflicting);
                firsts.insert(first);
            }
        }
    }
    assert_eq!(accepted.len(), 1);
    assert_eq!(Vec::from_iter(firsts), accepted);
    assert_eq!(bench.claim(destination, 1, 10).await.deliveries.len(), 1);
    let stored = bench.store.event(accepted[0]).await.unwrap().unwrap();
    assert_eq!(stored.repeats, 999);
}

pub async fn a_delivery_is_born_in_flight_where_a_slot_is_free(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.slots.set_free(1);
    let first = bench.append("order.created", 0).await;
    let second = bench.append("order.created", 1).await;
    let born = bench.handed_over().await;
    assert_eq!(born.len(), 1);
    assert_eq!((born[0].event.id, born[0].attempt), (first, 1));
    assert_eq!(born[0].lease_until, at(35), "the timeout and the margin");
    assert_eq!(bench.waiting().await, [(destination, at(1))]);
    let delivery = bench.delivery(first, destination).await;
    assert_eq!(delivery.state, DeliveryState::InFlight);
    assert_eq!(delivery.progress.first_attempt_at, Some(at(0)));
    assert_eq!(bench.claim(destination, 2, 10).await.deliveries.len(), 1);
    assert_eq!(bench.state(second, destination).await, DeliveryState::InFlight);
    bench.end(&born[0], 3, answered(200)).await;
    assert_eq!(bench.state(first, destination).await, DeliveryState::Delivered);
}

pub async fn paused_and_pull_destinations_are_not_asked_for_a_slot(bench: &mut Bench) {
    let paused = bench.push("paused", &["*"]).await;
    bench.pause(paused).await;
    bench.pull("pull").await;
    let open = bench.push("open", &["*"]).await;
    bench.slots.set_free(10);
    bench.append("order.created", 0).await;
    assert_eq!(bench.asked().await, [open]);
    assert_eq!(bench.handed_over().await.len(), 1);
    assert_eq!(bench.waiting().await, []);
}

pub async fn a_repeat_takes_no_slot(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    bench.accept(bench.keyed(1, 1, 0)).await;
    bench.asked().await;
    bench.slots.set_free(1);
    bench.store.append(bench.keyed(1, 1, 1)).await.unwrap();
    assert_eq!(bench.handed_over().await.len(), 0);
    assert!(
        bench.slots.reserve(at(1), destination, 1),
        "the slot is still free"
    );
}

pub async fn many_appends_at_once_are_all_kept_in_one_order(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let mut appends = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (store, new) = (bench.store.clone(), bench.event("order.created", 0));
        appends.spawn(async move { store.append(new).await.unwrap() });
    }
    appends.join_all().await;
    bench.reopen(1).await;
    let claimed = bench.claim(destination, 1, 1_000).await.deliveries;
    assert_eq!(claimed.len(), 300);
    assert!(claimed.is_sorted_by_key(|it| it.id.key()));
}
