//! The description of the API, made from its handlers.
//!
//! Owns what holds for every operation: that it needs a key and how it fails. Must not list routes: those stand
//! with their handlers.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use super::nylas::shape::is_nylas;
use super::wire::{NylasError, NylasProblem, Problem};

const KEY: &str = "key";

/// The document to which routes add themselves.
pub(super) fn empty() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Hookfast")
        .description(Some(
            "Durable before the 200, delivered at least once. Every route needs `authorization: Bearer KEY`. \
             Lists are paged: give `next_cursor` of one page as `cursor` of the next. Errors are \
             `application/problem+json`, and below `/v3` as Nylas answers them. An admin key acts on the application `default`, or on the one that \
             the header `Hookfast-Application` names.",
        ))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let mut components = Components::new();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme(KEY, SecurityScheme::Http(bearer));
    for (name, schema) in [
        (Problem::name(), Problem::schema()),
        (NylasProblem::name(), NylasProblem::schema()),
        (NylasError::name(), NylasError::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .build()
}

/// Adds what holds for every operation.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
    document.security = Some(vec![SecurityRequirement::new::<_, _, String>(KEY, [])]);
    for (path, item) in &mut document.paths.paths {
        let (schema, media_type) = if is_nylas(path) {
            (NylasProblem::name(), "application/json")
        } else {
            (Problem::name(), "application/problem+json")
        };
        operations(item).for_each(|operation| add_problem(operation, &schema, media_type));
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn add_problem(operation: &mut Operation, schema: &str, media_type: &str) {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(schema)))
        .build();
    let problem = ResponseBuilder::new()
        .description("it was not done, and why")
        .content(media_type, content)
        .build();
    let responses = &mut operation.responses.responses;
    responses.entry("default".to_owned()).or_insert(RefOr::T(problem));
}
