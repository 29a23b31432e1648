//! Tests of the mock notifications against what Nylas documents.

use std::collections::BTreeSet;

use super::*;
use crate::outbox::catalogue;
use crate::outbox::envelope::{Form, Published, check_size, notification};

const APPLICATION: &str = "0d9f3a71-4b62-4e15-8c3d-7a1e5f90b284";
const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

const GRANT: &str = "code grant_id integration_id provider email";
const MESSAGE: &str = "id grant_id object thread_id subject from to cc bcc reply_to date body snippet starred unread \
                       folders attachments metadata";
const HEADERS_ONLY: &str = "id grant_id object thread_id subject from to cc bcc reply_to date starred unread folders \
                            metadata headers";
const IDS: &str = "id grant_id object";
const OPENED: &str = "object grant_id message_id label message_data recents sender_app_id timestamp";
const CLICKED: &str = "object grant_id message_id label link_data recents sender_app_id timestamp";
const LEGACY: &str = "deltas grant_id object";
const FOLDER: &str = "id grant_id name object system_folder";
const CALENDAR: &str = "id object grant_id name is_primary is_owned_by_user owner_email timezone read_only hex_color \
                        hex_foreground_color";
const EVENT: &str = "id grant_id calendar_id object title description location status busy visibility read_only when \
                     participants organizer creator conferencing recurrence reminders resources ical_uid html_link \
                     sequence metadata created_at updated_at hide_participants account_id";
const CONTACT: &str = "id grant_id object given_name middle_name surname suffix nickname emails phone_numbers \
                       company_name job_title birthday groups im_addresses physical_addresses web_pages notes \
                       office_location manager_name source";
const BOOKING: &str = "booking_id configuration_id object booking_info";
const NOTETAKER: &str =
    "id grant_id object meeting_settings meeting_provider meeting_link join_time event status state";
const INTELLIGENCE: &str = "confidence_score email_category email_timestamp fetched_email_id grant_id merchant metadata \
                            object order_status status error";

/// The fields of `data.object` by trigger type: those that several types have, and its own.
const FIELDS: [(&str, &str, &str); 56] = [
    ("grant.created", GRANT, "login_id name scope"),
    ("grant.updated", GRANT, "reauthentication_flag"),
    ("grant.deleted", GRANT, ""),
    ("grant.expired", GRANT, "grant_updated_at"),
    (
        "grant.imap_sync_completed",
        "code grant_id integration_id provider",
        "type",
    ),
    ("message.created", MESSAGE, ""),
    ("message.created.cleaned", MESSAGE, "cleaning_status"),
    ("message.created.truncated", MESSAGE, "-body"),
    ("message.created.metadata", HEADERS_ONLY, ""),
    ("message.updated", MESSAGE, ""),
    ("message.updated.truncated", MESSAGE, "-body"),
    ("message.updated.metadata", HEADERS_ONLY, ""),
    ("message.deleted", IDS, ""),
    ("message.send_success", MESSAGE, ""),
    ("message.send_failed", MESSAGE, "schedule_id send_at use_draft"),
    (
        "message.bounce_detected",
        "bounce_reason bounce_date bounced_addresses type code grant_id origin",
        "",
    ),
    ("message.opened", OPENED, ""),
    ("message.link_clicked", CLICKED, ""),
    (
        "thread.replied",
        "object grant_id message_id root_message_id reply_to_message_id thread_id label reply_data from_self \
         sender_app_id timestamp",
        "",
    ),
    ("message.opened.legacy", LEGACY, ""),
    ("message.link_clicked.legacy", LEGACY, ""),
    ("thread.replied.legacy", LEGACY, ""),
    ("message.delivered", "message", "delivered"),
    ("message.bounced", "message", "bounce"),
    ("message.complaint", "message", "complaint"),
    ("message.rejected", "message", "rejected_at"),
    ("message.transactional.delivered", "message", "delivered"),
    ("message.transactional.bounced", "message", "bounce"),
    ("message.transactional.complaint", "message", "complaint"),
    ("message.transactional.rejected", "message", "rejected_at"),
    ("message.intelligence.order", INTELLIGENCE, "orders"),
    ("message.intelligence.tracking", INTELLIGENCE, "shippings"),
    ("message.intelligence.return", INTELLIGENCE, "returns"),
    ("message.intelligence.travel", INTELLIGENCE, ""),
    ("folder.created", FOLDER, ""),
    ("folder.updated", FOLDER, ""),
    ("folder.deleted", FOLDER, ""),
    ("calendar.created", CALENDAR, "description location metadata"),
    ("calendar.updated", CALENDAR, "description location metadata"),
    ("calendar.deleted", CALENDAR, ""),
    ("event.created", EVENT, ""),
    ("event.updated", EVENT, "occurrences cancelled_occurrences"),
    (
        "event.deleted",
        "id calendar_id object grant_id",
        "master_event_id metadata",
    ),
    ("contact.updated", CONTACT, ""),
    ("contact.deleted", IDS, ""),
    ("booking.created", BOOKING, "booking_ref"),
    ("booking.pending", BOOKING, "booking_ref booking_type"),
    ("booking.rescheduled", BOOKING, "booking_ref"),
    ("booking.cancelled", BOOKING, ""),
    ("booking.reminder", BOOKING, "booking_ref"),
    ("notetaker.created", NOTETAKER, ""),
    ("notetaker.updated", NOTETAKER, ""),
    ("notetaker.deleted", IDS, "event"),
    ("notetaker.meeting_state", NOTETAKER, "meeting_state"),
    ("notetaker.media", NOTETAKER, "media"),
    (
        "alert.triggered",
        "object id grant_id status notification_seq started_at triggered_at sending_domain rule",
        "",
    ),
];

