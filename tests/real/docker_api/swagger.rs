//! Docker's own description of its answers, as far as types, required fields and words to choose from go.
//!
//! `fixtures/docker-wire/swagger.json` has the schemas of API 1.51, without the prose.

use std::collections::BTreeMap;

use serde_json::Value;

const SWAGGER: &str = include_str!("../../../fixtures/docker-wire/swagger.json");

/// The description of all answers.
pub(super) struct Swagger(Value);

/// Where an answer is not as it is described, and how.
pub(super) type Violations = BTreeMap<String, String>;

impl Swagger {
    pub(super) fn read() -> Self {
        Self(serde_json::from_str(SWAGGER).expect("JSON"))
    }

    /// What is wrong with an answer; `None` if it is not described.
    pub(super) fn violations(
        &self,
        method: &str,
        path: &str,
        status: u16,
        body: &Value,
    ) -> Option<Violations> {
        let path = path.split('?').next().unwrap_or_default();
        let answers = self.0["answers"].as_object()?;
        // One without a parameter is the better match.
        let mut pages: Vec<_> = answers.iter().filter(|(page, _)| is_page(page, path)).collect();
        pages.sort_by_key(|(page, _)| page.matches('{').count());
        let schema = pages.first()?.1.get(method)?.get(status.to_string())?;
        let mut found = Violations::new();
        self.check("", schema, body, &mut found);
        Some(found)
    }

    fn check(&self, at: &str, schema: &Value, value: &Value, found: &mut Violations) {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
            return self.check(at, &self.0["definitions"][name], value, found);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.check(at, part, value, found);
        }
        if value.is_null() && schema["x-nullable"] == true {
            return;
        }
        let is_of_type = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            // Go writes an empty list as null.
            Some("array") => value.is_array() || value.is_null(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            _ => true,
        };
        if !is_of_type {
            let is = value.to_string().chars().take(60).collect::<String>();
            found.insert(at.to_owned(), format!("no {}: {is}", schema["type"]));
            return;
        }
        if let (Some(words), Some(word)) = (schema["enum"].as_array(), value.as_str())
            && !words.iter().any(|known| known == word)
        {
            found.insert(at.to_owned(), format!("none of its words: {word:?}"));
        }
        if let Some(fields) = value.as_object() {
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap_or_default();
                if !fields.contains_key(name) {
                    found.insert(format!("{at}.{name}"), "required, and missing".to_owned());
                }
            }
            for (name, value) in fields {
                let of_field = schema["properties"]
                    .get(name)
                    .or_else(|| schema.get("additionalProperties"));
                if let Some(schema) = of_field.filter(|schema| schema.is_object()) {
                    self.check(&format!("{at}.{name}"), schema, value, found);
                }
            }
        }
        for value in value.as_array().into_iter().flatten() {
            self.check(&format!("{at}[]"), &schema["items"], value, found);
        }
    }
}

/// Whether a path is one of a page such as `/containers/{id}/json`.
fn is_page(page: &str, path: &str) -> bool {
    let (page, path): (Vec<_>, Vec<_>) = (page.split('/').collect(), path.split('/').collect());
    page.len() == path.len()
        && page
            .iter()
            .zip(path)
            .all(|(page, path)| *page == path || page.starts_with('{'))
}
