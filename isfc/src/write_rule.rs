//! Who writes where: IBM's rule that keeps the two ends of a logical link from writing on the same device at once.
//!
//! A CTC connection carries both directions, but when both ends write at the same time neither write finds a read:
//! a *write collision*, which is repaired at a cost. So each end keeps off the devices where the other begins:
//!
//! ```text
//!   device        0   1   2   3   4   5   6   7   8   9  10  11
//!   lesser name   ▓   ▓   ▓   ▓   ▓   ▓   ▓   ▓   ▓   ▓   ·   ·     from the lowest upward
//!   greater name  ·   ·   ▓   ▓   ▓   ▓   ▓   ▓   ▓   ▓   ▓   ▓     from the highest downward
//! ```
//!
//! Of 2 to 8 devices each end uses at most all but one, of 9 to 16 all but two. The rest stay quiet as long as the
//! other end has nothing to write. Source: "How ISFC uses CTC devices" in the z/VM library (write collisions).

/// Which end of the link this is, by the order of the two system names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its name comes first.
    Lesser,
    /// Its name comes last.
    Greater,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Lesser => Self::Greater,
            Self::Greater => Self::Lesser,
        }
    }

    /// The side of the system called `ours`, linked with `theirs`. Of two that have the same name, the one that called
    /// is the lesser.
    pub fn of(ours: &str, theirs: &str, dialing: bool) -> Self {
        let lesser = match ours.cmp(theirs) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => dialing,
            std::cmp::Ordering::Greater => false,
        };
        if lesser { Self::Lesser } else { Self::Greater }
    }
}

/// How many of `devices` devices each side writes on.
pub const fn writing_devices(devices: u32) -> u32 {
    match devices {
        0 | 1 => devices,
        2..=8 => devices - 1,
        _ => devices - 2,
    }
}

/// The devices, out of those that are up (bit `n`: device `n`), on which `side` may write.
pub fn writable(devices_up: u16, side: Side) -> u16 {
    let mut writable = devices_up;
    let quiet = devices_up.count_ones() - writing_devices(devices_up.count_ones());
    for _ in 0..quiet {
        let last = match side {
            Side::Lesser => 1 << (15 - writable.leading_zeros()),
            Side::Greater => writable & writable.wrapping_neg(),
        };
        writable &= !last;
    }
    writable
}

/// The devices that always carry the urgent messages of `side`: those on which it writes no pages, so that a message never
/// waits behind one. Of a single device, that one.
pub fn express(devices_up: u16, side: Side) -> u16 {
    let quiet = devices_up & !writable(devices_up, side);
    if quiet == 0 { devices_up } else { quiet }
}

/// The devices on which `side` may write, in the order in which it takes them.
pub fn order(devices_up: u16, side: Side) -> impl Iterator<Item = u8> {
    let writable = writable(devices_up, side);
    (0..16u8)
        .map(move |step| match side {
            Side::Lesser => step,
            Side::Greater => 15 - step,
        })
        .filter(move |device| writable & (1 << device) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(devices: u32) -> u16 {
        ((1u32 << devices) - 1) as u16
    }

    #[test]
    fn the_table_of_the_reference() {
        // devices, each side writes on, only the lesser's, both, only the greater's
        for (n, each, lesser_only, both, greater_only) in [
            (1, 1, 0, 1, 0),
            (2, 1, 1, 0, 1),
            (4, 3, 1, 2, 1),
            (8, 7, 1, 6, 1),
            (9, 7, 2, 5, 2),
            (12, 10, 2, 8, 2),
            (16, 14, 2, 12, 2),
        ] {
            let (a, b) = (writable(first(n), Side::Lesser), writable(first(n), Side::Greater));
            let counted = [a, b, a & !b, a & b, b & !a].map(u16::count_ones);
            assert_eq!(counted, [each, each, lesser_only, both, greater_only], "{n} devices");
        }
    }

    #[test]
    fn sixteen_devices_as_in_the_source() {
        let lesser: Vec<u8> = order(u16::MAX, Side::Lesser).collect();
        let greater: Vec<u8> = order(u16::MAX, Side::Greater).collect();
        assert_eq!(lesser, (0..=13).collect::<Vec<u8>>());
        assert_eq!(greater, (2..=15).rev().collect::<Vec<u8>>());
    }

    #[test]
    fn names_decide_and_the_caller_breaks_a_tie() {
        assert_eq!(Side::of("LPAR1", "LPAR2", false), Side::Lesser);
        assert_eq!(Side::of("LPAR2", "LPAR1", true), Side::Greater);
        assert_eq!((Side::of("A", "A", true), Side::of("A", "A", false)), (Side::Lesser, Side::Greater));
    }

    proptest! {
        #[test]
        fn no_device_is_left_out_and_none_is_made_up(up: u16) {
            let (a, b) = (writable(up, Side::Lesser), writable(up, Side::Greater));
            prop_assert_eq!(a | b, up);
            prop_assert!(up == 0 || express(up, Side::Lesser) != 0 && express(up, Side::Greater) != 0);
            prop_assert!(up.count_ones() < 2 || express(up, Side::Lesser) & a == 0);
            prop_assert_eq!(a.count_ones(), writing_devices(up.count_ones()));
            if up.count_ones() >= 2 {
                prop_assert!(a & !b != 0 && b & !a != 0, "each has one of its own");
            }
        }
    }
}