/// Fields of a field, by the path below `data.object`: a whole list for each type that has it.
const NESTED: [(&str, &str, &str); 24] = [
    ("message.created", "from.0", "name email"),
    (
        "message.created",
        "attachments.0",
        "id filename content_type size is_inline content_id content_disposition grant_id",
    ),
    ("message.created.metadata", "headers.0", "name value"),
    (
        "message.bounce_detected",
        "origin",
        "to from cc bcc subject mime_id id original_send_at",
    ),
    ("message.opened", "message_data", "count timestamp"),
    ("message.opened", "recents.0", "ip opened_id timestamp user_agent"),
    ("message.link_clicked", "link_data.0", "count url"),
    (
        "message.link_clicked",
        "recents.0",
        "click_id ip link_index timestamp user_agent",
    ),
    ("thread.replied", "reply_data", "count"),
    (
        "message.opened.legacy",
        "deltas.0",
        "date object object_data type",
    ),
    (
        "message.opened.legacy",
        "deltas.0.object_data",
        "account_id id metadata namespace_id object",
    ),
    (
        "message.delivered",
        "message",
        "id subject from to cc bcc sent_at metadata",
    ),
    ("message.delivered", "delivered", "delivered_at recipients"),
    ("message.bounced", "bounce", "bounced_at type recipients"),
    ("message.bounced", "bounce.recipients.0", "email diagnostic_code"),
    (
        "message.complaint",
        "complaint",
        "reported_at type complained_recipients",
    ),
    ("message.intelligence.order", "merchant", "domain name"),
    (
        "message.intelligence.order",
        "metadata",
        "language market sender_domain",
    ),
    (
        "event.created",
        "when",
        "object start_time end_time start_timezone end_timezone",
    ),
    ("event.created", "participants.0", "email name status"),
    ("event.created", "conferencing", "provider details"),
    ("notetaker.deleted", "event", "ical_uid event_id master_event_id"),
    (
        "notetaker.media",
        "media",
        "recording recording_duration recording_file_format thumbnail transcript summary action_items",
    ),
    ("alert.triggered", "rule", "metric threshold window_hours"),
];

/// Types with `data.grant_id` beside `data.object`.
const WITH_GRANT: [&str; 17] = [
    "message.bounce_detected",
    "message.send_failed",
    "message.opened",
    "message.link_clicked",
    "thread.replied",
    "message.opened.legacy",
    "message.link_clicked.legacy",
    "thread.replied.legacy",
    "message.delivered",
    "message.bounced",
    "message.complaint",
    "message.rejected",
    "booking.created",
    "booking.pending",
    "booking.rescheduled",
    "booking.cancelled",
    "booking.reminder",
];

fn mock(trigger: &str) -> Value {
    payload(trigger, APPLICATION, NOW).unwrap_or_else(|| panic!("{trigger} has no example"))
}

