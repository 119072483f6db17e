//! The sizes of terminals.

use serde_json::Value;

use super::json::Object;
use super::query::Query;
use super::refused::Refused;

/// The height and width of the client's terminal. Anything but two sizes is as if there were none, as in Docker.
pub(super) fn console_size(body: &Object) -> Result<Option<(u16, u16)>, Refused> {
    let sizes = match body.get("ConsoleSize") {
        None => return Ok(None),
        Some(Value::Array(sizes)) => sizes,
        Some(_) => {
            return Err(Refused::bad(
                "invalid JSON: ConsoleSize is no list of two numbers",
            ));
        }
    };
    let size = |value: &Value| value.as_u64().and_then(|size| u16::try_from(size).ok());
    match sizes.as_slice() {
        [height, width] => Ok(size(height).zip(size(width)).filter(|size| *size != (0, 0))),
        _ => Ok(None),
    }
}

/// The height and width that a request to change them names.
pub(super) fn new_size(query: &Query) -> Result<(u16, u16), Refused> {
    let side = |name: &str, word: &str| {
        let given = query.get(name).unwrap_or_default();
        let digits = !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit());
        let why = if digits {
            "value out of range"
        } else {
            "invalid syntax"
        };
        given
            .parse::<u16>()
            .map_err(|_| Refused::bad(format!("invalid resize {word} \"{given}\": {why}")))
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_size_is_two_numbers_of_16_bits() {
        let size = |text: &str| new_size(&Query::parse(text)).map_err(|refused| refused.message);
        assert_eq!(size("h=24&w=80"), Ok((24, 80)));
        assert_eq!(
            size("h=abc&w=1").unwrap_err(),
            "invalid resize height \"abc\": invalid syntax"
        );
        assert_eq!(
            size("h=1").unwrap_err(),
            "invalid resize width \"\": invalid syntax"
        );
        assert!(size("h=1&w=70000").unwrap_err().contains("out of range"));
        assert!(size("h=-1&w=1").unwrap_err().contains("invalid syntax"));
    }
}
