//! The topology: rules, numbers, versions.

use std::sync::Arc;

use hookfast_engine::delivery::DestinationNumber;
use hookfast_engine::id::{ApplicationId, DestinationId, KeyId, SourceId};
use hookfast_engine::retry::Policy;
use hookfast_engine::topology::{ApiKey, Destination, Origin, Scope, TopologyChange, TriggerType};

use super::{Bench, START, application, at, page, source};
use crate::{EventFilter, StoreError};

async fn refused(bench: &Bench, changes: Vec<TopologyChange>) {
    let before = bench.store.topology();
    let result = bench
        .store
        .change_topology(at(1), "ann".into(), changes.clone())
        .await;
    assert!(
        matches!(result, Err(StoreError::Refused { .. })),
        "{changes:?} gave {result:?}"
    );
    assert_eq!(bench.store.topology(), before, "nothing changed");
}

pub async fn names_are_unique_and_a_deleted_name_is_free_again(bench: &mut Bench) {
    let first = bench.push("all", &["*"]).await;
    let (other, other_source) = bench.second_application().await;
    let third = ApplicationId::new(START, 3);
    refused(
        bench,
        vec![TopologyChange::PutApplication(application(third, "other"))],
    )
    .await;
    let same_name = source(SourceId::new(START, 3), other, "orders");
    refused(bench, vec![TopologyChange::PutSource(same_name)]).await;
    let second = bench.new_destination("all", &["*"]);
    refused(bench, vec![TopologyChange::PutDestination(second.clone())]).await;
    let mut elsewhere = bench.new_destination("all", &["*"]);
    (elsewhere.application, elsewhere.sources) = (other, vec![other_source]);
    bench.put_destination(elsewhere).await;
    bench.delete(first).await;
    bench.put_destination(second).await;
}

pub async fn references_to_nothing_are_refused(bench: &mut Bench) {
    let (other, other_source) = bench.second_application().await;
    let nobody = ApplicationId::new(START, 9);
    let orphan = source(SourceId::new(START, 9), nobody, "orphan");
    refused(bench, vec![TopologyChange::PutSource(orphan)]).await;
    let changes: [fn(&mut Destination); 4] = [
        |it| it.sources = vec![SourceId::new(START, 9)],
        |it| it.sources.push(SourceId::new(START, 2)),
        |it| it.application = ApplicationId::new(START, 9),
        |it| it.policy = "nowhere".into(),
    ];
    for change in changes {
        let mut destination = bench.new_destination("wrong", &["*"]);
        change(&mut destination);
        refused(bench, vec![TopologyChange::PutDestination(destination)]).await;
    }
    let pull = Scope::Pull(DestinationId::new(START, 99));
    for scope in [Scope::Read(nobody), Scope::Application(nobody), pull] {
        refused(bench, vec![TopologyChange::PutKey(key(scope))]).await;
    }
    refused(bench, vec![TopologyChange::DeleteSource(SourceId::new(START, 9))]).await;
    bench
        .put(vec![TopologyChange::PutKey(key(Scope::Read(other)))])
        .await;
    let moved = source(other_source, bench.application, "invoices");
    refused(bench, vec![TopologyChange::PutSource(moved)]).await;
}

fn key(scope: Scope) -> ApiKey {
    ApiKey {
        id: KeyId::new(START, 1),
        name: "ci".into(),
        hash: vec![7; 32],
        scope,
        created_at: START,
        expires_at: None,
        revoked_at: Some(at(5)),
    }
}

pub async fn changes_are_made_all_or_none_and_in_any_order(bench: &mut Bench) {
    let new_source = SourceId::new(START, 5);
    let mut destination = bench.new_destination("both", &["*"]);
    destination.sources = vec![new_source];
    destination.policy = "mine".into();
    let mut policy = Policy::standard();
    policy.name = "mine".into();
    let wrong = source(SourceId::new(START, 6), bench.application, "orders");
    let mut changes = vec![
        TopologyChange::PutDestination(destination.clone()),
        TopologyChange::PutPolicy(policy.clone()),
        TopologyChange::PutSource(source(new_source, bench.application, "second")),
    ];
    refused(
        bench,
        [changes.clone(), vec![TopologyChange::PutSource(wrong)]].concat(),
    )
    .await;
    let before = bench.store.topology().version;
    let after = bench
        .store
        .change_topology(at(1), "ann".into(), std::mem::take(&mut changes));
    let after = after.await.unwrap();
    assert!(after.version > before);
    assert_eq!(after.policies["mine"], policy);
    assert_eq!(after.destinations[&destination.id].sources, [new_source]);
    assert_eq!(bench.store.topology(), after);
}

pub async fn numbers_are_given_by_the_store_kept_on_update_and_never_used_again(bench: &mut Bench) {
    let number = |bench: &Bench, id| bench.store.topology().destinations[&id].number;
    let first = bench.push("first", &["*"]).await;
    let second = bench.push("second", &["*"]).await;
    let (of_first, of_second) = (number(bench, first), number(bench, second));
    assert_ne!(of_first, of_second);
    bench
        .change(first, |it| {
            (it.number, it.name) = (DestinationNumber(77), "renamed".into())
        })
        .await;
    assert_eq!(number(bench, first), of_first);
    bench.delete(second).await;
    bench.reopen(1).await;
    let third = bench.push("third", &["*"]).await;
    assert!(![of_first, of_second].contains(&number(bench, third)));
}

