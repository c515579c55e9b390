//! `ISLINK_ENDPOINT {rdev[-rdev] | *} {sysname | *} endpoint`: which socket is at the other end of link devices.
//!
//! This statement is not one of z/VM's. There, the I/O configuration of the machine says which adapter a device number
//! leads to; here, it is this statement. Devices that no statement names lead to the member's socket in the cluster's
//! directory, so that a cluster on one machine needs none.

use serde::Serialize;

use crate::SystemName;
use crate::config::Endpoint;
use crate::source::{DeviceNumber, DeviceRange, Diagnostic, Layout, Spelling, Words};

/// Devices that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// All that nothing more exact is said of.
    All,
    /// These.
    Range(DeviceRange),
}

impl DeviceChoice {
    /// Whether it stands for this device.
    pub fn contains(self, device: DeviceNumber) -> bool {
        match self {
            Self::All => true,
            Self::Range(range) => range.contains(device),
        }
    }
}

/// An ISLINK_ENDPOINT statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IslinkEndpoint {
    /// These devices
    pub devices: DeviceChoice,
    /// of links to this member
    pub member: SystemName,
    /// lead here, where that member listens.
    pub endpoint: Endpoint,
}

impl IslinkEndpoint {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let devices = match words.accept(Spelling("*")) {
            true => DeviceChoice::All,
            false => DeviceChoice::Range(words.value("a device number, a range of them, or *")?),
        };
        let member = words.value("a member's name")?;
        let endpoint = words.value("tcp:HOST:PORT, unix:PATH or shm:PATH")?;
        Ok(Self { devices, member, endpoint })
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("ISLINK_ENDPOINT");
        let layout = match self.devices {
            DeviceChoice::All => layout.word("*"),
            DeviceChoice::Range(range) => layout.word(range),
        };
        layout.word(self.member).text(&self.endpoint.to_string())
    }
}
