//! From what the file declares to changes of the topology.
//!
//! Owns the comparison: what the file declares is set, what the API made stays, and where nothing differs
//! nothing changes. Must not make the changes, nor know files.

use hookfast_engine::id::{ApplicationId, DestinationId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::{
    DEFAULT_APPLICATION, Destination, OUTBOX, Origin, SealedSecret, Signing, Source, Topology,
    TopologyChange, TriggerType,
};
use hookfast_signature::Secret;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::declare::Stored;
use super::{Declared, DeclaredDestination, DeclaredSource, DeclaredTrigger};
use crate::clock::Clock;
use crate::deliver::sign;
use crate::vault::Vault;

/// How long a signing secret that was replaced is still signed with (SPEC O15).
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// Why what the file declares cannot be set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// There is no application to set it in.
    #[error("there is no application `{DEFAULT_APPLICATION}` to set what the file declares in")]
    NoApplication,
    /// A source's name is taken elsewhere.
    #[error("the source `{0}` belongs to another application: give the one in the file another name")]
    SourceElsewhere(String),
    /// A destination names a source that is not declared.
    #[error("the destination `{destination}` names a source `{source_name}` that is not declared")]
    NoSource {
        /// The destination.
        destination: String,
        /// The source.
        source_name: String,
    },
}

/// The changes that make `topology` what `declared` says, in the order to make them; none where it is so.
///
/// # Errors
/// Where the default application is missing or a name is taken in another.
pub fn changes(
    declared: &Declared,
    topology: &Topology,
    vault: &Vault,
    clock: Clock,
) -> Result<Vec<TopologyChange>, ApplyError> {
    let mut applications = topology.applications.values();
    let application = applications
        .find(|each| each.name == DEFAULT_APPLICATION)
        .ok_or(ApplyError::NoApplication)?;
    let own = topology
        .live_destinations()
        .filter(|each| each.application == application.id);
    let applying = Applying {
        topology,
        destinations: own.map(|each| (each.name.as_str(), each)).collect(),
        vault,
        clock,
        now: clock.now(),
        application: application.id,
    };
    let policies = declared.policies.iter();
    let different = policies.filter(|policy| topology.policies.get(&policy.name) != Some(policy));
    let mut changes: Vec<_> = different.cloned().map(TopologyChange::PutPolicy).collect();
    let triggers = declared.triggers.iter();
    let changed = triggers.filter_map(|trigger| applying.trigger(trigger));
    changes.extend(changed.map(TopologyChange::PutTriggerType));
    let mut ids = BTreeMap::new();
    for source in &declared.sources {
        let (id, changed) = applying.source(source)?;
        ids.insert(source.name.as_str(), id);
        changes.extend(changed.map(TopologyChange::PutSource));
    }
    for destination in &declared.destinations {
        let changed = applying.destination(destination, &ids)?;
        changes.extend(changed.map(TopologyChange::PutDestination));
    }
    Ok(changes)
}

/// What a file declared once and declares no longer: it stays until somebody deletes it.
#[must_use]
pub fn no_longer_declared(declared: &Declared, topology: &Topology) -> Vec<String> {
    let named: BTreeSet<_> = declared.sources.iter().map(|each| &each.name).collect();
    let sources = topology
        .sources
        .values()
        .filter(|source| source.origin == Origin::File && !named.contains(&source.name))
        .map(|source| format!("source {}", source.name));
    let named: BTreeSet<_> = declared.destinations.iter().map(|each| &each.name).collect();
    let destinations = topology
        .live_destinations()
        .filter(|each| each.origin == Origin::File && !named.contains(&each.name))
        .map(|each| format!("destination {}", each.name));
    let named: BTreeSet<_> = declared.triggers.iter().map(|each| &each.name).collect();
    let triggers = topology
        .trigger_types
        .values()
        .filter(|each| each.origin == Origin::File && !named.contains(&each.name))
        .map(|each| format!("trigger {}", each.name));
    sources.chain(destinations).chain(triggers).collect()
}

struct Applying<'a> {
    topology: &'a Topology,
    /// The application's own by name: there may be ten thousand.
    destinations: BTreeMap<&'a str, &'a Destination>,
    vault: &'a Vault,
    clock: Clock,
    now: Timestamp,
    application: ApplicationId,
}