pub async fn a_deleted_destination_stays_deleted_and_none_moves_between_applications(bench: &mut Bench) {
    let id = bench.push("all", &["*"]).await;
    let (other, other_source) = bench.second_application().await;
    let mut moved = bench.store.topology().destinations[&id].clone();
    (moved.application, moved.sources) = (other, vec![other_source]);
    refused(bench, vec![TopologyChange::PutDestination(moved)]).await;
    bench.delete(id).await;
    let mut back = bench.store.topology().destinations[&id].clone();
    back.deleted_at = None;
    refused(bench, vec![TopologyChange::PutDestination(back)]).await;
}

pub async fn the_topology_survives_reopening(bench: &mut Bench) {
    let paused = bench.push("paused", &["a.*", "b"]).await;
    bench.pause(paused).await;
    let deleted = bench.pull("deleted").await;
    bench.delete(deleted).await;
    bench.put(vec![TopologyChange::PutKey(key(Scope::Admin))]).await;
    let before = bench.store.topology();
    bench.reopen(1).await;
    assert_eq!(bench.store.topology(), before);
    bench.push("more", &["*"]).await;
    assert!(bench.store.topology().version > before.version);
}

pub async fn a_removed_source_leaves_its_events_and_its_destinations(bench: &mut Bench) {
    let destination = bench.push("all", &["*"]).await;
    let event = bench.append("a", 0).await;
    bench.put(vec![TopologyChange::DeleteSource(bench.source)]).await;
    assert!(
        bench.store.topology().destinations[&destination]
            .sources
            .is_empty()
    );
    assert_eq!(bench.claim_one(destination, 1).await.event.id, event);
    bench.append("a", 2).await;
    assert!(bench.claim(destination, 3, 1).await.deliveries.is_empty());
    let listed = bench
        .store
        .events(EventFilter::default(), page(10))
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 2);
}

pub async fn changes_at_once_are_made_one_after_the_other(bench: &mut Bench) {
    let mut changes = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (store, destination) = (
            bench.store.clone(),
            bench.new_destination(&format!("d{number}"), &["*"]),
        );
        changes.spawn(async move {
            let put = vec![TopologyChange::PutDestination(destination)];
            let changed = store.change_topology(at(1), "ann".into(), put).await;
            Arc::unwrap_or_clone(changed.unwrap()).version
        });
    }
    let versions = std::collections::BTreeSet::from_iter(changes.join_all().await);
    assert_eq!(versions.len(), 20);
    let destinations = bench.store.topology().destinations.clone();
    let numbers: std::collections::BTreeSet<_> = destinations.values().map(|it| it.number).collect();
    assert_eq!(numbers.len(), 20);
}

pub async fn trigger_types_are_kept_by_application_and_removed(bench: &mut Bench) {
    let (other, _) = bench.second_application().await;
    let of = |application, name: &str| TriggerType {
        application,
        name: name.into(),
        description: "an invoice was paid".into(),
        schema: None,
        example: Some("{\"id\":1}".into()),
        origin: Origin::Api,
        created_at: at(0),
        updated_at: at(0),
    };
    bench
        .put(vec![
            TopologyChange::PutTriggerType(of(bench.application, "invoice.paid")),
            TopologyChange::PutTriggerType(of(bench.application, "invoice.sent")),
            TopologyChange::PutTriggerType(of(other, "invoice.paid")),
        ])
        .await;
    let delete = |application, name: &str| TopologyChange::DeleteTriggerType(application, name.into());
    bench.put(vec![delete(bench.application, "invoice.paid")]).await;
    let again = vec![delete(bench.application, "invoice.paid")];
    let refused = bench.store.change_topology(at(1), "ann".into(), again).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    bench.reopen(1).await;
    let topology = bench.store.topology();
    let names = |application| -> Vec<String> {
        let of = topology.trigger_types_of(application);
        of.map(|trigger_type| trigger_type.name.clone()).collect()
    };
    assert_eq!(names(bench.application), ["invoice.sent"]);
    assert_eq!(names(other), ["invoice.paid"]);
}

pub async fn what_an_application_publishes_goes_to_its_own_destinations_alone(bench: &mut Bench) {
    let (other, _) = bench.second_application().await;
    let publishing = |application| SourceId::of_outbox(application);
    let mut own = bench.new_destination("own", &["order.*"]);
    own.sources = vec![publishing(bench.application)];
    let own = bench.put_destination(own).await;
    let mut theirs = bench.new_destination("theirs", &["*"]);
    theirs.application = other;
    theirs.sources = vec![publishing(other)];
    bench.put_destination(theirs).await;
    let inbox = bench.push("inbox", &["*"]).await;
    let mut new = bench.event("order.created", 1);
    Arc::make_mut(&mut new.event).source = publishing(bench.application);
    let event = bench.accept(new).await;
    let stored = bench.store.event(event).await.unwrap().unwrap();
    let went_to: Vec<_> = stored.deliveries.iter().map(|it| it.destination).collect();
    assert_eq!(went_to, [own]);
    assert!(bench.claim(inbox, 2, 1).await.deliveries.is_empty());
    let mut stolen = bench.new_destination("stolen", &["*"]);
    stolen.sources = vec![publishing(other)];
    let put = vec![TopologyChange::PutDestination(stolen)];
    let refused = bench.store.change_topology(at(3), "ann".into(), put).await;
    assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
}
