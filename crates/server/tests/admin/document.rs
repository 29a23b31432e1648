//! The description of the API, and that each of its operations is as described.

use std::collections::BTreeSet;

use hookfast::admin::{Surface, description};
use serde_json::Value;

use crate::requests;
use crate::world::world;

/// Every operation: its id, method and path.
pub(crate) fn operations(document: &Value) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Some(id) = operation.get("operationId") {
                found.push((
                    id.as_str().unwrap().to_owned(),
                    method.to_uppercase(),
                    path.clone(),
                ));
            }
        }
    }
    found
}

fn document(surface: Surface) -> Value {
    serde_json::to_value(description(surface)).unwrap()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                found.insert(reference.clone());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_resolves_and_every_operation_has_an_id_of_its_own() {
    for surface in [Surface::Admin, Surface::Api] {
        let document = document(surface);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let operations = operations(&document);
        let ids: BTreeSet<_> = operations.iter().map(|(id, ..)| id).collect();
        assert_eq!(ids.len(), operations.len());
    }
}

#[test]
fn every_operation_says_what_it_does_how_it_fails_and_what_stands_in_its_path() {
    let document = document(Surface::Admin);
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for (id, method, path) in operations(&document) {
        let operation = &document["paths"][&path][method.to_lowercase()];
        assert!(operation["summary"].is_string(), "{id}");
        let (media_type, schema) = if path.starts_with("/v3/") {
            ("application/json", "#/components/schemas/NylasProblem")
        } else {
            ("application/problem+json", "#/components/schemas/Problem")
        };
        let failure = &operation["responses"]["default"]["content"][media_type]["schema"];
        assert_eq!(failure["$ref"], schema, "{id}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = name.trim_end_matches('}');
            assert!(
                parameters
                    .iter()
                    .any(|each| each["name"] == name && each["in"] == "path"),
                "{id} {name}"
            );
        }
    }
}

#[test]
fn the_api_listener_serves_what_the_admin_listener_does_but_for_administration() {
    let ids = |surface| -> BTreeSet<String> {
        let operations = operations(&document(surface));
        operations.into_iter().map(|(id, ..)| id).collect()
    };
    let (admin, api) = (ids(Surface::Admin), ids(Surface::Api));
    assert!(api.is_subset(&admin));
    let only_admin: Vec<_> = admin.difference(&api).map(String::as_str).collect();
    let mut expected = requests::ADMIN.to_vec();
    expected.sort_unstable();
    assert_eq!(only_admin, expected);
}

/// Where an answer in JSON lacks what the document says it has, or has what it does not say.
fn disagreements(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let schema = match schema.get("$ref") {
        Some(reference) => document
            .pointer(reference.as_str().unwrap().trim_start_matches('#'))
            .unwrap(),
        None => schema,
    };
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        let mut known = BTreeSet::new();
        for part in parts {
            let mut of_part = Vec::new();
            disagreements(document, part, value, place, &mut of_part);
            found.extend(
                of_part
                    .into_iter()
                    .filter(|text| !text.ends_with("is not described")),
            );
            known.extend(properties(document, part));
        }
        for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
            if !known.contains(name) {
                found.push(format!("{place}.{name} is not described"));
            }
        }
        return;
    }
    if let Some(items) = value.as_array()
        && let Some(schema) = schema.get("items")
    {
        items
            .iter()
            .for_each(|item| disagreements(document, schema, item, &format!("{place}[]"), found));
    }
    let (Some(described), Some(members)) = (schema["properties"].as_object(), value.as_object()) else {
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(required.as_str().unwrap()) {
            found.push(format!("{place}.{required} is missing"));
        }
    }
    for (name, member) in members {
        match described.get(name) {
            Some(schema) => disagreements(document, schema, member, &format!("{place}.{name}"), found),
            None => found.push(format!("{place}.{name} is not described")),
        }
    }
}

fn properties(document: &Value, schema: &Value) -> Vec<String> {
    let schema = match schema.get("$ref") {
        Some(reference) => document
            .pointer(reference.as_str().unwrap().trim_start_matches('#'))
            .unwrap(),
        None => schema,
    };
    let own = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone());
    let parts = schema["allOf"].as_array().into_iter().flatten();
    own.chain(parts.flat_map(|part| properties(document, part)))
        .collect()
}

#[tokio::test]
async fn every_operation_of_the_document_answers_as_it_says() {
    let world = world().await;
    let served = &world.served;
    let document = served.get("/openapi.json").await.expect(200);
    let made = served
        .post("/api/v1/keys", serde_json::json!({"name": "k", "scope": "read"}))
        .await
        .expect(201);
    let requests = requests::all(&world.own, made["id"].as_str().unwrap());
    let mut called = BTreeSet::new();
    for good in requests {
        let (_, method, path) = operations(&document)
            .into_iter()
            .find(|(id, ..)| id == good.operation)
            .unwrap_or_else(|| panic!("{} is not in the document", good.operation));
        assert_eq!(method, good.method);
        let mut asking = served.ask(good.method, &good.path);
        if let Some(body) = &good.body {
            asking = asking.json(body);
        }
        called.insert(good.operation.to_owned());
        if good.operation == "stream" {
            assert_eq!(asking.open().await.status(), 200);
            continue;
        }
        let answer = asking.send().await;
        assert_eq!(
            answer.status.as_u16(),
            good.status,
            "{}: {}",
            good.operation,
            answer.text()
        );
        assert!(answer.headers.contains_key("x-request-id"));
        let described =
            &document["paths"][&path][method.to_lowercase()]["responses"][good.status.to_string()];
        assert!(
            described.is_object(),
            "{}: {} is not described",
            good.operation,
            good.status
        );
        if let Some(schema) = described.pointer("/content/application~1json/schema") {
            let mut found = Vec::new();
            disagreements(&document, schema, &answer.json(), good.operation, &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
    }
    let described: BTreeSet<_> = operations(&document).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(called, described, "every operation is called");
}