fn at<'v>(trigger: &str, value: &'v Value, path: &str) -> &'v Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    value
        .pointer(&pointer)
        .unwrap_or_else(|| panic!("{trigger} has no {path}"))
}

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn words(list: &str) -> BTreeSet<&str> {
    list.split_ascii_whitespace().collect()
}

#[test]
fn every_type_of_the_catalogue_has_an_example_with_the_documented_fields() {
    let mut listed = BTreeSet::new();
    for (trigger, common, own) in FIELDS {
        let mut expected = words(common);
        for word in words(own) {
            match word.strip_prefix('-') {
                Some(left_out) => assert!(expected.remove(left_out), "{trigger} {left_out}"),
                None => assert!(expected.insert(word), "{trigger} {word}"),
            }
        }
        assert_eq!(fields(&mock(trigger)["data"]["object"]), expected, "{trigger}");
        listed.insert(trigger);
    }
    let catalogue: BTreeSet<_> = catalogue::nylas().iter().map(|each| each.name).collect();
    assert_eq!(listed, catalogue);
}

#[test]
fn what_is_inside_a_field_is_as_documented_too() {
    for (trigger, path, expected) in NESTED {
        let payload = mock(trigger);
        let nested = at(trigger, &payload["data"]["object"], path);
        assert_eq!(fields(nested), words(expected), "{trigger} {path}");
    }
    let failed = mock("message.send_failed");
    let beside = words("application_id grant_id reason error object");
    assert_eq!(fields(&failed["data"]), beside);
    let error = words("type message status_code provider_error");
    assert_eq!(fields(&failed["data"]["error"]), error);
}

#[test]
fn bookings_say_what_is_known_about_the_time() {
    let common = "event_id start_time end_time participants additional_fields title duration location \
                  organizer_timezone guest_timezone is_group_event organizer_calendar_id";
    for (trigger, own) in [
        ("booking.created", ""),
        ("booking.pending", ""),
        ("booking.rescheduled", "old_start_time old_end_time"),
        ("booking.cancelled", "cancellation_reason"),
        ("booking.reminder", "time_until_event organizer_email provider"),
    ] {
        let payload = mock(trigger);
        let info = fields(&payload["data"]["object"]["booking_info"]);
        let more = words("hide_cancellation_options hide_rescheduling_options");
        let expected: BTreeSet<_> = words(common).into_iter().chain(words(own)).chain(more).collect();
        assert_eq!(info, expected, "{trigger}");
    }
}

#[test]
fn the_envelope_is_the_documented_one_around_every_example() {
    let envelope = words("specversion type source id time webhook_delivery_attempt data");
    for trigger in catalogue::nylas().iter().map(|each| each.name) {
        let payload = mock(trigger);
        assert_eq!(fields(&payload), envelope, "{trigger}");
        assert_eq!(payload["specversion"], "1.0");
        assert_eq!(payload["type"], trigger);
        assert_eq!(payload["id"], "mock-id-1790000000");
        assert_eq!(payload["time"], 1_790_000_000);
        assert_eq!(payload["webhook_delivery_attempt"], 1);
        let data = &payload["data"];
        assert_eq!(data["application_id"], APPLICATION, "{trigger}");
        let with_grant = WITH_GRANT.contains(&trigger);
        assert_eq!(data["grant_id"].is_string(), with_grant, "{trigger}");
        let beside = fields(data).len();
        let expected = if trigger == "message.send_failed" {
            5
        } else {
            2 + usize::from(with_grant)
        };
        assert_eq!(beside, expected, "{trigger}");
    }
}

#[test]
fn sources_are_those_that_nylas_names() {
    let fixed = [
        "/nylas/system",
        "/nylas/send",
        "/nylas/passthru",
        "/nylas/notetaker",
        "/com/nylas/tracking",
        "/com/nylas/v2/webhooks",
    ];
    for trigger in catalogue::nylas().iter().map(|each| each.name) {
        let payload = mock(trigger);
        let source = payload["source"].as_str().unwrap();
        let parts: Vec<_> = source.split('/').skip(1).collect();
        let of_provider = matches!(
            parts[..],
            [
                "google" | "microsoft" | "imap",
                "emails" | "events" | "contacts",
                "realtime" | "historic" | "incremental"
            ]
        );
        assert!(of_provider || fixed.contains(&source), "{trigger} {source}");
    }
}

