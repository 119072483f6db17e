//! Networks with the real plugins and real packets: a server in one container, a client in another, the host as the third.
//! Every test has a bridge and a subnet of its own, and ends with a census of links, rules, addresses and namespaces.

mod cli;
mod crowd;
mod faults;
mod files;
mod firewall;
mod host;
mod kept;
mod modes;
mod names;
mod pages;
mod pool;
mod ports;
mod reach;
mod recovery;
mod rig;
mod served;
mod subnet;
