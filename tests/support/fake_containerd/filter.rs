//! containerd's filters: selectors joined by commas must all hold, and one filter of several is enough.

use tonic::Status;

struct Selector {
    path: String,
    operator: String,
    value: String,
}

/// Whether a thing passes. `field` gives the value at a path such as `id` or `labels.some/key`.
pub(super) fn matches(filters: &[String], field: impl Fn(&str) -> Option<String>) -> Result<bool, Status> {
    if filters.is_empty() {
        return Ok(true);
    }
    for filter in filters {
        let mut all = true;
        for selector in parse(filter)? {
            all &= selector.holds(field(&selector.path))?;
        }
        if all {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The usual field paths of a thing with a name and labels.
pub(super) fn labelled<'a>(
    id: &'a str,
    labels: &'a std::collections::HashMap<String, String>,
) -> impl Fn(&str) -> Option<String> + 'a {
    move |path| match path {
        "id" | "name" | "digest" => Some(id.into()),
        _ => labels.get(path.strip_prefix("labels.")?).cloned(),
    }
}

impl Selector {
    fn holds(&self, found: Option<String>) -> Result<bool, Status> {
        let value = self.value.as_str();
        Ok(match (self.operator.as_str(), found) {
            ("", found) => found.is_some(),
            ("==", found) => found.as_deref() == Some(value),
            ("!=", found) => found.as_deref() != Some(value),
            ("~=", None) => false,
            ("~=", Some(found)) => {
                let text = value.trim_start_matches('^').trim_end_matches('$');
                if text.contains(['*', '+', '?', '[', '(', '\\', '$', '^']) {
                    return Err(invalid(&self.value));
                }
                match (value.starts_with('^'), value.ends_with('$')) {
                    (true, true) => found == text,
                    (true, false) => found.starts_with(text),
                    (false, true) => found.ends_with(text),
                    (false, false) => found.contains(text),
                }
            }
            _ => return Err(invalid(&self.operator)),
        })
    }
}

fn invalid(part: &str) -> Status {
    Status::invalid_argument(format!("filters: [{part}]: invalid argument"))
}

fn parse(filter: &str) -> Result<Vec<Selector>, Status> {
    let mut selectors = Vec::new();
    let mut rest = filter;
    while !rest.is_empty() {
        let mut path = String::new();
        loop {
            let field = word(&mut rest, |c| {
                c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '-')
            })?;
            path.push_str(&field);
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None => break,
            }
            path.push('.');
        }
        let operator: String = rest
            .chars()
            .take_while(|c| matches!(c, '=' | '!' | '~'))
            .collect();
        rest = &rest[operator.len()..];
        let value = match operator.as_str() {
            "" => String::new(),
            _ => word(&mut rest, |c| c != ',')?,
        };
        selectors.push(Selector {
            path,
            operator,
            value,
        });
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None if rest.is_empty() => rest,
            None => return Err(invalid(filter)),
        };
    }
    Ok(selectors)
}

/// A word between quotes (or `|` or `/`, as for regular expressions), or as long as `bare` holds.
fn word(rest: &mut &str, bare: impl Fn(char) -> bool) -> Result<String, Status> {
    let all = *rest;
    if let Some(quote @ ('"' | '|' | '/')) = all.chars().next() {
        let (inside, after) = all[1..].split_once(quote).ok_or_else(|| invalid(all))?;
        *rest = after;
        return Ok(inside.into());
    }
    let end = all.find(|c| !bare(c)).unwrap_or(all.len());
    if end == 0 {
        return Err(invalid(all));
    }
    *rest = &all[end..];
    Ok(all[..end].into())
}
