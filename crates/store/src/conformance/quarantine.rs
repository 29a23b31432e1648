//! Quarantine and the list of refused requests: bounds, release, order.

use bytes::Bytes;
use hookfast_engine::event::HeaderBlock;
use hookfast_engine::id::SourceId;

use super::{Bench, at, page};
use crate::{
    Appended, NewQuarantined, Page, QuarantineBounds, Quarantined, Quarantining, Rejected, SourceFilter,
    rules,
};

const BOUNDS: QuarantineBounds = QuarantineBounds {
    events: 4,
    bytes: 1_000,
    events_per_peer: 2,
};

impl Bench {
    pub(super) fn quarantinable(&self, source: SourceId, peer: &str, bytes: usize) -> NewQuarantined {
        NewQuarantined {
            item: Quarantined {
                id: self.quarantine_id(),
                source,
                received_at: at(0),
                cause: "bad signature".into(),
                peer: peer.into(),
                method: "POST".into(),
                target: "/in/orders?x=1".into(),
                headers: HeaderBlock::pack([(&b"A"[..], &b"b"[..])]),
                body: Bytes::from(vec![b'q'; bytes]),
            },
            bounds: BOUNDS,
        }
    }

    async fn keep(&self, peer: &str, bytes: usize) -> (Quarantined, Quarantining) {
        let new = self.quarantinable(self.source, peer, bytes);
        let item = new.item.clone();
        (item, self.store.quarantine(new).await.unwrap())
    }
}

pub async fn what_is_quarantined_is_shown_whole_newest_first(bench: &mut Bench) {
    let (first, kept) = bench.keep("p1", 10).await;
    assert_eq!(kept, Quarantining::Kept);
    let (second, _) = bench.keep("p2", 20).await;
    bench.reopen(1).await;
    let listed = bench
        .store
        .quarantined(SourceFilter::default(), page(10))
        .await
        .unwrap();
    let ids: Vec<_> = listed.items.iter().map(|item| item.id).collect();
    assert_eq!(ids, [second.id, first.id]);
    assert_eq!(
        (listed.items[0].body_bytes, listed.items[0].peer.as_str()),
        (20, "p2")
    );
    assert_eq!(
        bench.store.quarantined_event(first.id).await.unwrap(),
        Some(first)
    );
    let stats = bench.store.stats().await.unwrap();
    assert_eq!(stats.quarantined, [(bench.source, 2)]);
}

pub async fn a_full_quarantine_refuses_the_newest_and_another_source_does_not_care(bench: &mut Bench) {
    for (peer, expected) in [
        ("p1", Quarantining::Kept),
        ("p1", Quarantining::Kept),
        ("p1", Quarantining::PeerFull),
        ("p2", Quarantining::Kept),
        ("p3", Quarantining::Kept),
        ("p4", Quarantining::Full),
    ] {
        assert_eq!(bench.keep(peer, 10).await.1, expected, "{peer}");
    }
    let (_, other) = bench.second_application().await;
    let new = bench.quarantinable(other, "p1", 10);
    assert_eq!(bench.store.quarantine(new).await.unwrap(), Quarantining::Kept);
}

pub async fn quarantine_is_bounded_by_bytes_of_bodies_and_headers(bench: &mut Bench) {
    let (item, _) = bench.keep("p1", 500).await;
    let overhead = usize::try_from(rules::quarantine_bytes(&item)).unwrap() - 500;
    assert_eq!(bench.keep("p2", 501 - 2 * overhead).await.1, Quarantining::Full);
    assert_eq!(bench.keep("p2", 500 - 2 * overhead).await.1, Quarantining::Kept);
    assert_eq!(bench.keep("p3", 0).await.1, Quarantining::Full);
    bench.store.discard_quarantined(vec![item.id]).await.unwrap();
    assert_eq!(bench.keep("p3", 0).await.1, Quarantining::Kept, "room again");
}

