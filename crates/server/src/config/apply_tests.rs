//! What the file declares, set once and set again.

use hookfast_engine::topology::{Application, DestinationKind, DestinationStatus};
use hookfast_store::rules;
use proptest::prelude::*;

use super::*;
use crate::config::{Config, Environment, Flags};

const FILE: &str = "
[policy.quick]
delays = ['1s']
[[source]]
name = 'nylas'
provider = 'nylas'
secrets = ['one', 'two']
[[source]]
name = 'hub'
provider = 'github'
[[destination]]
name = 'app'
url = 'https://example.com/hooks'
sources = ['nylas', 'hub']
policy = 'quick'
[[destination]]
name = 'queue'
kind = 'pull'
sources = ['hub']
secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
";

fn declared(text: &str) -> Declared {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let flags = Flags {
        config: Some(file.path().to_owned()),
        ..Flags::default()
    };
    Config::read(&flags, &Environment::new()).unwrap().declared
}

fn vault() -> Vault {
    Vault::new([7; 32])
}

fn empty() -> Topology {
    let application = Application::new(
        ApplicationId::new(Timestamp::EPOCH, 1),
        DEFAULT_APPLICATION,
        Timestamp::EPOCH,
    );
    Topology {
        applications: [(application.id, application)].into(),
        ..Topology::default()
    }
}

/// The topology after the changes, as every store makes them.
fn applied(topology: Topology, changes: Vec<TopologyChange>) -> Topology {
    let next = u32::try_from(topology.destinations.len()).unwrap() + 1;
    rules::change_topology(&topology, next, Timestamp::EPOCH, &changes)
        .unwrap()
        .topology
}

fn apply(topology: Topology, text: &str) -> Topology {
    let changes = changes(&declared(text), &topology, &vault(), Clock).unwrap();
    applied(topology, changes)
}

fn secrets(owner: u128, sealed: &[SealedSecret]) -> Vec<String> {
    let open =
        |each: &SealedSecret| String::from_utf8(vault().open_sealed(owner, &each.sealed).unwrap()).unwrap();
    sealed.iter().map(open).collect()
}

fn app(topology: &Topology) -> &Destination {
    let mut own = topology
        .live_destinations()
        .filter(|each| each.application == ApplicationId::new(Timestamp::EPOCH, 1));
    own.find(|each| each.name == "app").unwrap()
}

#[test]
fn what_the_file_declares_is_made_once() {
    let topology = apply(empty(), FILE);
    assert_eq!(topology.sources.len(), 2);
    let nylas = topology.source_named("nylas").unwrap();
    assert_eq!(secrets(nylas.id.as_u128(), &nylas.secrets), ["one", "two"]);
    let app = app(&topology);
    let hub = topology.source_named("hub").unwrap();
    assert_eq!(app.sources, [nylas.id, hub.id]);
    assert!(secrets(app.id.as_u128(), &app.secrets)[0].starts_with("whsec_"));
    let again = changes(&declared(FILE), &topology, &vault(), Clock).unwrap();
    assert_eq!(again, []);
}

#[test]
fn a_secret_that_is_written_twice_counts_once() {
    let twice = FILE.replace("'two'", "'one'");
    let topology = apply(empty(), &twice);
    assert_eq!(topology.source_named("nylas").unwrap().secrets.len(), 1);
    assert_eq!(
        changes(&declared(&twice), &topology, &vault(), Clock).unwrap(),
        []
    );
}

#[test]
fn only_what_differs_changes_and_keeps_its_id_and_its_secrets() {
    let before = apply(empty(), FILE);
    let after = apply(
        before.clone(),
        &FILE.replace("/hooks", "/other").replace("'two'", "'three'"),
    );
    let (old, new) = (app(&before), app(&after));
    assert_eq!(
        new.kind,
        DestinationKind::Push {
            url: "https://example.com/other".into()
        }
    );
    assert_eq!(
        (old.id, old.number, &old.secrets),
        (new.id, new.number, &new.secrets)
    );
    assert!(new.updated_at >= new.created_at && new.created_at == old.created_at);
    let (old, new) = (
        before.source_named("nylas").unwrap(),
        after.source_named("nylas").unwrap(),
    );
    assert_eq!(secrets(new.id.as_u128(), &new.secrets), ["one", "three"]);
    assert_eq!(old.secrets[0], new.secrets[0]);
    assert_eq!(before.source_named("hub"), after.source_named("hub"));
}

#[test]
fn a_paused_destination_stays_paused_and_secrets_set_by_the_api_stay() {
    let mut topology = apply(empty(), FILE);
    let id = app(&topology).id;
    let destination = topology.destinations.get_mut(&id).unwrap();
    destination.status = DestinationStatus::Paused;
    let hub = topology
        .sources
        .values_mut()
        .find(|source| source.name == "hub")
        .unwrap();
    hub.secrets = vec![SealedSecret {
        sealed: vault().seal(hub.id.as_u128(), b"by the API", Clock),
        created_at: Timestamp::EPOCH,
        expires_at: None,
    }];
    assert_eq!(changes(&declared(FILE), &topology, &vault(), Clock).unwrap(), []);
}

#[test]
fn a_replaced_signing_secret_stays_valid_for_a_day() {
    let before = apply(empty(), FILE);
    let declared_secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let with_secret = FILE.replacen(
        "policy = 'quick'",
        &format!("policy = 'quick'\nsecret = '{declared_secret}'"),
        1,
    );
    let after = apply(before.clone(), &with_secret);
    let app = app(&after);
    let opened = secrets(app.id.as_u128(), &app.secrets);
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[0], declared_secret);
    let end = app.secrets[1].expires_at.unwrap();
    assert_eq!(end.since(app.updated_at), OVERLAP);
    assert_eq!(
        changes(&declared(&with_secret), &after, &vault(), Clock).unwrap(),
        []
    );
}

