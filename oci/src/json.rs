//! The spec as text, with the same bytes every time.
//!
//! The spec's own serialization differs each time: it keeps capabilities and maps in hashed collections, whose order
//! changes from one process to the next. A spec that is compared, logged or digested must not change.

use oci_spec::runtime::Spec;
use serde_json::Value;

/// The spec as JSON: names sorted, sets sorted, lists in their order.
///
/// # Errors
/// Only for a spec that did not come from [`crate::spec`], for example one with a path that is not UTF-8.
pub fn to_json(spec: &Spec) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(spec)?;
    value.sort_all_objects();
    let sets = value
        .pointer_mut("/process/capabilities")
        .and_then(Value::as_object_mut);
    for set in sets
        .into_iter()
        .flat_map(|sets| sets.values_mut())
        .filter_map(Value::as_array_mut)
    {
        set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    Ok(value)
}
