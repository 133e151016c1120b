//! What the demonstration and the tests put around the gateway: devices, and a peer to upload to.

pub mod devices;
pub mod peer;
