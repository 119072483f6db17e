//! The body of a request, read as Go reads JSON: the case of a field's name does not matter, `null` is the same as
//! nothing, unknown fields are ignored, and nothing may follow the value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::refused::Refused;

/// The fields of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object {
    /// Its place in the body, for messages.
    path: String,
    fields: Map<String, Value>,
}

impl Object {
    /// Reads a body. `null` is an object without fields.
    ///
    /// # Errors
    /// Status 400 for everything that is not one JSON object.
    pub(super) fn of_body(bytes: &[u8]) -> Result<Self, Refused> {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let first = match values.next() {
            None => return Err(Refused::bad("invalid JSON: got EOF while reading request body")),
            Some(Err(error)) => return Err(Refused::bad(format!("invalid JSON: {error}"))),
            Some(Ok(first)) => first,
        };
        let rest = bytes.get(values.byte_offset()..).unwrap_or_default();
        if !rest.trim_ascii().is_empty() {
            return Err(Refused::bad("unexpected content after JSON"));
        }
        Self::of(String::new(), first)
    }

    fn of(path: String, value: Value) -> Result<Self, Refused> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            Value::Null => Ok(Self {
                path,
                fields: Map::new(),
            }),
            other => Err(mistyped(&path, &other, "struct")),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names and values of all fields, for an object whose names are the caller's.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.fields.iter()
    }

    /// A field that is there and not `null`. The name's exact case comes first.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let other = || {
            let mut same = self
                .fields
                .iter()
                .filter(|(given, _)| given.eq_ignore_ascii_case(name));
            same.next_back().map(|(_, value)| value)
        };
        self.fields
            .get(name)
            .or_else(other)
            .filter(|value| !value.is_null())
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// Text; empty if it is missing.
    pub(super) fn text(&self, name: &str) -> Result<String, Refused> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(mistyped(&self.path_of(name), other, "string")),
        }
    }

    /// True or false; false if it is missing.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refused> {
        Ok(self.flag_if_given(name)?.unwrap_or_default())
    }

    /// True or false, if it is there.
    pub(super) fn flag_if_given(&self, name: &str) -> Result<Option<bool>, Refused> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(mistyped(&self.path_of(name), other, "bool")),
        }
    }

    /// A number; 0 if it is missing.
    pub(super) fn integer(&self, name: &str) -> Result<i64, Refused> {
        Ok(self.integer_if_given(name)?.unwrap_or_default())
    }

    /// A number, if it is there.
    pub(super) fn integer_if_given(&self, name: &str) -> Result<Option<i64>, Refused> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_i64() {
            Some(number) => Ok(Some(number)),
            None => Err(mistyped(&self.path_of(name), value, "int64")),
        }
    }

    /// A list of texts, if it is there.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Refused> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let path = self.path_of(name);
        let Value::Array(values) = value else {
            return Err(mistyped(&path, value, "[]string"));
        };
        let texts = values.iter().map(|value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Null => Ok(String::new()),
            other => Err(mistyped(&path, other, "string")),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// A command: a list of words, or one word.
    pub(super) fn words(&self, name: &str) -> Result<Option<Vec<String>>, Refused> {
        match self.get(name) {
            Some(Value::String(word)) => Ok(Some(vec![word.clone()])),
            _ => self.texts(name),
        }
    }

    /// Names with texts, such as labels.
    pub(super) fn map(&self, name: &str) -> Result<BTreeMap<String, String>, Refused> {
        let object = self.object(name)?.unwrap_or_default();
        let entries = object.fields.into_iter().map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            Value::Null => Ok((key, String::new())),
            other => Err(mistyped(&object.path, &other, "string")),
        });
        entries.collect()
    }

    /// An object, if it is there.
    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Refused> {
        let found = self.get(name).cloned();
        found.map(|value| Self::of(self.path_of(name), value)).transpose()
    }

    /// A list of objects; empty if it is missing.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Self>, Refused> {
        let path = self.path_of(name);
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                let objects = values.iter().map(|value| Self::of(path.clone(), value.clone()));
                objects.collect()
            }
            Some(other) => Err(mistyped(&path, other, "[]struct")),
        }
    }

    /// The object that is the value of one entry.
    pub(super) fn entry(&self, name: &str, value: &Value) -> Result<Self, Refused> {
        Self::of(self.path_of(name), value.clone())
    }
}

fn mistyped(path: &str, value: &Value, wanted: &str) -> Refused {
    let given = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Refused::bad(format!(
        "invalid JSON: json: cannot unmarshal {given} into Go struct field {path} of type {wanted}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        Object::of_body(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_case_of_a_name_does_not_matter_and_null_is_nothing() {
        let body = object(r#"{"IMAGE":"busybox","cmd":null,"Tty":true,"memory":64,"Env":["a=b",null]}"#);
        assert_eq!(body.text("Image").unwrap(), "busybox");
        assert_eq!(body.words("Cmd").unwrap(), None);
        assert!(body.flag("tty").unwrap() && !body.flag("OpenStdin").unwrap());
        assert_eq!(body.integer("Memory").unwrap(), 64);
        assert_eq!(body.texts("Env").unwrap().unwrap(), ["a=b", ""]);
        assert!(object("null").is_empty());
    }

    #[test]
    fn a_command_may_be_one_word() {
        assert_eq!(object(r#"{"Cmd":"ls"}"#).words("Cmd").unwrap().unwrap(), ["ls"]);
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for (body, says) in [
            ("", "got EOF while reading request body"),
            ("{} x", "unexpected content after JSON"),
            ("{}{}", "unexpected content after JSON"),
            ("{bad", "invalid JSON: "),
            (
                "[]",
                "cannot unmarshal array into Go struct field  of type struct",
            ),
        ] {
            let refused = Object::of_body(body.as_bytes()).unwrap_err();
            assert!(refused.message.contains(says), "{body:?}: {}", refused.message);
            assert_eq!(refused.status.as_u16(), 400);
        }
        let refused = object(r#"{"Image":1}"#).text("Image").unwrap_err();
        assert_eq!(
            refused.message,
            "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string"
        );
    }
}
