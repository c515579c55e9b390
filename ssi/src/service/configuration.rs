//! The members' configurations fit together: what must be the same is, and what must differ does.

use serde::{Deserialize, Serialize};

use super::{Output, Service, View};
use crate::config::Comparison;
use crate::name::{Slot, SystemName};

/// Name of the service.
pub const CONFIGURATION: &str = "Configuration";

/// The service. It holds nothing and answers nothing: it only lets members in or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    share: Share,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Share {
    member: SystemName,
    comparison: Comparison,
}

impl Configuration {
    /// For a member with this configuration.
    pub fn new(member: SystemName, comparison: Comparison) -> Self {
        Self { share: Share { member, comparison } }
    }
}

impl Service for Configuration {
    fn name(&self) -> &'static str {
        CONFIGURATION
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn state(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.share).expect("a comparison has no lengths unknown")
    }

    fn check_join(&self, slot: Slot, state: &[u8]) -> Result<(), String> {
        let theirs: Share = postcard::from_bytes(state).map_err(|error| format!("slot {slot}: {error}"))?;
        let (us, them) = (self.share.member.as_str(), theirs.member.as_str());
        let differences = self.share.comparison.differences(&theirs.comparison, us, them);
        match differences.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            [first, more @ ..] => Err(format!("{first} (and {} more)", more.len())),
        }
    }

    fn adopt(&mut self, _: Slot, _: &[u8]) {}

    fn member_changed(&mut self, _: &View, _: &mut Vec<Output>) {}

    fn prepare_for_stable(&mut self, _: &View, _: &mut Vec<Output>) {}

    fn message(&mut self, _: &View, _: Slot, _: &[u8], _: &mut Vec<Output>) {}

    fn request(&mut self, _: &View, request: u64, _: &[u8], out: &mut Vec<Output>) {
        out.push(Output::Answer { request, body: Vec::new() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(member: &str, volume: &str, prefix: &str) -> Configuration {
        let pair = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
        let comparison = Comparison {
            same: pair("CP_OWNED slot 10", volume),
            same_where_both: Default::default(),
            different: pair("VMLAN MACPREFIX", prefix),
        };
        Configuration::new(SystemName::new(member).unwrap(), comparison)
    }

    #[test]
    fn a_veto_names_what_differs_and_both_values() {
        let check = |other: &Configuration| {
            service("MEMBERA", "M01S01", "02000A").check_join(Slot::new(2).unwrap(), &other.state())
        };
        assert_eq!(check(&service("MEMBERB", "M01S01", "02000B")), Ok(()));
        assert_eq!(
            check(&service("MEMBERB", "M02S01", "02000B")),
            Err("CP_OWNED slot 10: M01S01 on MEMBERA, M02S01 on MEMBERB".to_owned())
        );
        assert_eq!(
            check(&service("MEMBERB", "M02S01", "02000A")),
            Err("CP_OWNED slot 10: M01S01 on MEMBERA, M02S01 on MEMBERB (and 1 more)".to_owned())
        );
        let garbage = service("MEMBERA", "V", "P").check_join(Slot::new(2).unwrap(), &[0xFF; 9]);
        assert!(garbage.unwrap_err().starts_with("slot 2: "));
    }
}
