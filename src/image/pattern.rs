//! Patterns of names of images, as filters have them.

use super::Reference;

/// Whether the pattern matches a name in its full or its short form, with or without its tag.
pub(crate) fn refers(pattern: &str, name: &str) -> bool {
    let short = Reference::parse(name).map(|reference| reference.familiar());
    let forms = [Some(name.to_owned()), short.ok()];
    forms.into_iter().flatten().any(|form| {
        let bare = form
            .rsplit_once(':')
            .map(|(bare, _)| bare)
            .filter(|bare| !bare.is_empty());
        matches(pattern, &form) || bare.is_some_and(|bare| matches(pattern, bare))
    })
}

/// Whether the pattern matches the whole text. `*` matches any characters except a slash.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let within = rest.find('/').unwrap_or(rest.len());
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.take_while(|at| *at <= within)
                .any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{matches, refers};

    #[test]
    fn a_reference_may_be_short_and_have_stars() {
        let name = "docker.io/library/busybox:1.36";
        for pattern in [
            name,
            "busybox",
            "busybox:1.36",
            "busy*",
            "busybox:1.*",
            "*",
            "docker.io/*/busy*",
        ] {
            assert!(refers(pattern, name), "{pattern}");
        }
        for pattern in ["", "busy", "busybox:2", "docker.io/*", "b/*"] {
            assert!(!refers(pattern, name), "{pattern}");
        }
        assert!(matches("a*b*c", "axxbyyc") && !matches("a*c", "a/c"));
    }
}
