//! The query of a request, read as leniently as Docker reads it.

/// The parameters, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(
            pairs
                .map(|(name, value)| (decoded(name), decoded(value)))
                .collect(),
        )
    }

    /// The first value of a parameter; an empty one counts as missing.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.0.iter().filter(move |(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter that is true or false; `unset` if it is missing. False are `0`, `no`, `false` and `none` in any case.
    pub(super) fn flag_or(&self, name: &str, unset: bool) -> bool {
        match self.get(name) {
            None => unset,
            Some(value) => !["0", "no", "false", "none"]
                .iter()
                .any(|word| value.eq_ignore_ascii_case(word)),
        }
    }

    /// A parameter that is false if it is missing.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }
}

/// Text with `%XX` and `+` decoded, as in a query.
fn decoded(text: &str) -> String {
    unescaped(&text.replace('+', " "))
}

/// Text with `%XX` decoded. What is no escape stays as it is.
pub(super) fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| byte == b'%');
        let escaped =
            digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_words_of_any_case_and_an_empty_value_is_none() {
        let query = Query::parse("a=1&b=False&c=&d&e=0&f=True&g=none&h=anything&a=0");
        assert!(query.flag("a") && query.flag("f") && query.flag("h"));
        assert!(!query.flag("b") && !query.flag("e") && !query.flag("g"));
        assert!(query.flag_or("c", true) && query.flag_or("d", true) && !query.flag("missing"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "0"]);
    }

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        let query = Query::parse("filters=%7B%22a%22%3A+1%7D&t=100%&u=%zz&v=%C3%A4");
        assert_eq!(query.get("filters"), Some("{\"a\": 1}"));
        assert_eq!(query.get("t"), Some("100%"));
        assert_eq!(query.get("u"), Some("%zz"));
        assert_eq!(query.get("v"), Some("ä"));
    }
}
