//! Parses image names in the way that hosts of this contract expect.
//!
//! This is the contract's own, tolerant parser, which never fails. The driver checks elsewhere whether a name is a
//! valid reference.

/// Splits an image name into (registry, repository, tag).
///
/// A name without a slash belongs to `library/`. A first segment with a `.` or a `:`, or equal to `localhost`, is the
/// registry, else the registry is empty. A digest wins over a tag and is returned in its place; without both the tag is
/// `latest`.
///
/// ```
/// let parsed = fnctr::driver::parse_image("quay.io/team/fn:v2");
/// assert_eq!(parsed, ("quay.io".into(), "team/fn".into(), "v2".into()));
/// ```
#[must_use]
pub fn parse_image(image: &str) -> (String, String, String) {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash belongs to a port.
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let tag = [digest, tag]
        .into_iter()
        .flatten()
        .find(|tag| !tag.is_empty())
        .unwrap_or("latest");
    let (registry, repo) = match name.split_once('/') {
        None => (String::new(), format!("library/{name}")),
        Some((first, rest)) if is_registry(first) => (first.to_owned(), rest.to_owned()),
        Some(_) => (String::new(), name.to_owned()),
    };
    (registry, repo, tag.to_owned())
}

fn is_registry(segment: &str) -> bool {
    segment.contains(['.', ':']) || segment == "localhost"
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_split_as_hosts_expect() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (image, registry, repo, tag) in [
            ("mongo", "", "library/mongo", "latest"),
            ("mongo:v1", "", "library/mongo", "v1"),
            ("a/b", "", "a/b", "latest"),
            ("a/b:v1", "", "a/b", "v1"),
            ("my.registry/hello", "my.registry", "hello", "latest"),
            ("localhost/hello:v1", "localhost", "hello", "v1"),
            ("localhost:5000/hello", "localhost:5000", "hello", "latest"),
            ("quay.com:8080/a/b:v2", "quay.com:8080", "a/b", "v2"),
            ("quay.com:8080/a/b/c/d", "quay.com:8080", "a/b/c/d", "latest"),
            (
                &format!("quay.com:8080/a/b:v2@{digest}"),
                "quay.com:8080",
                "a/b",
                &digest,
            ),
            (&format!("mongo@{digest}"), "", "library/mongo", &digest),
            // Not valid names, but they must not panic either.
            ("mongo:", "", "library/mongo", "latest"),
            ("mongo:v1@", "", "library/mongo", "v1"),
            ("", "", "library/", "latest"),
        ] {
            let expected = (registry.to_owned(), repo.to_owned(), tag.to_owned());
            assert_eq!(parse_image(image), expected, "{image:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_tag_and_a_repository(image in ".*") {
            let (_, _, tag) = parse_image(&image);
            prop_assert!(!tag.is_empty());
        }

        #[test]
        fn what_was_put_together_is_taken_apart(
            registry in option::of("([a-z]{1,8}\\.[a-z]{2,3}|localhost)(:[0-9]{2,4})?"),
            repo in "[a-z0-9]{1,8}(/[a-z0-9_-]{1,8}){1,3}",
            tag in option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}"),
            digest in option::of("sha256:[0-9a-f]{64}"),
        ) {
            prop_assume!(!repo.starts_with("localhost/"));
            let mut image = registry.as_ref().map_or_else(String::new, |r| format!("{r}/"));
            image += &repo;
            if let Some(tag) = &tag {
                image += &format!(":{tag}");
            }
            if let Some(digest) = &digest {
                image += &format!("@{digest}");
            }
            let expected = digest.or(tag).unwrap_or_else(|| "latest".to_owned());
            prop_assert_eq!(parse_image(&image), (registry.unwrap_or_default(), repo, expected));
        }
    }
}
