//! What a run did.

/// What a run did, for those who want to know that something happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Logons granted.
    pub granted: u64,
    /// Logons refused.
    pub refused: u64,
    /// Members that stopped themselves, by any reason but leaving.
    pub fenced: u64,
    /// Those of them that the watchdog ended, because their engines stood still.
    pub watched: u64,
    /// Joins that came to their end.
    pub joins: u64,
    /// Members that were declared down.
    pub declared: u64,
    /// Members whose configuration did not fit, and that were isolated for it.
    pub isolated: u64,
    /// Joins beside a member of another level.
    pub mixed: u64,
    /// Joined members whose clock jumped.
    pub jumps: u64,
    /// Orders of operators that were carried out: members declared down, timeouts on or off, the record moved.
    pub orders: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.granted += other.granted;
        self.refused += other.refused;
        self.fenced += other.fenced;
        self.watched += other.watched;
        self.joins += other.joins;
        self.declared += other.declared;
        self.isolated += other.isolated;
        self.mixed += other.mixed;
        self.jumps += other.jumps;
        self.orders += other.orders;
    }
}
