//! What a run did.

/// What a run did, for those who want to know that something happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Logons granted.
    pub granted: u64,
    /// Of these, as multiconfiguration users.
    pub multi: u64,
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
    /// Members that stepped back from joining.
    pub stepped_back: u64,
    /// Members that were expelled, for they joined or left for too long.
    pub expelled: u64,
    /// Members that hung while they joined or left, and whose heartbeat went on.
    pub lingering: u64,
    /// Joins beside a member of another level.
    pub mixed: u64,
    /// Joined members whose clock jumped.
    pub jumps: u64,
    /// Of these, back.
    pub set_back: u64,
    /// Links that one end did not hear any more.
    pub deaf: u64,
    /// Edits of the directory.
    pub edits: u64,
    /// Times that hundreds of users logged on at once.
    pub crowds: u64,
    /// Failures that stayed when all else had healed.
    pub lasting: u64,
    /// Orders of operators that were carried out: members declared down, timeouts on or off, the record moved.
    pub orders: u64,
    /// Orders that were refused.
    pub orders_refused: u64,
    /// Longest wait for the answer to a logon, in ms of which the member was awake.
    pub longest_wait_ms: u64,
    /// Longest that a member joined or left while others watched, in ms.
    pub longest_transition_ms: u64,
    /// Longest until all was well after all had healed, in ms.
    pub longest_unrest_ms: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.granted += other.granted;
        self.multi += other.multi;
        self.refused += other.refused;
        self.fenced += other.fenced;
        self.watched += other.watched;
        self.joins += other.joins;
        self.declared += other.declared;
        self.isolated += other.isolated;
        self.stepped_back += other.stepped_back;
        self.expelled += other.expelled;
        self.lingering += other.lingering;
        self.mixed += other.mixed;
        self.jumps += other.jumps;
        self.set_back += other.set_back;
        self.deaf += other.deaf;
        self.edits += other.edits;
        self.crowds += other.crowds;
        self.lasting += other.lasting;
        self.orders += other.orders;
        self.orders_refused += other.orders_refused;
        self.longest_wait_ms = self.longest_wait_ms.max(other.longest_wait_ms);
        self.longest_transition_ms = self.longest_transition_ms.max(other.longest_transition_ms);
        self.longest_unrest_ms = self.longest_unrest_ms.max(other.longest_unrest_ms);
    }
}
