//! Backups. Admin keys only.
//!
//! Owns this route: a consistent copy of the store while it runs. The copy holds no encryption key.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::auth::Administrator;
use super::error::Fault;
use super::read::Body;
use super::{Api, wire};

/// Writes a consistent copy of the store to a new file on the server's machine.
#[utoipa::path(post, path = "/api/v1/backups", tag = "backups", request_body = wire::Backup,
    responses(
        (status = 201, body = wire::Backup, description = "the copy is written and synced"),
        (status = 409, description = "the file exists or cannot be written"),
    ))]
pub(super) async fn create_backup(
    Administrator(_caller): Administrator,
    State(api): State<Arc<Api>>,
    Body(asked): Body<wire::Backup>,
) -> Result<(StatusCode, Json<wire::Backup>), Fault> {
    let file = Path::new(&asked.file);
    if !file.is_absolute() {
        let reason = format!("`{}` is not an absolute path on the server's machine", asked.file);
        return Err(Fault::field("file", reason));
    }
    api.node.store.backup(file).await?;
    Ok((StatusCode::CREATED, Json(asked)))
}
