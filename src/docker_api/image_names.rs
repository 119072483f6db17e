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

/// The repository of a name, without its registry and tag, as in Docker's messages.
fn named(text: &str) -> String {
    let bare = text.split('@').next().unwrap_or_default();
    let end = bare
        .rfind(':')
        .filter(|at| !bare.get(*at..).unwrap_or_default().contains('/'));
    let bare = bare.get(..end.unwrap_or(bare.len())).unwrap_or_default();
    match bare.split_once('/') {
        None => format!("library/{bare}"),
        // Upper case makes the first part a registry's name, too.
        Some((registry, rest))
            if registry.contains(['.', ':'])
                || registry == "localhost"
                || registry.chars().any(char::is_uppercase) =>
        {
            rest.to_owned()
        }
        Some(_) => bare.to_owned(),
    }
}

/// Reads a name whose tag, or digest, is given apart.
pub(super) fn tagged(name: &str, tag: Option<&str>) -> Result<Reference, Refused> {
    /// The longest tag.
    const LONGEST: usize = 128;

    let Some(tag) = tag else { return reference(name) };
    if tag.starts_with("sha256:") {
        return reference(&format!("{name}@{tag}"));
    }
    let is_tag = tag.len() <= LONGEST
        && !tag.starts_with(['.', '-'])
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if !is_tag {
        return Err(Refused::bad("invalid tag format"));
    }
    reference(&format!("{name}:{tag}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_refused_is_repeated_as_docker_repeats_it() {
        for (name, tag, says) in [
            (
                "UPPER",
                Some("t"),
                "repository name (library/UPPER) must be lowercase",
            ),
            ("T/T", Some("v1"), "repository name (T) must be lowercase"),
            ("a/B:v1", None, "repository name (a/B) must be lowercase"),
            (
                "x.y:5000/B@sha256:0",
                None,
                "repository name (B) must be lowercase",
            ),
            ("x", Some("a b"), "invalid tag format"),
            ("x", Some(".a"), "invalid tag format"),
        ] {
            let message = tagged(name, tag).unwrap_err().message;
            assert!(message.contains(says), "{name}: {message}");
        }
        assert_eq!(
            tagged("x", Some("v1")).unwrap().to_string(),
            "docker.io/library/x:v1"
        );
    }
}