/// Values have the type that the name of their field promises, at any depth.
#[test]
fn values_have_the_types_that_readers_expect() {
    for trigger in catalogue::nylas() {
        check_types(trigger.name, "", &mock(trigger.name)["data"]["object"]);
    }
    let codes = [
        ("grant.created", 25012),
        ("grant.updated", 25014),
        ("grant.deleted", 25013),
        ("grant.expired", 25009),
        ("grant.imap_sync_completed", 25012),
    ];
    for (trigger, code) in codes {
        assert_eq!(mock(trigger)["data"]["object"]["code"], code, "{trigger}");
    }
    assert_eq!(mock("message.bounce_detected")["data"]["object"]["code"], "550");
}

fn check_types(trigger: &str, name: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(name, value)| check_types(trigger, name, value));
        }
        Value::Array(items) => items.iter().for_each(|item| check_types(trigger, "", item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    let fits = match name {
        "date" | "timestamp" | "start_time" | "end_time" | "created_at" | "updated_at" | "join_time"
        | "send_at" | "sent_at" | "delivered_at" | "bounced_at" | "reported_at" | "rejected_at"
        | "started_at" | "triggered_at" | "email_timestamp" | "grant_updated_at" => value
            .as_i64()
            .is_some_and(|seconds| (1_789_000_000..1_791_000_000).contains(&seconds)),
        "to" | "cc" | "bcc" | "reply_to" | "folders" | "attachments" | "participants" | "recents"
        | "deltas" | "scope" | "orders" | "shippings" | "returns" => value.is_array(),
        "starred"
        | "unread"
        | "busy"
        | "read_only"
        | "is_primary"
        | "system_folder"
        | "use_draft"
        | "from_self"
        | "is_inline"
        | "reauthentication_flag" => value.is_boolean(),
        "id" | "grant_id" | "thread_id" | "calendar_id" | "subject" | "body" | "snippet" => {
            value.is_string() || value.is_u64()
        }
        "object" => value.is_string(),
        "metadata" | "meeting_settings" | "booking_info" | "media" | "rule" | "merchant" => value.is_object(),
        _ => true,
    };
    assert!(fits, "{trigger}: {name} is {value}");
}

#[test]
fn objects_are_named_after_their_trigger() {
    for trigger in catalogue::nylas() {
        let payload = mock(trigger.name);
        if let Some(object) = payload["data"]["object"].get("object") {
            assert_eq!(object, trigger.category, "{}", trigger.name);
        }
    }
}

#[test]
fn nobody_real_is_in_an_example() {
    for trigger in catalogue::nylas() {
        let text = mock(trigger.name).to_string();
        let hosts = text.match_indices('@').map(|(at, _)| &text[at + 1..]);
        for host in hosts {
            let host = host.split(['"', '>', ' ']).next().unwrap();
            assert!(host.ends_with("example.com"), "{} {host}", trigger.name);
        }
        for (at, _) in text.match_indices("https://") {
            let host = text[at + 8..].split(['/', '"', '?']).next().unwrap();
            let known = host.ends_with("example.com") || host == "www.googleapis.com";
            assert!(known, "{} {host}", trigger.name);
        }
    }
}

#[test]
fn what_is_no_type_of_the_catalogue_has_no_example() {
    for trigger in ["", "message.*", "message.opened.truncated", "invoice.paid"] {
        assert_eq!(payload(trigger, APPLICATION, NOW), None, "{trigger}");
    }
}

/// A mock without its attempt, which is counted on the way, is an event that can be published and arrives as
/// the mock.
#[test]
fn every_example_can_be_published_and_arrives_as_it_is() {
    for trigger in catalogue::nylas() {
        let example = mock(trigger.name);
        let mut published = example.clone();
        published
            .as_object_mut()
            .unwrap()
            .remove("webhook_delivery_attempt");
        let body = serde_json::to_vec(&published).unwrap();
        assert_eq!(check_size(&Published::parse(&body).unwrap(), NOW), Ok(()));
        let sent = notification(&body, Form::Nylas, 1, NOW, None).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&sent.body).unwrap(),
            example,
            "{}",
            trigger.name
        );
    }
}
