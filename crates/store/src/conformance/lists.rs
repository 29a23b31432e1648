//! Lists and counts: paging, filters, tenants kept apart, sums.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookfast_engine::delivery::DeliveryState;
use hookfast_engine::id::EventId;

use super::{Bench, answered, at, page};
use crate::{DeliveryFilter, EventFilter, Page};

async fn listed(bench: &Bench, filter: EventFilter) -> Vec<EventId> {
    let events = bench.store.events(filter, page(1_000)).await.unwrap();
    events.items.iter().map(|event| event.id).collect()
}

pub async fn pages_cover_everything_once_while_events_come(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let mut expected = Vec::new();
    for seconds in 0..10 {
        expected.insert(0, bench.append("a", seconds).await);
    }
    let (mut events, mut deliveries) = (Vec::new(), Vec::new());
    let (mut event_page, mut delivery_page) = (page(3), page(3));
    for seconds in 100.. {
        let found = bench
            .store
            .events(EventFilter::default(), event_page.clone())
            .await
            .unwrap();
        assert!(found.items.len() <= 3);
        events.extend(found.items.iter().map(|event| event.id));
        let of_destination = DeliveryFilter {
            destination: Some(destination),
            ..DeliveryFilter::default()
        };
        let also = bench
            .store
            .deliveries(of_destination, delivery_page.clone())
            .await
            .unwrap();
        deliveries.extend(also.items.iter().map(|delivery| delivery.event));
        assert_eq!(found.next_cursor.is_none(), also.next_cursor.is_none());
        bench.append("a", seconds).await;
        (event_page.cursor, delivery_page.cursor) = (found.next_cursor, also.next_cursor);
        if event_page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(events, expected);
    assert_eq!(deliveries, expected);
}

pub async fn each_event_filter_takes_its_events_and_no_other(bench: &mut Bench) {
    let (other, other_source) = bench.second_application().await;
    bench.push("orders", &["order.created"]).await;
    let first = bench.append("order.created", 0).await;
    let second = bench.append("order", 10).await;
    let mut named = bench.event("order.updated.truncated", 20);
    Arc::make_mut(&mut named.event).provider_id = Some("p-1".into());
    let third = bench.accept(named).await;
    let mut foreign = bench.event("order.created", 30);
    let event = Arc::make_mut(&mut foreign.event);
    (event.application, event.source, event.provider_id) = (other, other_source, Some("p-1".into()));
    let foreign = bench.accept(foreign).await;
    let any = EventFilter::default;
    let own = || EventFilter {
        application: Some(bench.application),
        ..any()
    };
    let table = [
        (any(), vec![foreign, third, second, first]),
        (own(), vec![third, second, first]),
        (
            EventFilter {
                application: Some(other),
                ..any()
            },
            vec![foreign],
        ),
        (
            EventFilter {
                source: Some(other_source),
                ..any()
            },
            vec![foreign],
        ),
        (
            EventFilter {
                source: Some(other_source),
                ..own()
            },
            vec![],
        ),
        (
            EventFilter {
                event_type: Some("order".into()),
                ..any()
            },
            vec![second],
        ),
        (
            EventFilter {
                event_type: Some("order.*".into()),
                ..own()
            },
            vec![third, first],
        ),
        (
            EventFilter {
                event_type: Some("*".into()),
                ..own()
            },
            vec![third, second, first],
        ),
        (
            EventFilter {
                provider_id: Some("p-1".into()),
                ..own()
            },
            vec![third],
        ),
        (
            EventFilter {
                provider_id: Some("p-2".into()),
                ..any()
            },
            vec![],
        ),
        (
            EventFilter {
                from: Some(at(10)),
                until: Some(at(20)),
                ..any()
            },
            vec![second],
        ),
        (
            EventFilter {
                unrouted: true,
                ..any()
            },
            vec![foreign, third, second],
        ),
        (
            EventFilter {
                unrouted: true,
                ..own()
            },
            vec![third, second],
        ),
        (
            EventFilter {
                after: Some(first),
                ..any()
            },
            vec![second, third, foreign],
        ),
        (
            EventFilter {
                after: Some(second),
                ..own()
            },
            vec![third],
        ),
        (
            EventFilter {
                after: Some(foreign),
                ..any()
            },
            vec![],
        ),
    ];
    for (filter, expected) in table {
        assert_eq!(listed(bench, filter.clone()).await, expected, "{filter:?}");
    }
}

pub async fn what_comes_is_followed_oldest_first_in_pages(bench: &mut Bench) {
    let first = bench.append("a", 0).await;
    let mut expected = Vec::new();
    for seconds in 1..6 {
        expected.push(bench.append("a", seconds).await);
    }
    let filter = EventFilter {
        after: Some(first),
        ..EventFilter::default()
    };
    let (mut found, mut page) = (Vec::new(), page(2));
    loop {
        let listed = bench.store.events(filter.clone(), page.clone()).await.unwrap();
        found.extend(listed.items.iter().map(|event| event.id));
        page.cursor = listed.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
}

pub async fn each_delivery_filter_takes_its_deliveries_and_no_other(bench: &mut Bench) {
    let first = bench.push("first", &["*"]).await;
    let second = bench.push("second", &["*"]).await;
    let (other, other_source) = bench.second_application().await;
    let mut foreign = bench.new_destination("foreign", &["*"]);
    (foreign.application, foreign.sources) = (other, vec![other_source]);
    let foreign = bench.put_destination(foreign).await;
    let old = bench.append("a", 0).await;
    let new = bench.append("a", 10).await;
    let mut theirs = bench.event("a", 20);
    let event = Arc::make_mut(&mut theirs.event);
    (event.application, event.source) = (other, other_source);
    let theirs = bench.accept(theirs).await;
    bench.deliver(first, 0, answered(200)).await;
    bench.pause(second).await;
    let any = DeliveryFilter::default;
    let own = DeliveryFilter {
        application: Some(bench.application),
        ..any()
    };
    let state = |state| DeliveryFilter {
        state: Some(state),
        ..any()
    };
    let table = [
        (
            any(),
            vec![
                (theirs, foreign),
                (new, second),
                (new, first),
                (old, second),
                (old, first),
            ],
        ),
        (
            own,
            vec![(new, second), (new, first), (old, second), (old, first)],
        ),
        (
            DeliveryFilter {
                application: Some(other),
                ..any()
            },
            vec![(theirs, foreign)],
        ),
        (
            DeliveryFilter {
                destination: Some(first),
                ..any()
            },
            vec![(new, first), (old, first)],
        ),
        (state(DeliveryState::Delivered), vec![(old, first)]),
        (
            state(DeliveryState::Pending),
            vec![(theirs, foreign), (new, first)],
        ),
        (state(DeliveryState::Held), vec![(new, second), (old, second)]),
        (state(DeliveryState::Dead), vec![]),
        (
            DeliveryFilter {
                from: Some(at(10)),
                until: Some(at(20)),
                ..any()
            },
            vec![(new, second), (new, first)],
        ),
        (
            DeliveryFilter {
                destination: Some(second),
                ..state(DeliveryState::Held)
            },
            vec![(new, second), (old, second)],
        ),
        (
            DeliveryFilter {
                destination: Some(first),
                application: Some(other),
                ..any()
            },
            vec![],
        ),
    ];
    for (filter, expected) in table {
        let found = bench.all_deliveries(filter.clone()).await;
        let mut found: Vec<_> = found.iter().map(|it| (it.event, it.destination)).collect();
        let mut expected = expected;
        assert_eq!(
            found.iter().map(|it| it.0).collect::<Vec<_>>(),
            expected.iter().map(|it| it.0).collect::<Vec<_>>(),
            "newest first: {filter:?}"
        );
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{filter:?}");
    }
}

pub async fn summaries_show_what_was_stored(bench: &mut Bench) {
    let mut new = bench.keyed(1, 1, 3);
    let event = Arc::make_mut(&mut new.event);
    (event.provider_id, event.occurred_at) = (Some("p-1".into()), Some(at(1)));
    let event = new.event.clone();
    bench.accept(new).await;
    bench.store.append(bench.keyed(1, 2, 4)).await.unwrap();
    let listed = bench
        .store
        .events(EventFilter::default(), page(10))
        .await
        .unwrap();
    let expected = crate::EventSummary {
        id: event.id,
        application: event.application,
        source: event.source,
        provider_id: event.provider_id.clone(),
        event_type: event.event_type.clone(),
        occurred_at: event.occurred_at,
        accepted_at: event.accepted_at,
        body_bytes: event.body.len() as u64,
        repeats: 1,
        conflicting: 1,
    };
    assert_eq!(listed.items, [expected]);
}

pub async fn a_page_has_at_least_one_item_and_at_most_a_thousand(bench: &mut Bench) {
    bench.append("a", 0).await;
    bench.append("a", 1).await;
    for (limit, expected) in [(0, 1), (1, 1), (2, 2), (u32::MAX, 2)] {
        let listed = bench
            .store
            .events(EventFilter::default(), page(limit))
            .await
            .unwrap();
        assert_eq!(listed.items.len(), expected);
        assert_eq!(listed.next_cursor.is_some(), expected < 2);
    }
    let nonsense = Page {
        limit: 10,
        cursor: Some("\u{1f980}".into()),
    };
    let listed = bench
        .store
        .events(EventFilter::default(), nonsense)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 2);
}

pub async fn counts_add_up_and_each_routed_delivery_is_in_exactly_one_state(bench: &mut Bench) {
    let first = bench.push("first", &["*"]).await;
    let second = bench.push("second", &["a"]).await;
    for seconds in 0..6 {
        bench
            .append(if seconds % 2 == 0 { "a" } else { "b" }, seconds)
            .await;
    }
    for (seconds, status) in [(0, 200), (1, 410), (2, 500)] {
        bench.deliver(first, seconds, answered(status)).await;
    }
    bench.claim_one(second, 3).await;
    bench.reopen(4).await;
    bench.pause(second).await;
    let stats = bench.store.stats().await.unwrap();
    assert_eq!(stats.events, 6);
    let counted: BTreeMap<_, u64> = stats
        .deliveries
        .iter()
        .filter(|(_, _, count)| *count > 0)
        .map(|(id, state, count)| ((*id, *state), *count))
        .collect();
    let expected = BTreeMap::from([
        ((first, DeliveryState::Delivered), 1),
        ((first, DeliveryState::Rejected), 1),
        ((first, DeliveryState::Retrying), 1),
        ((first, DeliveryState::Pending), 3),
        ((second, DeliveryState::Pending), 3),
    ]);
    assert_eq!(counted, expected);
    let oldest: BTreeMap<_, _> = stats.oldest_waiting.into_iter().collect();
    assert_eq!(oldest, BTreeMap::from([(first, at(2)), (second, at(0))]));
    assert_eq!(bench.all_deliveries(DeliveryFilter::default()).await.len(), 9);
}
