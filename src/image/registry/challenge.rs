//! Parses the `WWW-Authenticate` header, by which a registry asks for authentication. Pure.

use std::collections::BTreeMap;

/// A supported authentication scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user name and a password with each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The URL of the token server.
        realm: String,
        /// The service for which the token is.
        service: Option<String>,
        /// The operations that the token allows.
        scope: Option<String>,
    },
}

/// All supported challenges in these header values, in order (RFC 9110, 11.6.1: several may share a line).
pub(super) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    values.into_iter().flat_map(one).collect()
}

fn one(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = value.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            // name = value, a parameter of the last scheme.
            Some(after) if !challenges.is_empty() => {
                let (text, after) = text(after.trim_start());
                if let Some((_, parameters)) = challenges.last_mut() {
                    parameters.insert(word.to_ascii_lowercase(), text);
                }
                rest = after;
            }
            _ => {
                challenges.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges.into_iter().filter_map(known).collect()
}

fn known((scheme, mut parameters): (String, BTreeMap<String, String>)) -> Option<Challenge> {
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service").filter(|text| !text.is_empty()),
            scope: parameters.remove("scope").filter(|text| !text.is_empty()),
        }),
        _ => None,
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and the rest of the text.
fn text(from: &str) -> (String, &str) {
    let Some(quoted) = from.strip_prefix('"') else {
        let end = from.find([',', ' ']).unwrap_or(from.len());
        let (word, rest) = from.split_at(end);
        return (word.to_owned(), rest);
    };
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
            c => text.push(c),
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn what_registries_send_is_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull,push""#;
        let expected = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/busybox:pull,push"),
        );
        assert_eq!(parse([hub]), [expected]);
        assert_eq!(parse([r#"Basic realm="a \"b\", c""#]), [Challenge::Basic]);
        assert_eq!(parse(["basic"]), [Challenge::Basic]);
        let both = r#"Negotiate, Basic realm="x", Bearer realm=https://t/,scope="" "#;
        assert_eq!(
            parse([both]),
            [Challenge::Basic, bearer("https://t/", None, None)]
        );
        assert_eq!(parse(["Bearer service=x", "", "Digest nonce=\"1\""]), []);
        assert_eq!(
            parse([r#"Bearer realm="u" , service = "s""#]),
            [bearer("u", Some("s"), None)]
        );
    }

    proptest! {
        #[test]
        fn nothing_that_a_registry_sends_is_a_crash(value in ".{0,200}") {
            drop(parse([value.as_str()]));
        }
    }
}
