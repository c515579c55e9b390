//! The statements that are understood, one file each: what it holds, how it is read, how it is written.

mod activate_islink;
mod cp_owned;
mod equate;
mod features;
mod islink_endpoint;
mod kept;
mod operator_consoles;
mod product;
mod rdevice;
mod relocation_domain;
mod ssi;
mod system_identifier;
mod system_residence;
mod user_volumes;
mod vlan;
mod vmlan;
mod vswitch;

pub use activate_islink::{ActivateIslink, DEVICES_MAX};
pub use cp_owned::{CpOwned, Owned};
pub use equate::Equate;
pub use features::{Features, Setting};
pub use islink_endpoint::{DeviceChoice, IslinkEndpoint};
pub use kept::Kept;
pub use operator_consoles::{Console, OperatorConsoles};
pub use product::Product;
pub use rdevice::{Equivalence, Rdevice};
pub use relocation_domain::RelocationDomain;
pub use ssi::{PdrVolume, SlotUse, Ssi};
pub use system_identifier::{Machine, SystemIdentifier, SystemIdentifierDefault};
pub use system_residence::{Area, AreaUnit, SystemResidence};
pub use user_volumes::{UserVolumeList, UserVolumePatterns};
pub use vlan::{VlanId, VlanIdError, VlanUse};
pub use vmlan::{MacPrefix, MacPrefixError, MacRange, Vmlan};
pub use vswitch::{
    DefineVswitch, Grant, Layer, ModifyVswitch, PortType, Uplink, VswitchChange, VswitchName,
    VswitchNameError,
};

use serde::Serialize;

use crate::source::Layout;

/// A statement.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "statement", rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "each holds the type of its name")]
pub enum Statement {
    ActivateIslink(ActivateIslink),
    CpOwned(CpOwned),
    DefineVswitch(DefineVswitch),
    Equate(Equate),
    Features(Features),
    IslinkEndpoint(IslinkEndpoint),
    Kept(Kept),
    ModifyVswitch(ModifyVswitch),
    OperatorConsoles(OperatorConsoles),
    Product(Product),
    Rdevice(Rdevice),
    RelocationDomain(RelocationDomain),
    Ssi(Ssi),
    SystemIdentifier(SystemIdentifier),
    SystemIdentifierDefault(SystemIdentifierDefault),
    SystemResidence(SystemResidence),
    UserVolumeExclude(UserVolumePatterns),
    UserVolumeInclude(UserVolumePatterns),
    UserVolumeList(UserVolumeList),
    Vmlan(Vmlan),
}

impl Statement {
    /// Its words, in full and in order.
    pub fn layout(&self) -> Layout {
        match self {
            Self::ActivateIslink(statement) => statement.layout(),
            Self::CpOwned(statement) => statement.layout(),
            Self::DefineVswitch(statement) => statement.layout(),
            Self::Equate(statement) => statement.layout(),
            Self::Features(statement) => statement.layout(),
            Self::IslinkEndpoint(statement) => statement.layout(),
            Self::Kept(statement) => statement.layout(),
            Self::ModifyVswitch(statement) => statement.layout(),
            Self::OperatorConsoles(statement) => statement.layout(),
            Self::Product(statement) => statement.layout(),
            Self::Rdevice(statement) => statement.layout(),
            Self::RelocationDomain(statement) => statement.layout(),
            Self::Ssi(statement) => statement.layout(),
            Self::SystemIdentifier(statement) => statement.layout(),
            Self::SystemIdentifierDefault(statement) => statement.layout(),
            Self::SystemResidence(statement) => statement.layout(),
            Self::UserVolumeExclude(statement) => statement.layout("USER_VOLUME_EXCLUDE"),
            Self::UserVolumeInclude(statement) => statement.layout("USER_VOLUME_INCLUDE"),
            Self::UserVolumeList(statement) => statement.layout(),
            Self::Vmlan(statement) => statement.layout(),
        }
    }
}