pub async fn a_release_goes_through_dedupe_and_happens_once(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let (item, _) = bench.keep("p1", 10).await;
    let (copy, _) = bench.keep("p1", 10).await;
    let event = bench.keyed(1, 1, 5);
    let first = event.event.id;
    let released = bench.store.release(item.id, event).await.unwrap();
    assert_eq!(released, Some(Appended::Accepted { deliveries: 1 }));
    assert_eq!(
        bench.store.release(item.id, bench.keyed(2, 2, 6)).await.unwrap(),
        None
    );
    let repeat = Appended::Repeat {
        first,
        conflicting: false,
    };
    assert_eq!(
        bench.store.release(copy.id, bench.keyed(1, 1, 7)).await.unwrap(),
        Some(repeat)
    );
    let left = bench
        .store
        .quarantined(SourceFilter::default(), page(10))
        .await
        .unwrap();
    assert_eq!(left.items.len(), 0);
    assert_eq!(bench.claim(destination, 9, 10).await.deliveries.len(), 1);
    assert_eq!(bench.store.stats().await.unwrap().events, 1);
}

pub async fn releases_at_once_accept_one(bench: &mut Bench) {
    let (item, _) = bench.keep("p1", 10).await;
    let mut releases = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (store, event, id) = (bench.store.clone(), bench.event("a", 5), item.id);
        releases.spawn(async move { store.release(id, event).await.unwrap().is_some() });
    }
    let released = releases.join_all().await.into_iter().filter(|released| *released);
    assert_eq!(released.count(), 1);
    assert_eq!(bench.store.stats().await.unwrap().events, 1);
}

pub async fn quarantine_never_writes_a_dedupe_mark(bench: &mut Bench) {
    let (item, _) = bench.keep("p1", 10).await;
    bench.accept(bench.keyed(1, 1, 0)).await;
    let discarded = bench
        .store
        .discard_quarantined(vec![item.id, item.id])
        .await
        .unwrap();
    assert_eq!(discarded, 1);
    assert_eq!(bench.store.quarantined_event(item.id).await.unwrap(), None);
    assert_eq!(
        bench.store.release(item.id, bench.keyed(3, 3, 1)).await.unwrap(),
        None
    );
    bench.accept(bench.keyed(3, 3, 2)).await;
}

pub async fn quarantine_and_refused_requests_are_filtered_by_source_and_application(bench: &mut Bench) {
    let (other, its_source) = bench.second_application().await;
    let (own, _) = bench.keep("p1", 10).await;
    let foreign = bench.quarantinable(its_source, "p1", 10);
    let foreign_id = foreign.item.id;
    bench.store.quarantine(foreign).await.unwrap();
    let rejections = [Some(bench.source), Some(its_source), None].map(|source| rejected(source, 1));
    bench.store.record_rejected(rejections.to_vec()).await.unwrap();
    for (application, source, id) in [
        (bench.application, bench.source, own.id),
        (other, its_source, foreign_id),
    ] {
        let by_application = SourceFilter {
            application: Some(application),
            source: None,
        };
        let by_source = SourceFilter {
            application: None,
            source: Some(source),
        };
        for filter in [by_application, by_source] {
            let listed = bench.store.quarantined(filter.clone(), page(10)).await.unwrap();
            assert_eq!(listed.items.iter().map(|item| item.id).collect::<Vec<_>>(), [id]);
            let listed = bench.store.rejected(filter, page(10)).await.unwrap();
            assert_eq!(listed.items, [rejected(Some(source), 1)]);
        }
    }
    let all = bench
        .store
        .rejected(SourceFilter::default(), page(10))
        .await
        .unwrap();
    assert_eq!(all.items.len(), 3);
}

fn rejected(source: Option<SourceId>, number: u64) -> Rejected {
    Rejected {
        at: at(number),
        source,
        status: 401,
        cause: "signature-wrong".into(),
        detail: format!("number {number}"),
        peer: "192.0.2.1".into(),
        method: "POST".into(),
        path: "/in/orders".into(),
        count: number,
    }
}

pub async fn the_list_of_refused_requests_is_bounded_and_newest_first(bench: &mut Bench) {
    let kept = rules::REJECTED_KEPT as u64;
    for batch in 0..6 {
        let numbers = batch * 2_000..(batch + 1) * 2_000;
        let batch = numbers.map(|number| rejected(None, number)).collect();
        bench.store.record_rejected(batch).await.unwrap();
    }
    bench.reopen(1).await;
    let mut page = Page {
        limit: 1_000,
        cursor: None,
    };
    let mut numbers = Vec::new();
    loop {
        let listed = bench
            .store
            .rejected(SourceFilter::default(), page.clone())
            .await
            .unwrap();
        numbers.extend(listed.items.iter().map(|item| item.count));
        page.cursor = listed.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    let expected: Vec<u64> = (12_000 - kept..12_000).rev().collect();
    assert!(numbers == expected, "{} of {kept} are kept", numbers.len());
}
