//! Publishing: an application's events, one or many at once (SPEC O1).
//!
//! Owns this route: what is read, in which forms, and what is answered for each event. What an event is stands in
//! `outbox::published`, which types there are in `outbox::catalogue`. Must not know where events go.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use hookfast_engine::event::{Event, HeaderBlock};
use hookfast_engine::id::{ApplicationId, EventId, SourceId};
use hookfast_engine::time::Timestamp;
use hookfast_engine::topology::OUTBOX;
use hookfast_store::{Appended, NewEvent};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;

use super::auth::Writer;
use super::error::{Code, Fault};
use super::wire::{PUBLISHED_BYTES_MOST as BYTES_MOST, PUBLISHED_EVENTS_MOST as EVENTS_MOST};
use super::{Api, wire};
use crate::budget::Reservation;
use crate::ingest::accept::mark;
use crate::ingest::meter::counter;
use crate::outbox::catalogue::{Catalogue, subscribed_as};
use crate::outbox::envelope::{Published, check_size};

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how long a repeat is recognised.
const DEDUPE_WINDOW: Duration = Duration::from_secs(7 * 86_400);
/// How many events of one request wait for the store at once: enough to share its commits, and few beside the 4,096
/// that a source may have waiting, so that no request is refused for its own length. Between so many, others that the
/// thread serves have their turn.
const AT_ONCE: usize = 256;
/// When to come again where memory is short.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const NDJSON: &str = "application/x-ndjson";

/// Publishes one event (CloudEvents 1.0 in JSON), or many, one on each line. 202 means that it is on stable storage.
/// Of many, each line is answered with a line: all of them 202, or 207 where one was not taken.
#[utoipa::path(post, path = "/api/v1/events", tag = "events",
    request_body(content(
        (wire::CloudEvent = "application/json"),
        (wire::CloudEvent = "application/cloudevents+json"),
        (String = "application/x-ndjson"),
    ), description = "one event, or one on each line"),
    responses(
        (status = 202, body = wire::Accepted, description = "it is stored; of many, a line for each"),
        (status = 207, body = wire::LineResult, content_type = "application/x-ndjson", description = "of many, at least one was not taken"),
    ))]
pub(super) async fn publish_events(
    Writer(caller): Writer,
    State(api): State<Arc<Api>>,
    request: Request,
) -> Result<Response, Fault> {
    let application = caller.one_application()?;
    let form = form(request.headers())?;
    let (body, _reserved) = read(&api, request).await?;
    let publisher = Publisher::new(&api, application);
    match form {
        Form::One => publisher.one(body).await,
        Form::Lines => publisher.many(&body).await,
    }
}

#[derive(Clone, Copy)]
enum Form {
    One,
    Lines,
}

fn form(headers: &HeaderMap) -> Result<Form, Fault> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|given| given.split(';').next())
        .unwrap_or_default();
    match given.trim().to_ascii_lowercase().as_str() {
        "application/json" | "application/cloudevents+json" => Ok(Form::One),
        NDJSON => Ok(Form::Lines),
        _ => Err(Fault::new(
            Code::UnsupportedMediaType,
            "send one event as `content-type: application/json` or `application/cloudevents+json`, or one on each \
             line as `application/x-ndjson`",
        )),
    }
}

/// The whole body, with the memory it was given.
async fn read(api: &Api, request: Request) -> Result<(Bytes, Reservation), Fault> {
    let mut reservation = api.node.ingest_budget.reservation();
    let mut body = request.into_body();
    let reading = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Fault::new(Code::MalformedRequest, "the body ended too early"))?;
            let Some(data) = frame.data_ref() else { continue };
            if whole.len() + data.len() > BYTES_MOST {
                let detail = format!("the body is larger than {BYTES_MOST} bytes; publish less at once");
                return Err(Fault::new(Code::RequestTooLarge, detail));
            }
            if !reservation.grow(data.len()) {
                let detail = "the memory for bodies is in use; come again";
                return Err(Fault::new(Code::Busy, detail).after(RETRY_AFTER));
            }
            whole.extend_from_slice(data);
        }
        Ok(whole.freeze())
    };
    let whole = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| {
        let detail = format!("the body did not arrive within {} s", PATIENCE.as_secs());
        Fault::new(Code::TooSlow, detail)
    })??;
    Ok((whole, reservation))
}

/// Takes the events of one request.
struct Publisher<'a> {
    api: &'a Api,
    application: ApplicationId,
    catalogue: Arc<Catalogue>,
    now: Timestamp,
}

