//! The secret headers of a login.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

/// `user:password` in base64, as the Basic scheme requires it.
pub(super) fn encoded(username: &str, password: &str) -> String {
    STANDARD.encode(format!("{username}:{password}"))
}

/// A header that `Debug` does not show.
pub(super) fn header(scheme: &str, secret: &str) -> Result<HeaderValue, ()> {
    let mut value = HeaderValue::try_from(format!("{scheme} {secret}")).map_err(|_| ())?;
    value.set_sensitive(true);
    Ok(value)
}
