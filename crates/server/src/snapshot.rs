//! The topology made ready for use: secrets opened, keys prepared, names indexed.
//!
//! Owns the step from what is stored to what the hot paths look up. Must not change anything: a new
//! topology makes a new snapshot, and whoever holds the old one finishes with it.

use std::collections::HashMap;
use std::sync::Arc;

use hookfast_engine::id::{ApplicationId, DestinationId, SourceId};
use hookfast_engine::retry::Policy;
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{Application, Destination, SealedSecret, Source, Topology};

use crate::deliver::sign::Signer;
use crate::ingest::meter::Meter;
use crate::ingest::verify::Verifier;
use crate::outbox::catalogue::Catalogue;
use crate::vault::Vault;

/// One version of the topology, ready for use.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was made from.
    pub topology: Arc<Topology>,
    sources: HashMap<String, Arc<ReadySource>>,
    destinations: HashMap<DestinationId, Arc<ReadyDestination>>,
    catalogues: HashMap<ApplicationId, Arc<Catalogue>>,
}

/// A source, ready to verify.
#[derive(Debug)]
pub struct ReadySource {
    /// The source.
    pub source: Source,
    /// Checks what is posted to it.
    pub verifier: Verifier,
    /// Its counters, ready to be counted up.
    pub meter: Meter,
}

/// A destination, ready to be delivered to.
#[derive(Debug)]
pub struct ReadyDestination {
    /// The destination.
    pub destination: Destination,
    /// Its retry policy.
    pub policy: Policy,
    /// Signs what goes to it.
    pub signer: Signer,
}

impl Snapshot {
    /// Makes `topology` ready. A secret that the vault cannot open counts as none, and is logged.
    #[must_use]
    pub fn new(topology: Arc<Topology>, vault: &Vault, now: Timestamp) -> Self {
        let nothing = Self {
            topology: Arc::default(),
            sources: HashMap::new(),
            destinations: HashMap::new(),
            catalogues: HashMap::new(),
        };
        nothing.after(topology, vault, now)
    }

    /// As [`Snapshot::new`], taking over what this one has ready of what did not change: with thousands of
    /// destinations, one change must not open the secrets of all of them.
    #[must_use]
    pub fn after(&self, topology: Arc<Topology>, vault: &Vault, now: Timestamp) -> Self {
        let sources = topology.sources.values().map(|source| {
            let secrets = open(vault, source.id.as_u128(), &source.secrets, now);
            let verifier = Verifier::new(source, &secrets);
            (
                source.name.clone(),
                Arc::new(ReadySource {
                    source: source.clone(),
                    verifier,
                    meter: Meter::default(),
                }),
            )
        });
        let destinations = topology.live_destinations().map(|destination| {
            let policy = topology.policy(&destination.policy).unwrap_or_else(Policy::inbox);
            let ready = self.unchanged(destination, &policy);
            let ready = ready.unwrap_or_else(|| {
                let secrets = open(vault, destination.id.as_u128(), &destination.secrets, now);
                Arc::new(ReadyDestination {
                    destination: destination.clone(),
                    policy,
                    signer: Signer::new(destination, &secrets),
                })
            });
            (destination.id, ready)
        });
        let (sources, destinations) = (sources.collect(), destinations.collect());
        let catalogues = topology.applications.values();
        let catalogues = catalogues.map(|application| (application.id, catalogue(&topology, application)));
        Self {
            catalogues: catalogues.collect(),
            topology,
            sources,
            destinations,
        }
    }

    /// What is ready of a destination that is as it was, and none of whose secrets ends by itself.
    fn unchanged(&self, destination: &Destination, policy: &Policy) -> Option<Arc<ReadyDestination>> {
        let ready = self.destinations.get(&destination.id)?;
        let lasting = destination
            .secrets
            .iter()
            .all(|secret| secret.expires_at.is_none());
        let same = ready.destination == *destination && ready.policy == *policy;
        (same && lasting).then(|| Arc::clone(ready))
    }

    /// The trigger types that an application knows; none where there is no such application.
    #[must_use]
    pub fn catalogue(&self, application: ApplicationId) -> Arc<Catalogue> {
        self.catalogues.get(&application).cloned().unwrap_or_default()
    }

