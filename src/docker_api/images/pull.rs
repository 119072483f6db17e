//! `POST /images/create`: pulls an image, and tells how far it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use futures_util::{StreamExt as _, stream};
use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::archive::{failure, progress_line};
use crate::docker_api::answer::Answer;
use crate::docker_api::door::Door;
use crate::docker_api::image_names::{platform, tagged};
use crate::docker_api::json::Object;
use crate::docker_api::refused::Refused;
use crate::docker_api::request::Request;
use crate::engine::{
    Credential, ImageError, LayerProgress, LayerState, Progress, Pulling, Reference, Request as PullRequest,
};

/// URL-safe, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Pulls an image. A failure before the first message is the answer's status; a later one is the last message.
pub(in crate::docker_api) async fn pull(door: &Arc<Door>, request: Request) -> Result<Answer, Refused> {
    let query = &request.query;
    if query.get("fromSrc").is_some() {
        return Err(Refused::not_served("importing a root file system; load an image"));
    }
    let image = query.get("fromImage").unwrap_or_default();
    let reference = tagged(image, query.get("tag"))?;
    if image == "scratch" {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "'scratch' is a reserved name",
        ));
    }
    let wanted = PullRequest {
        platform: platform(query.get("platform"))?,
        credential: credential(request.header("x-registry-auth")),
        reference: reference.clone(),
    };
    let before = door.engine.stored_images(&request.client).await?;
    let before = before
        .find(&reference.to_string())
        .ok()
        .and_then(|(image, _)| image.names.first().map(|record| record.target.digest.clone()));
    let pulling = door.engine.pull(wanted, Box::new(|_| None));
    let mut progress = pulling.progress();
    // The registry's first answer decides about the status.
    let begun = async {
        tokio::select! {
            biased;
            done = pulling.done(&request.client) => Some(done),
            begun = progress.wait_for(|progress| progress.target.is_some()) => { drop(begun); None }
        }
    };
    let done = begun.await;
    if let Some(Err(error)) = &done {
        return Err(refused(&reference, error));
    }
    let state = State {
        pulling,
        progress,
        reference,
        before,
        client: request.client.clone(),
        told: BTreeMap::new(),
        is_begun: false,
        is_over: false,
    };
    let lines = stream::unfold(state, |mut state| async move {
        let lines = state.next().await?;
        Some((stream::iter(lines), state))
    });
    Ok(Answer::json_stream(lines.flatten()))
}

/// A pull whose progress is told.
struct State {
    pulling: Pulling,
    progress: watch::Receiver<Progress>,
    reference: Reference,
    /// What the name referred to before the pull.
    before: Option<crate::Digest>,
    client: crate::Context,
    /// What was said last of each layer.
    told: BTreeMap<usize, Value>,
    is_begun: bool,
    is_over: bool,
}

impl State {
    /// The next messages; `None` after the last one.
    async fn next(&mut self) -> Option<Vec<Bytes>> {
        if self.is_over {
            return None;
        }
        if !self.is_begun {
            self.is_begun = true;
            let (repository, tag) = (self.reference.path(), self.reference.tag().unwrap_or("latest"));
            return Some(vec![progress_line(
                &json!({ "status": format!("Pulling from {repository}"), "id": tag }),
            )]);
        }
        let done = tokio::select! {
            biased;
            changed = self.progress.changed() => match changed {
                Ok(()) => None,
                Err(_) => Some(self.pulling.done(&self.client).await),
            },
            done = self.pulling.done(&self.client) => Some(done),
        };
        let mut lines = self.layers();
        match done {
            None => {}
            Some(Ok(image)) => {
                self.is_over = true;
                let digest = image.target.digest;
                let what = match self.before.as_ref() == Some(&digest) {
                    true => "Image is up to date for",
                    false => "Downloaded newer image for",
                };
                lines.push(progress_line(&json!({ "status": format!("Digest: {digest}") })));
                lines.push(progress_line(
                    &json!({ "status": format!("Status: {what} {}", self.reference.familiar()) }),
                ));
            }
            Some(Err(error)) => {
                self.is_over = true;
                lines.push(failure(&crate::chain(error.as_ref())));
            }
        }
        Some(lines)
    }

    /// What has changed about the layers.
    fn layers(&mut self) -> Vec<Bytes> {
        let layers = self.progress.borrow_and_update().layers.clone();
        let mut lines = Vec::new();
        for (at, layer) in layers.iter().enumerate() {
            let message = message(layer);
            if self.told.get(&at) != Some(&message) {
                lines.push(progress_line(&message));
                self.told.insert(at, message);
            }
        }
        lines
    }
}

fn message(layer: &LayerProgress) -> Value {
    let id: String = layer.digest.hex().chars().take(12).collect();
    let (status, detail) = match layer.state {
        LayerState::Waiting => ("Pulling fs layer", json!({})),
        LayerState::Downloading(bytes) => ("Downloading", json!({ "current": bytes, "total": layer.total })),
        LayerState::Fetched => ("Download complete", json!({})),
        LayerState::Extracting => (
            "Extracting",
            json!({ "current": layer.total, "total": layer.total }),
        ),
        LayerState::Done => ("Pull complete", json!({})),
        LayerState::Exists => ("Already exists", json!({})),
    };
    let mut message = json!({ "status": status, "progressDetail": detail, "id": id });
    if let (LayerState::Downloading(bytes), Some(message)) = (layer.state, message.as_object_mut()) {
        message.insert("progress".to_owned(), json!(bar(bytes, layer.total)));
    }
    message
}

/// Progress for people.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: u64 = 50;
    let part = current
        .min(total)
        .saturating_mul(WIDTH)
        .checked_div(total)
        .unwrap_or_default();
    let width = usize::try_from(part).unwrap_or_default();
    let line = format!("{}>", "=".repeat(width));
    format!(
        "[{line:<51}] {}/{}",
        crate::ByteSize(current),
        crate::ByteSize(total)
    )
}

/// The credentials of the header `X-Registry-Auth`. What cannot be read counts as none, as in Docker.
fn credential(header: &str) -> Option<Credential> {
    let text = BASE64.decode(header.trim()).ok()?;
    let given = Object::of_body(&text).ok()?;
    let text = |name| given.text(name).unwrap_or_default();
    let (username, password) = (text("username"), text("password"));
    match (text("identitytoken"), text("registrytoken")) {
        (token, _) if !token.is_empty() => Some(Credential::IdentityToken(token)),
        (_, token) if !token.is_empty() => Some(Credential::RegistryToken(token)),
        _ if !username.is_empty() => Some(Credential::Basic { username, password }),
        _ => None,
    }
}

fn refused(reference: &Reference, error: &ImageError) -> Refused {
    let why = crate::chain(error);
    match error.status() {
        Some(404) => Refused::missing(format!(
            "manifest for {} not found: manifest unknown: {why}",
            reference.familiar()
        )),
        _ if matches!(error, ImageError::OtherPlatform { .. }) => Refused::missing(why),
        _ => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_any_of_docker_s_forms_and_what_is_none_is_ignored() {
        let header = |json: &str| credential(&BASE64.encode(json));
        assert!(matches!(
            header(r#"{"username":"u","password":"p","serveraddress":"x"}"#),
            Some(Credential::Basic { .. })
        ));
        assert!(matches!(
            header(r#"{"identitytoken":"t"}"#),
            Some(Credential::IdentityToken(_))
        ));
        assert!(matches!(
            header(r#"{"registrytoken":"t"}"#),
            Some(Credential::RegistryToken(_))
        ));
        assert!(header("{}").is_none() && credential("").is_none() && credential("%%%").is_none());
    }
}
