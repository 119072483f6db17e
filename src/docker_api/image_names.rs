//! Names of images, as clients write them.

use super::door::Door;
use super::refused::Refused;
use crate::Context;
use crate::engine::{ImageError, Platform, Reference, StoredImage, StoredImages};

/// Reads a name.
pub(super) fn reference(text: &str) -> Result<Reference, Refused> {
    Reference::parse(text).map_err(|error| {
        let has_upper = text.chars().any(char::is_uppercase);
        Refused::bad(match has_upper {
            true => format!(
                "invalid reference format: repository name ({}) must be lowercase",
                named(text)
            ),
            false => format!("invalid reference format: {error}"),
        })
    })
}

/// The repository of a name, in full.
fn named(text: &str) -> String {
    match text.contains('/') {
        true => text.to_owned(),
        false => format!("library/{text}"),
    }
}

/// The error for an image that is not here. Docker names it with its tag.
pub(super) fn no_such_image(given: &str) -> Refused {
    let shown = Reference::parse(given).map_or_else(|_| given.to_owned(), |reference| reference.familiar());
    Refused::missing(format!("No such image: {shown}"))
}

/// The name of an image that is given by its id, or the beginning of it.
pub(super) async fn named_by_id(door: &Door, ctx: &Context, given: &str) -> Result<Reference, Refused> {
    let stored = door.engine.stored_images(ctx).await?;
    let (image, _) = found(&stored, given)?;
    let record = image.names.first().ok_or_else(|| no_such_image(given))?;
    reference(&record.name)
}

/// The image of a name or an id.
pub(super) fn found<'a>(
    stored: &'a StoredImages,
    given: &str,
) -> Result<(&'a StoredImage, Option<String>), Refused> {
    if !is_id(given) {
        reference(given)?;
    }
    stored.find(given).map_err(|error| match error {
        ImageError::SeveralImages { .. } => Refused::bad(crate::chain(&error)),
        _ => no_such_image(given),
    })
}

fn is_id(text: &str) -> bool {
    text.starts_with("sha256:")
}

/// Reads a platform, if one is given.
pub(super) fn platform(given: Option<&str>) -> Result<Option<Platform>, Refused> {
    let Some(text) = given else { return Ok(None) };
    let platform =
        Platform::parse(text).map_err(|error| Refused::bad(format!("platform {text:?}: {error}")))?;
    Ok(Some(platform))
}