    /// The source of that name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Arc<ReadySource>> {
        self.sources.get(name)
    }

    /// The source with that id.
    #[must_use]
    pub fn source_by_id(&self, id: SourceId) -> Option<&Arc<ReadySource>> {
        self.topology
            .sources
            .get(&id)
            .and_then(|source| self.sources.get(&source.name))
    }

    /// The destination with that id, unless it is deleted.
    #[must_use]
    pub fn destination(&self, id: DestinationId) -> Option<&Arc<ReadyDestination>> {
        self.destinations.get(&id)
    }
}

fn catalogue(topology: &Topology, application: &Application) -> Arc<Catalogue> {
    let settings = &application.catalogue;
    let own = topology
        .trigger_types_of(application.id)
        .map(|trigger_type| trigger_type.name.as_str());
    let compiled = Catalogue::new(settings.preset.as_deref(), own, settings.open);
    Arc::new(compiled.unwrap_or_else(|error| {
        tracing::error!(application.name = application.name, %error, "an application knows no trigger types");
        Catalogue::default()
    }))
}

/// The secrets still valid at `now`, opened, in their order.
fn open(vault: &Vault, owner: u128, sealed: &[SealedSecret], now: Timestamp) -> Vec<Vec<u8>> {
    let valid = sealed
        .iter()
        .filter(|secret| secret.expires_at.is_none_or(|expires_at| now < expires_at));
    valid
        .filter_map(|secret| {
            let opened = vault.open_sealed(owner, &secret.sealed);
            if opened.is_none() {
                tracing::error!(
                    owner = format!("{owner:032x}"),
                    "a stored secret does not open with this encryption key"
                );
            }
            opened
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hookfast_engine::topology::{DestinationKind, Signing};

    use super::*;
    use crate::clock::Clock;

    const DAY: Duration = Duration::from_secs(86_400);

    /// How many signatures of Standard Webhooks a delivery has, and by which secret it is signed as Nylas signs.
    fn signatures(snapshot: &Snapshot, id: DestinationId) -> (usize, String) {
        let signer = &snapshot.destination(id).expect("the destination").signer;
        let standard = signer.sign("msg_1", 1_790_000_000, b"{}").expect("signed");
        let nylas = signer.sign_as_nylas(b"{}").expect("signed");
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        (text(&standard).split(' ').count(), text(&nylas))
    }

    #[test]
    fn a_rotated_secret_signs_until_its_end_and_not_after_though_nothing_else_changes() {
        let (vault, now) = (Vault::new([7; 32]), Timestamp::from_secs(1_790_000_000));
        let end = now.plus(DAY);
        let (application, id) = (ApplicationId::from_u128(1), DestinationId::from_u128(2));
        let sealed = |secret: &str, expires_at| SealedSecret {
            sealed: vault.seal(id.as_u128(), secret.as_bytes(), Clock),
            created_at: now,
            expires_at,
        };
        let url = "https://example.test/".into();
        let destination = Destination {
            signing: Signing::Both,
            secrets: vec![
                sealed("whsec_bmV3IHNlY3JldCBvZiB0aGlzIHZlcnkgdGVzdA==", None),
                sealed("whsec_b2xkIHNlY3JldCBvZiB0aGlzIHZlcnkgdGVzdA==", Some(end)),
            ],
            ..Destination::new(id, application, "crm", DestinationKind::Push { url }, now)
        };
        let mut topology = Topology::default();
        topology
            .applications
            .insert(application, Application::new(application, "default", now));
        topology.destinations.insert(id, destination);
        let topology = Arc::new(topology);

        let rotated = Snapshot::new(Arc::clone(&topology), &vault, now);
        let (both, by_newest) = signatures(&rotated, id);
        assert_eq!(both, 2);
        let last = rotated.after(Arc::clone(&topology), &vault, end.minus(Duration::from_micros(1)));
        assert_eq!(signatures(&last, id), (2, by_newest.clone()));
        let over = last.after(topology, &vault, end);
        assert_eq!(signatures(&over, id), (1, by_newest));
    }
}