impl Applying<'_> {
    /// The trigger type, where it differs from what is there.
    fn trigger(&self, declared: &DeclaredTrigger) -> Option<TriggerType> {
        let key = (self.application, declared.name.clone());
        let found = self.topology.trigger_types.get(&key);
        let (created_at, updated_at) =
            found.map_or((self.now, self.now), |found| (found.created_at, found.updated_at));
        let mut trigger_type = declared.trigger_type(self.application, created_at, updated_at);
        if found == Some(&trigger_type) {
            return None;
        }
        trigger_type.updated_at = self.now;
        Some(trigger_type)
    }

    /// The source's id, and the source where it differs from what is there.
    fn source(&self, declared: &DeclaredSource) -> Result<(SourceId, Option<Source>), ApplyError> {
        let found = self.topology.source_named(&declared.name);
        if found.is_some_and(|found| found.application != self.application) {
            return Err(ApplyError::SourceElsewhere(declared.name.clone()));
        }
        let id = found.map_or_else(|| SourceId::new(self.now, self.clock.entropy()), |found| found.id);
        let there = found.map_or(&[][..], |found| &found.secrets);
        let secrets = match &declared.secrets {
            Some(secrets) => self.sealed(id.as_u128(), secrets, there),
            None => there.to_vec(),
        };
        let mut source = declared.source(Stored {
            id,
            application: self.application,
            secrets,
            created_at: found.map_or(self.now, |found| found.created_at),
            updated_at: found.map_or(self.now, |found| found.updated_at),
        });
        if found == Some(&source) {
            return Ok((id, None));
        }
        source.updated_at = self.now;
        Ok((id, Some(source)))
    }

    /// The destination, where it differs from what is there.
    fn destination(
        &self,
        declared: &DeclaredDestination,
        ids: &BTreeMap<&str, SourceId>,
    ) -> Result<Option<Destination>, ApplyError> {
        let found = self.destinations.get(declared.name.as_str()).copied();
        let new = || DestinationId::new(self.now, self.clock.entropy());
        let id = found.map_or_else(new, |found| found.id);
        let there = found.map_or(&[][..], |found| &found.secrets);
        let sources = declared.sources.iter().map(|name| {
            if name == OUTBOX {
                return Ok(SourceId::of_outbox(self.application));
            }
            ids.get(name.as_str())
                .copied()
                .ok_or_else(|| ApplyError::NoSource {
                    destination: declared.name.clone(),
                    source_name: name.clone(),
                })
        });
        let found_or_new = found.cloned().unwrap_or_else(|| {
            let kind = declared.kind.clone();
            Destination::new(id, self.application, &declared.name, kind, self.now)
        });
        let mut destination = Destination {
            description: declared.description.clone(),
            kind: declared.kind.clone(),
            sources: sources.collect::<Result<_, _>>()?,
            trigger_types: declared.trigger_types.clone(),
            policy: declared.policy.clone(),
            timeout: declared.timeout,
            concurrency: declared.concurrency,
            rate_limit: declared.rate_limit,
            allow_private: declared.allow_private,
            secrets: self.signing_secrets(id.as_u128(), declared.signing, declared.secret.as_ref(), there),
            signing: declared.signing,
            compressed: declared.compressed,
            notification_email_addresses: declared.notification_email_addresses.clone(),
            origin: Origin::File,
            ..found_or_new
        };
        if found == Some(&destination) {
            return Ok(None);
        }
        destination.updated_at = self.now;
        Ok(Some(destination))
    }

    /// `secrets` sealed, each once, and as it is there already where it is.
    fn sealed(&self, owner: u128, secrets: &[Secret], there: &[SealedSecret]) -> Vec<SealedSecret> {
        let same = |one: &Secret, other: &Secret| one.expose() == other.expose();
        let said_before = |index: usize| secrets[..index].iter().any(|each| same(each, &secrets[index]));
        let each_once = (0..secrets.len()).filter(|index| !said_before(*index));
        let sealed = each_once.map(|index| {
            let secret = &secrets[index];
            let found = there
                .iter()
                .find(|each| each.expires_at.is_none() && self.opens_to(owner, each, secret));
            found.cloned().unwrap_or_else(|| self.seal(owner, secret))
        });
        sealed.collect()
    }

    /// The signing secrets, newest first: the declared one before those it replaces, which stay valid for a
    /// while; what is there where none is declared; a new one where there is none.
    fn signing_secrets(
        &self,
        owner: u128,
        signing: Signing,
        declared: Option<&Secret>,
        there: &[SealedSecret],
    ) -> Vec<SealedSecret> {
        let Some(secret) = declared else {
            if there
                .first()
                .is_some_and(|newest| self.fits(owner, newest, signing))
            {
                return there.to_vec();
            }
            return vec![self.seal(owner, &sign::new_secret(signing, self.clock))];
        };
        let newest = there.first().filter(|newest| newest.expires_at.is_none());
        if newest.is_some_and(|newest| self.opens_to(owner, newest, secret)) {
            return there.to_vec();
        }
        let end = self.now.plus(OVERLAP);
        let replaced = there
            .iter()
            .filter(|each| each.expires_at.is_none_or(|expires_at| self.now < expires_at))
            .filter(|each| !self.opens_to(owner, each, secret));
        let ending = replaced.map(|each| SealedSecret {
            expires_at: Some(each.expires_at.map_or(end, |expires_at| expires_at.min(end))),
            ..each.clone()
        });
        std::iter::once(self.seal(owner, secret)).chain(ending).collect()
    }

    fn seal(&self, owner: u128, secret: &Secret) -> SealedSecret {
        SealedSecret {
            sealed: self.vault.seal(owner, secret.expose().as_bytes(), self.clock),
            created_at: self.now,
            expires_at: None,
        }
    }

    /// Whether a stored secret can sign so.
    fn fits(&self, owner: u128, sealed: &SealedSecret, signing: Signing) -> bool {
        let opened = self.vault.open_sealed(owner, &sealed.sealed);
        let text = opened.and_then(|opened| String::from_utf8(opened).ok());
        text.is_some_and(|text| sign::check_secret(signing, &Secret::new(text)).is_ok())
    }

    fn opens_to(&self, owner: u128, sealed: &SealedSecret, secret: &Secret) -> bool {
        self.vault.open_sealed(owner, &sealed.sealed).as_deref() == Some(secret.expose().as_bytes())
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
