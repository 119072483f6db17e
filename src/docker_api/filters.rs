//! The parameter `filters`: JSON in one of two shapes, `{"label":["a=b"]}` or `{"label":{"a=b":true}}`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::Value;

use super::query::Query;
use super::refused::Refused;
use super::time::moment_or_age;

/// The values of each filter. Several values of one filter are alternatives, except for labels, which must all be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the filters of a query.
    ///
    /// # Errors
    /// Status 400 for malformed JSON, and for a filter that is not among `known`.
    pub(super) fn of(query: &Query, known: &[&str]) -> Result<Self, Refused> {
        let Some(text) = query.get("filters") else {
            return Ok(Self::default());
        };
        let malformed = || Refused::bad("invalid filter");
        let Ok(Value::Object(given)) = serde_json::from_str(text) else {
            return Err(malformed());
        };
        let mut filters = BTreeMap::new();
        for (name, values) in given {
            let texts = |values: Vec<Value>| {
                let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
                texts.collect::<Option<Vec<_>>>()
            };
            let values = match values {
                Value::Array(values) => texts(values),
                Value::Object(values) => {
                    let set = values
                        .into_iter()
                        .filter(|(_, is_set)| is_set.as_bool() != Some(false));
                    Some(set.map(|(value, _)| value).collect())
                }
                _ => None,
            };
            let values = values.ok_or_else(malformed)?;
            if !known.contains(&name.as_str()) {
                return Err(Refused::bad(format!("invalid filter '{name}'")));
            }
            filters.insert(name, values);
        }
        Ok(Self(filters))
    }

    /// The values of a filter.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the filter's values satisfies `is`; also if the filter is not set.
    pub(super) fn any(&self, name: &str, is: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().map(String::as_str).any(is)
    }

    /// Whether every value of the filter `label` is satisfied, and none of `label!`: a name, or a name and its value, as in
    /// `a=b`.
    pub(super) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| has_label(labels, wanted);
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// The moment of the filter `until`, if it is set.
    ///
    /// # Errors
    /// Status 400 if it is no moment.
    pub(super) fn until(&self) -> Result<Option<SystemTime>, Refused> {
        let until = self.values("until").first().map(|text| {
            moment_or_age(text).ok_or_else(|| {
                Refused::bad(format!(
                    "invalid filter 'until={text}': give a duration before now, seconds since 1970, or a time in UTC"
                ))
            })
        });
        until.transpose()
    }
}

/// Whether a name contains a text, of which `^` and `$` stand for its beginning and its end: as far as clients use Docker's regular
/// expressions.
pub(super) fn is_named(name: &str, wanted: &str) -> bool {
    let (from_start, rest) = wanted
        .strip_prefix('^')
        .map_or((false, wanted), |rest| (true, rest));
    let (to_end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    match (from_start, to_end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

/// Whether a label is there, with its value if that is given.
fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|is| is == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Result<Filters, Refused> {
        let query = Query::parse(&format!("filters={text}"));
        Filters::of(&query, &["label", "status"])
    }

    #[test]
    fn both_shapes_say_the_same() {
        let list = filters(r#"{"label":["a=b","c"]}"#).unwrap();
        let map = filters(r#"{"label": {"a=b":true,"c":true,"d":false}}"#).unwrap();
        assert_eq!(list, map);
        assert!(
            Filters::of(&Query::default(), &[])
                .unwrap()
                .any("label", |_| false)
        );
    }

    #[test]
    fn labels_are_all_needed_with_or_without_a_value() {
        let labels = [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())].into();
        assert!(filters(r#"{"label":["a=b","c"]}"#).unwrap().labels(&labels));
        assert!(!filters(r#"{"label":["a=x"]}"#).unwrap().labels(&labels));
        assert!(!filters(r#"{"label":["a","d"]}"#).unwrap().labels(&labels));
    }

    #[test]
    fn a_name_may_be_meant_as_a_whole() {
        let which = |wanted: &str| ["net", "net2", "my-net"].map(|name| is_named(name, wanted));
        assert_eq!(which("net"), [true, true, true]);
        assert_eq!(which("^net$"), [true, false, false]);
        assert_eq!(which("^net"), [true, true, false]);
        assert_eq!(which("net$"), [true, false, true]);
    }

    #[test]
    fn what_is_malformed_or_unknown_is_refused() {
        for (text, says) in [
            ("{", "invalid filter"),
            ("[1]", "invalid filter"),
            (r#"{"label":1}"#, "invalid filter"),
            (r#"{"label":[1]}"#, "invalid filter"),
            (r#"{"foo":["x"]}"#, "invalid filter 'foo'"),
        ] {
            let refused = filters(text).unwrap_err();
            assert_eq!(
                (refused.status.as_u16(), refused.message.as_str()),
                (400, says),
                "{text}"
            );
        }
    }
}
