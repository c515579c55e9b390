//! Which side gives way when commands cross: settled once, when the connection is made.

use std::net::IpAddr;

/// A side's part when commands collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its command stands.
    Winner,
    /// Its command is cancelled with busy and attention.
    Loser,
}

impl Role {
    /// The other side's part.
    pub const fn other(self) -> Self {
        match self {
            Self::Winner => Self::Loser,
            Self::Loser => Self::Winner,
        }
    }
}

/// What two sides compare: the higher one wins; address first, then SSID, then device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its subchannel set.
    pub ssid: u16,
    /// Its device number.
    pub device: u16,
}

impl Endpoint {
    /// This endpoint's part towards `other`; `None` if nothing tells them apart.
    pub fn role(&self, other: &Self) -> Option<Role> {
        match self.cmp(other) {
            std::cmp::Ordering::Greater => Some(Role::Winner),
            std::cmp::Ordering::Less => Some(Role::Loser),
            std::cmp::Ordering::Equal => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_address_wins_then_ssid_then_device() {
        let end = |last, ssid, device| Endpoint { address: IpAddr::from([10, 0, 0, last]), ssid, device };
        assert_eq!(end(2, 0, 0).role(&end(1, 9, 9)), Some(Role::Winner));
        assert_eq!(end(1, 0, 9).role(&end(1, 1, 0)), Some(Role::Loser));
        assert_eq!(end(1, 1, 3).role(&end(1, 1, 2)), Some(Role::Winner));
        assert_eq!(end(1, 1, 3).role(&end(1, 1, 3)), None);
    }
}
