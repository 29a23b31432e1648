//! One good request for each operation of the document.

use serde_json::{Value, json};

use crate::world::Things;

/// A request that an operation takes.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(crate) operation: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) status: u16,
}

/// A good request for each operation, on `things`; those that remove something come last.
pub(crate) fn all(things: &Things, key_id: &str) -> Vec<Good> {
    let Things {
        source,
        push,
        pull,
        event,
        delivery,
        quarantined,
        replay,
        receipt,
        application,
        ..
    } = things;
    let receipts = json!({"receipts": [receipt]});
    let new = format!("{}-new", things.name);
    let table: Vec<(&'static str, &'static str, String, Option<Value>, u16)> = vec![
        ("healthz", "GET", "/healthz".into(), None, 200),
        ("readyz", "GET", "/readyz".into(), None, 200),
        ("metrics", "GET", "/metrics".into(), None, 200),
        ("list_events", "GET", "/api/v1/events".into(), None, 200),
        ("show_event", "GET", format!("/api/v1/events/{event}"), None, 200),
        (
            "event_body",
            "GET",
            format!("/api/v1/events/{event}/body"),
            None,
            200,
        ),
        (
            "replay_event",
            "POST",
            format!("/api/v1/events/{event}/replay"),
            Some(json!({"destination": pull})),
            202,
        ),
        ("list_deliveries", "GET", "/api/v1/deliveries".into(), None, 200),
        (
            "show_delivery",
            "GET",
            format!("/api/v1/deliveries/{delivery}"),
            None,
            200,
        ),
        (
            "retry_delivery",
            "POST",
            format!("/api/v1/deliveries/{delivery}/retry"),
            None,
            200,
        ),
        (
            "discard_delivery",
            "POST",
            format!("/api/v1/deliveries/{delivery}/discard"),
            None,
            200,
        ),
        ("list_sources", "GET", "/api/v1/sources".into(), None, 200),
        (
            "create_source",
            "POST",
            "/api/v1/sources".into(),
            Some(json!({"name": new, "provider": "nylas"})),
            201,
        ),
        (
            "show_source",
            "GET",
            format!("/api/v1/sources/{source}"),
            None,
            200,
        ),
        (
            "update_source",
            "PATCH",
            format!("/api/v1/sources/{source}"),
            Some(json!({"rate_limit": 7})),
            200,
        ),
        ("list_providers", "GET", "/api/v1/providers".into(), None, 200),
        (
            "list_destinations",
            "GET",
            "/api/v1/destinations".into(),
            None,
            200,
        ),
        (
            "create_destination",
            "POST",
            "/api/v1/destinations".into(),
            Some(json!({"name": new, "sources": [source]})),
            201,
        ),
        (
            "show_destination",
            "GET",
            format!("/api/v1/destinations/{push}"),
            None,
            200,
        ),
        (
            "update_destination",
            "PATCH",
            format!("/api/v1/destinations/{push}"),
            Some(json!({"timeout": "7s"})),
            200,
        ),
        (
            "pause_destination",
            "POST",
            format!("/api/v1/destinations/{push}/pause"),
            None,
            200,
        ),
        (
            "resume_destination",
            "POST",
            format!("/api/v1/destinations/{push}/resume"),
            None,
            200,
        ),
        (
            "reactivate_destination",
            "POST",
            format!("/api/v1/destinations/{push}/reactivate"),
            None,
            200,
        ),
        (
            "rotate_destination_secret",
            "POST",
            format!("/api/v1/destinations/{push}/rotate-secret"),
            None,
            200,
        ),
        (
            "pull",
            "POST",
            format!("/api/v1/destinations/{pull}/pull"),
            Some(json!({})),
            200,
        ),
        (
            "extend",
            "POST",
            format!("/api/v1/destinations/{pull}/extend"),
            Some(receipts.clone()),
            200,
        ),
        (
            "nack",
            "POST",
            format!("/api/v1/destinations/{pull}/nack"),
            Some(receipts.clone()),
            200,
        ),
        (
            "ack",
            "POST",
            format!("/api/v1/destinations/{pull}/ack"),
            Some(receipts),
            200,
        ),
        ("list_replays", "GET", "/api/v1/replays".into(), None, 200),
        (
            "create_replay",
            "POST",
            "/api/v1/replays".into(),
            Some(json!({"source": source, "destination": push})),
            202,
        ),
        (
            "show_replay",
            "GET",
            format!("/api/v1/replays/{replay}"),
            None,
            200,
        ),
        (
            "cancel_replay",
            "POST",
            format!("/api/v1/replays/{replay}/cancel"),
            None,
            200,
        ),
        ("list_quarantined", "GET", "/api/v1/quarantine".into(), None, 200),
        (
            "show_quarantined",
            "GET",
            format!("/api/v1/quarantine/{quarantined}"),
            None,
            200,
        ),
        (
            "release_quarantined",
            "POST",
            "/api/v1/quarantine/release".into(),
            Some(json!({"ids": [quarantined]})),
            200,
        ),
        (
            "discard_quarantined",
            "POST",
            "/api/v1/quarantine/discard".into(),
            Some(json!({"source": source})),
            200,
        ),
        ("list_rejected", "GET", "/api/v1/rejected".into(), None, 200),
        ("show_stats", "GET", "/api/v1/stats".into(), None, 200),
        ("stream", "GET", "/api/v1/stream".into(), None, 200),
        (
            "list_applications",
            "GET",
            "/api/v1/applications".into(),
            None,
            200,
        ),
        (
            "create_application",
            "POST",
            "/api/v1/applications".into(),
            Some(json!({"name": new})),
            201,
        ),
        (
            "show_application",
            "GET",
            format!("/api/v1/applications/{application}"),
            None,
            200,
        ),
        (
            "update_application",
            "PATCH",
            format!("/api/v1/applications/{application}"),
            Some(json!({"name": things.name})),
            200,
        ),
        ("list_keys", "GET", "/api/v1/keys".into(), None, 200),
        (
            "create_key",
            "POST",
            "/api/v1/keys".into(),
            Some(json!({"name": "another", "scope": "read"})),
            201,
        ),
        ("show_key", "GET", format!("/api/v1/keys/{key_id}"), None, 200),
        ("list_nodes", "GET", "/api/v1/nodes".into(), None, 200),
        (
            "create_backup",
            "POST",
            "/api/v1/backups".into(),
            Some(json!({"file": "/nowhere/copy.db"})),
            // The memory store has no file to copy.
            409,
        ),
        (
            "delete_source",
            "DELETE",
            format!("/api/v1/sources/{source}"),
            None,
            204,
        ),
        (
            "delete_destination",
            "DELETE",
            format!("/api/v1/destinations/{push}"),
            None,
            204,
        ),
        (
            "revoke_key",
            "DELETE",
            format!("/api/v1/keys/{key_id}"),
            None,
            204,
        ),
    ];
    let good = table
        .into_iter()
        .map(|(operation, method, path, body, status)| Good {
            operation,
            method,
            path,
            body,
            status,
        });
    good.collect()
}

/// Operations that need no key.
pub(crate) const OPEN: [&str; 2] = ["healthz", "readyz"];
/// Operations of the admin scope alone.
pub(crate) const ADMIN: [&str; 11] = [
    "metrics",
    "list_applications",
    "create_application",
    "show_application",
    "update_application",
    "list_keys",
    "create_key",
    "show_key",
    "revoke_key",
    "list_nodes",
    "create_backup",
];
/// Operations of pullers.
pub(crate) const PULL: [&str; 4] = ["pull", "ack", "nack", "extend"];
