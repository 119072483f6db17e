//! `--format`, as in docker: a template with fields such as `{{.Field}}`, `table` before a template for columns with
//! headings, or `json`. Of Go's templates, it supports fields, `json` and `.Label "name"`. Anything else in braces is
//! refused by name. Pure.
//!
//! Written by hand, because Go's full language (the crate gtmpl) would allow far more than a list needs.

use std::collections::BTreeMap;

/// The fields of a line by name, and its labels.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) values: BTreeMap<&'static str, String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Template {
    /// A JSON value for each line.
    Json,
    /// Text for each line.
    Lines(Vec<Part>),
    /// Columns, each with its heading.
    Table(Vec<Vec<Part>>),
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Field(String),
    /// A field as a JSON string.
    JsonField(String),
    /// The value of one label.
    Label(String),
    /// All fields as one JSON value.
    All,
}

impl Template {
    /// Parses a template. `known` are the fields that the list has.
    ///
    /// # Errors
    /// Returns a sentence that names what is wrong.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self::Json);
        }
        let (columns, body) = match text.strip_prefix("table ") {
            Some(body) => (true, body),
            None => (false, text),
        };
        // A shell passes `\t` and `\n` on as two characters each.
        let body = body.replace("\\t", "\t").replace("\\n", "\n");
        let read = |text: &str| parts(text, known);
        Ok(if columns {
            Self::Table(body.split('\t').map(read).collect::<Result<_, _>>()?)
        } else {
            Self::Lines(read(&body)?)
        })
    }

    /// Renders lines with this template. `heads` are the column headings by field.
    pub(super) fn render(&self, lines: &[Fields], heads: &BTreeMap<&str, &str>) -> Vec<String> {
        match self {
            Self::Json => lines.iter().map(json).collect(),
            Self::Lines(parts) => lines.iter().map(|fields| text(parts, fields)).collect(),
            Self::Table(columns) => {
                let head = |part: &Part| match part {
                    Part::Field(name) | Part::JsonField(name) => {
                        heads.get(name.as_str()).copied().unwrap_or_default().to_owned()
                    }
                    Part::Label(name) => name.clone(),
                    Part::Text(text) => text.clone(),
                    Part::All => String::new(),
                };
                let head_of = |parts: &Vec<Part>| parts.iter().map(head).collect::<String>();
                let head: Vec<_> = columns.iter().map(head_of).collect();
                let head: Vec<_> = head.iter().map(String::as_str).collect();
                let row = |fields: &Fields| columns.iter().map(|parts| text(parts, fields)).collect();
                let rows: Vec<_> = lines.iter().map(row).collect();
                vec![super::output::table(&head, &rows)]
            }
        }
    }
}

fn parts(text: &str, known: &[&str]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let (inside, after) = after
            .split_once("}}")
            .ok_or_else(|| format!("--format {text:?} has a {{{{ without its }}}}"))?;
        parts.push(part(inside.trim(), known)?);
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

fn part(inside: &str, known: &[&str]) -> Result<Part, String> {
    let words: Vec<&str> = inside.split_whitespace().collect();
    let is_known = |field: &str| field.strip_prefix('.').is_some_and(|name| known.contains(&name));
    let name_of = |field: &str| field.trim_start_matches('.').to_owned();
    match words.as_slice() {
        ["json", "."] => Ok(Part::All),
        [".Label", name] => Ok(Part::Label(name.trim_matches(['"', '`']).to_owned())),
        [field] if is_known(field) => Ok(Part::Field(name_of(field))),
        ["json", field] if is_known(field) => Ok(Part::JsonField(name_of(field))),
        _ => Err(format!(
            "--format knows no {{{{{inside}}}}}; there are {}",
            known
                .iter()
                .map(|name| format!(".{name}"))
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

fn text(parts: &[Part], fields: &Fields) -> String {
    let value = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Field(name) => fields.values.get(name.as_str()).cloned().unwrap_or_default(),
        Part::JsonField(name) => {
            let value = fields.values.get(name.as_str());
            serde_json::to_string(value.map_or("", String::as_str)).unwrap_or_default()
        }
        Part::Label(name) => fields.labels.get(name).cloned().unwrap_or_default(),
        Part::All => json(fields),
    };
    parts.iter().map(value).collect()
}

fn json(fields: &Fields) -> String {
    serde_json::to_string(&fields.values).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["ID", "Image"];

    fn fields(id: &str, image: &str) -> Fields {
        Fields {
            values: [("ID", id.to_owned()), ("Image", image.to_owned())].into(),
            labels: [("team".to_owned(), "red".to_owned())].into(),
        }
    }

    fn rendered(template: &str) -> Vec<String> {
        let heads = [("ID", "ID"), ("Image", "IMAGE")].into();
        let template = Template::parse(template, &KNOWN).unwrap();
        template.render(&[fields("c1", "busybox"), fields("c2", "i")], &heads)
    }

    #[test]
    fn fields_stand_among_text() {
        assert_eq!(rendered("{{.ID}}={{ .Image }}!"), ["c1=busybox!", "c2=i!"]);
        assert_eq!(rendered(r#"{{.ID}}\t{{.Label "team"}}"#), ["c1\tred", "c2\tred"]);
        assert_eq!(rendered("x"), ["x", "x"]);
        let json = r#"{"ID":"c1","Image":"busybox"}"#;
        assert_eq!(rendered("json").first().unwrap(), json);
        assert_eq!(rendered("{{json .}}").first().unwrap(), json);
        assert_eq!(rendered("{{json .ID}}"), [r#""c1""#, r#""c2""#]);
    }

    #[test]
    fn a_table_has_heads() {
        let table = rendered(r"table {{.ID}}\t{{.Image}}");
        assert_eq!(table, ["ID  IMAGE\nc1  busybox\nc2  i"]);
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        for (template, said) in [
            ("{{.Size}}", "{{.Size}}; there are .ID, .Image"),
            ("{{range .}}", "{{range .}}"),
            ("{{.ID", "without its }}"),
            ("{{}}", "{{}}"),
        ] {
            let why = Template::parse(template, &KNOWN).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
