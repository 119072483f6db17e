//! What a resolver knows.

use std::fmt::Debug;
use std::net::IpAddr;

/// The names on a network, as one of its containers sees them.
pub(crate) trait Names: Debug + Send + Sync + 'static {
    /// The addresses of the containers of that name, in the order in which they are to be tried; `None` if none has it. The
    /// name is in lower case and has no dot at its end.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>>;

    /// The name of the container that has an address.
    fn name_of(&self, address: IpAddr) -> Option<String>;

    /// Whether other questions are passed on. Otherwise there are no other names.
    fn leads_on(&self) -> bool;

    /// The servers that other questions are passed on to, in their order.
    fn servers(&self) -> Vec<IpAddr>;
}