#[test]
fn what_the_api_made_stays_and_what_left_the_file_is_named() {
    let mut topology = apply(empty(), FILE);
    let mut own = topology.source_named("hub").unwrap().clone();
    (own.id, own.name, own.origin) = (SourceId::from_u128(9), "own".into(), Origin::Api);
    topology.sources.insert(own.id, own);
    let nothing = declared("");
    assert_eq!(changes(&nothing, &topology, &vault(), Clock).unwrap(), []);
    let mut left = no_longer_declared(&nothing, &topology);
    left.sort();
    assert_eq!(
        left,
        [
            "destination app",
            "destination queue",
            "source hub",
            "source nylas"
        ]
    );
    assert_eq!(
        no_longer_declared(&declared(FILE), &topology),
        Vec::<String>::new()
    );
}

#[test]
fn trigger_types_are_set_by_name_and_named_once_they_leave_the_file() {
    let text = "[[trigger]]\nname = 'invoice.paid'\nschema = '{\"type\": \"object\"}'\n\
        [[trigger]]\nname = 'invoice.sent'\n";
    let application = ApplicationId::new(Timestamp::EPOCH, 1);
    let find = |topology: &Topology, name: &str| {
        topology
            .trigger_types
            .get(&(application, name.to_owned()))
            .cloned()
            .unwrap()
    };
    let mut before = empty();
    let made = DeclaredTrigger {
        name: "invoice.sent".into(),
        description: "by the API".into(),
        schema: None,
        example: None,
    };
    let made = TriggerType {
        origin: Origin::Api,
        ..made.trigger_type(application, Timestamp::EPOCH, Timestamp::EPOCH)
    };
    before
        .trigger_types
        .insert((application, made.name.clone()), made);
    let after = apply(before, text);
    let paid = find(&after, "invoice.paid");
    assert_eq!(
        (paid.origin, paid.schema.as_deref()),
        (Origin::File, Some(r#"{"type":"object"}"#))
    );
    let sent = find(&after, "invoice.sent");
    assert_eq!((sent.origin, sent.description.as_str()), (Origin::File, ""));
    assert!(sent.created_at < sent.updated_at);
    assert_eq!(changes(&declared(text), &after, &vault(), Clock).unwrap(), []);
    assert_eq!(
        no_longer_declared(&declared("[[trigger]]\nname = 'invoice.sent'\n"), &after),
        ["trigger invoice.paid"]
    );
    let changed = apply(
        after.clone(),
        &text.replace("\"type\": \"object\"", "\"type\": \"array\""),
    );
    assert_eq!(find(&changed, "invoice.paid").created_at, paid.created_at);
    assert_ne!(find(&changed, "invoice.paid").schema, paid.schema);
    assert_eq!(find(&changed, "invoice.sent"), sent);
}

#[test]
fn a_name_taken_by_another_application_is_refused() {
    let mut topology = apply(empty(), FILE);
    for source in topology.sources.values_mut() {
        source.application = ApplicationId::from_u128(2);
    }
    let refused = changes(&declared(FILE), &topology, &vault(), Clock);
    assert_eq!(refused, Err(ApplyError::SourceElsewhere("nylas".into())));
    let refused = changes(&declared(FILE), &Topology::default(), &vault(), Clock);
    assert_eq!(refused, Err(ApplyError::NoApplication));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn applying_twice_changes_nothing_the_second_time(
        sources in proptest::collection::btree_map("[a-z]{1,3}", proptest::collection::vec("[a-z]{1,4}", 0..3), 1..4),
        edited in proptest::collection::btree_map("[a-z]{1,3}", proptest::collection::vec("[a-z]{1,4}", 0..3), 1..4),
        concurrency in 1_u32..100,
    ) {
        let text = |sources: &std::collections::BTreeMap<String, Vec<String>>| {
            let mut text = String::new();
            for (name, secrets) in sources {
                text.push_str(&format!("[[source]]\nname = '{name}'\nprovider = 'nylas'\nsecrets = {secrets:?}\n"));
                text.push_str(&format!("[[destination]]\nname = '{name}'\nkind = 'pull'\nsources = ['{name}']\n"));
                text.push_str(&format!("concurrency = {concurrency}\n"));
            }
            text
        };
        let mut topology = empty();
        for declarations in [&sources, &edited, &sources] {
            let text = text(declarations);
            topology = apply(topology, &text);
            prop_assert_eq!(changes(&declared(&text), &topology, &vault(), Clock).unwrap(), vec![]);
        }
    }
}

#[test]
fn ten_thousand_destinations_in_a_file_are_read_and_set_without_comparing_each_with_each() {
    let mut text = FILE.to_owned();
    for number in 0..10_000 {
        text += &format!("[[destination]]\nname = 'tenant-{number}'\nkind = 'pull'\nsources = ['hub']\n");
    }
    let begun = Clock.now();
    let declared = declared(&text);
    let changes = changes(&declared, &empty(), &vault(), Clock).unwrap();
    let topology = applied(empty(), changes);
    assert_eq!(topology.destinations.len(), 10_002);
    assert_eq!(super::changes(&declared, &topology, &vault(), Clock).unwrap(), []);
    assert_eq!(no_longer_declared(&declared, &topology), [] as [String; 0]);
    // A debug build takes a second. With a count of lines for each key it took minutes.
    let took = Clock.now().since(begun);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