impl<'a> Publisher<'a> {
    fn new(api: &'a Api, application: ApplicationId) -> Self {
        Self {
            api,
            application,
            catalogue: api.node.snapshot.load().catalogue(application),
            now: api.node.clock.now(),
        }
    }

    async fn one(&self, body: Bytes) -> Result<Response, Fault> {
        let accepted = self.publish(body).await?;
        Ok((StatusCode::ACCEPTED, axum::Json(accepted)).into_response())
    }

    /// Many lines are appended at a time, so that they share commits; all are answered in their order.
    async fn many(&self, body: &Bytes) -> Result<Response, Fault> {
        let lines: Vec<Bytes> = body
            .split(|byte| *byte == b'\n')
            .map(|line| line.trim_ascii())
            .filter(|line| !line.is_empty())
            .map(|line| body.slice_ref(line))
            .collect();
        if lines.is_empty() || lines.len() > EVENTS_MOST {
            let detail = format!(
                "there are {} events, one on each line; publish from 1 to {EVENTS_MOST} at once",
                lines.len()
            );
            return Err(Fault::new(Code::MalformedRequest, detail));
        }
        let mut publishing = stream::iter(lines)
            .map(|line| self.publish(line))
            .buffered(AT_ONCE);
        let (mut answer, mut all_taken) = (Vec::new(), true);
        while let Some(published) = publishing.next().await {
            all_taken &= published.is_ok();
            let line = match published {
                Ok(accepted) => wire::LineResult::taken(accepted),
                Err(fault) => {
                    wire::LineResult::refused(fault.code.status().as_u16(), fault.code.code(), fault.detail)
                }
            };
            serde_json::to_writer(&mut answer, &line).map_err(|_| super::error::internal())?;
            answer.push(b'\n');
        }
        let status = if all_taken {
            StatusCode::ACCEPTED
        } else {
            StatusCode::MULTI_STATUS
        };
        let media_type = HeaderValue::from_static(NDJSON);
        Ok((status, [(header::CONTENT_TYPE, media_type)], answer).into_response())
    }

    async fn publish(&self, body: Bytes) -> Result<wire::Accepted, Fault> {
        let counted = |result| _ = counter(&self.api.node.metrics, OUTBOX, result).inc();
        let new = self
            .new_event(body)
            .inspect_err(|fault| counted(fault.code.code()))?;
        let id = new.event.id;
        match self.api.node.store.append(new).await {
            Ok(Appended::Accepted { deliveries }) => {
                counted("accepted");
                Ok(wire::Accepted {
                    id: id.to_string(),
                    repeat: false,
                    deliveries: Some(deliveries),
                })
            }
            Ok(Appended::Repeat { first, conflicting }) if conflicting => {
                counted(Code::Conflict.code());
                let detail = format!(
                    "an event with this `source` and `id` but another content was published before ({first}); give \
                     each event an id of its own"
                );
                Err(Fault::new(Code::Conflict, detail))
            }
            Ok(Appended::Repeat { first, .. }) => {
                counted("repeat");
                Ok(wire::Accepted {
                    id: first.to_string(),
                    repeat: true,
                    deliveries: None,
                })
            }
            Err(error) => {
                let fault = Fault::from(error);
                counted(fault.code.code());
                Err(fault)
            }
        }
    }

    fn new_event(&self, body: Bytes) -> Result<NewEvent, Fault> {
        let published =
            Published::parse(&body).map_err(|error| Fault::new(Code::InvalidField, error.to_string()))?;
        self.catalogue
            .check_published(&published.event_type)
            .map_err(|error| Fault::field("type", error))?;
        check_size(&published, self.now)
            .map_err(|error| Fault::new(Code::RequestTooLarge, error.to_string()))?;
        let source = SourceId::of_outbox(self.application);
        let key = [published.source.as_bytes(), &[0], published.id.as_bytes()];
        let dedupe = mark(source, &key, &body, self.now.plus(DEDUPE_WINDOW));
        let media_type = (&b"content-type"[..], &b"application/cloudevents+json"[..]);
        let event = Event {
            id: EventId::new(self.now, self.api.node.clock.entropy()),
            application: self.application,
            source,
            provider_id: Some(published.id.to_string()),
            // Who subscribes to a type gets its truncated and transformed ones too.
            event_type: Some(subscribed_as(&published.event_type).to_owned()),
            occurred_at: published.time,
            accepted_at: self.now,
            headers: HeaderBlock::pack([media_type]),
            body: body.clone(),
        };
        Ok(NewEvent {
            event: Arc::new(event),
            dedupe: Some(dedupe),
            lease_margin: self.api.node.settings.delivery.lease_margin,
        })
    }
}
