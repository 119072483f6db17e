//! `--filter KEY=VALUE`, as in docker. Of several values for one key, any must match; of several keys, all must match.
//! Pure.

use std::collections::BTreeMap;

/// The filters of a list: the values for each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Parses the options. `known` are the keys that the list supports.
    ///
    /// # Errors
    /// Returns a sentence that names what is wrong.
    pub(super) fn parse(given: &[String], known: &[&str]) -> Result<Self, String> {
        let mut filters = Self::default();
        for text in given {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| format!("--filter {text:?} must be KEY=VALUE"))?;
            let (key, value) = (key.trim(), value.trim());
            if !known.contains(&key) {
                return Err(format!(
                    "--filter has no {key:?} here; there are {}",
                    known.join(", ")
                ));
            }
            let values = filters.0.entry(key.to_owned()).or_default();
            values.push(value.to_owned());
        }
        Ok(filters)
    }

    /// The values given for a key.
    pub(super) fn of(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether no value was given for this key, or at least one of the values fits.
    pub(super) fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.of(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Whether every label given as a filter is present: `NAME` with any value, `NAME=VALUE` with this value.
    pub(super) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.of("label")
            .iter()
            .all(|wanted| match wanted.split_once('=') {
                Some((name, value)) => labels.get(name).is_some_and(|is| is == value),
                None => labels.contains_key(wanted),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(given: &[&str]) -> Result<Filters, String> {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        Filters::parse(&given, &["name", "label"])
    }

    #[test]
    fn one_value_of_a_key_must_match_and_every_label() {
        let two = filters(&["name=a", "name=b", "label=x", "label=y=1"]).unwrap();
        assert!(two.any("name", |name| name == "b") && !two.any("name", |name| name == "c"));
        assert!(two.any("state", |_| false), "there is no such filter");
        let labels = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            two.labels(&labels.collect())
        };
        assert!(labels(&[("x", ""), ("y", "1")]));
        assert!(!labels(&[("x", ""), ("y", "2")]) && !labels(&[("y", "1")]));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        assert_eq!(
            filters(&["nam=a"]).unwrap_err(),
            "--filter has no \"nam\" here; there are name, label"
        );
        assert_eq!(
            filters(&["name"]).unwrap_err(),
            "--filter \"name\" must be KEY=VALUE"
        );
    }
}
