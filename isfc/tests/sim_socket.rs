//! The endpoints' cores alone: two sides over a model of a link that keeps order per socket and loses everything when it
//! ends. Links end and come anew at any moment, for one side before the other; endpoints open and close, at the same and
//! at different priorities; receivers take when they like. Every message gets one receipt, and the receipt is true.
//!
//! `ISFC_SOCKET_SIM_SEED=n` replays one seed; `ISFC_SOCKET_SIM_SEEDS=n` runs so many (20,000 in a release build)
//! from `ISFC_SOCKET_SIM_FIRST`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use isfc::link::Priority;
use isfc::socket::{
    Core, ENDPOINTS_MAX, Effect, EndpointId, EndpointName, Epoch, MessageId, Receipt, SendError, WINDOWS_MAX,
};

const NAMES: [&str; 3] = ["SSIMEMB", "SSILOCK", "LGR"];
const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// A message in the books of the side that sent it; its body is its number there.
#[derive(Debug)]
struct Sent {
    name: usize,
    id: MessageId,
    receipt: Option<Receipt>,
    taken: u32,
}

struct Open {
    id: EndpointId,
    name: usize,
    window: u16,
    closed: bool,
}

struct Side {
    core: Core,
    /// The link it believes to be up, and its epoch there.
    link: Option<(usize, Epoch)>,
    endpoints: Vec<Open>,
    sent: Vec<Sent>,
    /// For each endpoint the last message that got its receipt.
    settled: BTreeMap<EndpointId, MessageId>,
    /// For each name the last message of the peer that was taken.
    last_taken: [Option<u64>; NAMES.len()],
    /// Endpoints that were told to wait for [`Effect::Sendable`].
    blocked: BTreeSet<EndpointId>,
    effects: Vec<Effect>,
}

impl Side {
    fn new(instance: u64) -> Self {
        Self {
            core: Core::new(instance),
            link: None,
            endpoints: Vec::new(),
            sent: Vec::new(),
            settled: BTreeMap::new(),
            last_taken: Default::default(),
            blocked: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    fn alive(&self, dice: &mut Dice) -> Option<usize> {
        let alive: Vec<_> = (0..self.endpoints.len()).filter(|n| !self.endpoints[*n].closed).collect();
        (!alive.is_empty()).then(|| alive[dice.roll(alive.len())])
    }

    fn open(&mut self, name: usize, priority: Priority, window: u16) {
        if let Ok(id) = self.core.open(EndpointName::new(NAMES[name]).unwrap(), priority, window) {
            self.endpoints.push(Open { id, name, window, closed: false });
        }
    }

    fn close(&mut self, endpoint: usize) {
        self.core.close(self.endpoints[endpoint].id);
        self.endpoints[endpoint].closed = true;
    }

    fn send(&mut self, endpoint: usize) -> Result<(), SendError> {
        let Open { id: from, name, .. } = self.endpoints[endpoint];
        let body = (self.sent.len() as u64).to_le_bytes();
        let mut effects = Vec::new();
        let outcome = self.core.send(from, &body, &mut effects);
        if outcome == Err(SendError::WouldBlock) {
            self.blocked.insert(from);
        }
        assert!(
            outcome == Err(SendError::WouldBlock) || !self.blocked.contains(&from),
            "a sender that waits was not told that {outcome:?} became possible"
        );
        let id = outcome?;
        assert!(self.sent.last().is_none_or(|last| last.id < id), "message ids grow");
        self.sent.push(Sent { name, id, receipt: None, taken: 0 });
        self.effects.extend(effects);
        Ok(())
    }

    /// Puts what the core said into the books.
    fn settle(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            if let Effect::Sendable(endpoint) = effect {
                self.blocked.remove(&endpoint);
            }
            let Effect::Settled(endpoint, id, receipt) = effect else { continue };
            let number =
                self.sent.binary_search_by_key(&id, |sent| sent.id).expect("a message that was sent");
            let sent = &mut self.sent[number];
            assert_eq!(sent.receipt, None, "message {number} has a second receipt: {receipt:?}");
            sent.receipt = Some(receipt);
            let last = self.settled.insert(endpoint, id);
            assert!(last.is_none_or(|last| last < id), "receipts out of order at {endpoint:?}");
        }
    }

    fn check(&self) {
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.closed) {
            assert!(self.core.waiting(endpoint.id) <= usize::from(endpoint.window), "window overrun");
        }
        for priority in PRIORITIES {
            assert!(self.core.backlog(priority) <= WINDOWS_MAX + 3 * ENDPOINTS_MAX + 1, "backlog");
        }
    }
}

type Wire = [[VecDeque<Vec<u8>>; 3]; 2];

struct World {
    dice: Dice,
    sides: [Side; 2],
    /// Every link there ever was: what is under way to side 0 and 1.
    links: Vec<Wire>,
    /// The last link still carries.
    carries: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let sides = [Side::new(1), Side::new(2)];
        Self { dice: Dice(seed), sides, links: vec![], carries: false }
    }

    fn lose(&mut self, side: usize) {
        let Side { core, link, effects, .. } = &mut self.sides[side];
        if let Some((number, epoch)) = link.take() {
            core.link_down(epoch, effects);
            self.carries &= number + 1 != self.links.len();
        }
    }

    /// The side gets the newest link; if that carries no more, one is made.
    fn relink(&mut self, side: usize) {
        if !self.carries {
            self.links.push(Wire::default());
            self.carries = true;
        }
        let newest = self.links.len() - 1;
        let Side { core, link, effects, .. } = &mut self.sides[side];
        if link.is_none_or(|(number, _)| number != newest) {
            *link = Some((newest, core.link_up(effects)));
        }
    }

    fn transmit(&mut self, side: usize) {
        let Some((link, _)) = self.sides[side].link else { return };
        let lane = self.dice.roll(3);
        let carries = self.carries && link + 1 == self.links.len();
        let wire = &mut self.links[link][1 - side][lane];
        // A link that is gone still takes messages until its side hears of it.
        let give = |bytes: &[u8]| {
            if carries {
                wire.push_back(bytes.to_vec());
            }
            Ok::<(), ()>(())
        };
        self.sides[side].core.transmit(PRIORITIES[lane], give).unwrap();
    }

    fn arrive(&mut self, side: usize) {
        let Some((link, epoch)) = self.sides[side].link else { return };
        let lane = self.dice.roll(3);
        let Some(bytes) = self.links[link][side][lane].pop_front() else { return };
        let Side { core, effects, .. } = &mut self.sides[side];
        core.peer_message(epoch, PRIORITIES[lane], &bytes, effects).expect("both keep to the protocol");
    }

    /// Something of an old link comes late, as from a thread that has not noticed yet.
    fn arrive_late(&mut self, side: usize, old: Epoch) {
        let lane = self.dice.roll(3);
        let now = self.sides[side].link;
        let Some(bytes) = self.links.iter_mut().rev().skip(1).find_map(|wire| wire[side][lane].pop_front())
        else {
            return;
        };
        let Side { core, effects, .. } = &mut self.sides[side];
        if now.is_none_or(|(_, epoch)| epoch > old) {
            core.peer_message(old, PRIORITIES[lane], &bytes, effects).unwrap();
            core.link_down(old, effects);
            assert_eq!(core.is_up(), now.is_some());
        }
    }

    fn take(&mut self, side: usize) {
        let Some(at) = self.sides[side].alive(&mut self.dice) else { return };
        let Open { id, name, .. } = self.sides[side].endpoints[at];
        let Some(received) = self.sides[side].core.take(id) else { return };
        assert_eq!(Some(received.epoch), self.sides[side].link.map(|(_, epoch)| epoch), "of an old link");
        let number = u64::from_le_bytes(received.body.try_into().unwrap());
        assert!(self.sides[side].last_taken[name].is_none_or(|last| last < number), "out of order, or twice");
        self.sides[side].last_taken[name] = Some(number);
        let sent = &mut self.sides[1 - side].sent[number as usize];
        assert_eq!(sent.name, name);
        sent.taken += 1;
        // Of the peer's receipts, one that says "never" is a promise.
        let refused = matches!(
            sent.receipt,
            Some(Receipt::Refused(_) | Receipt::PeerGone { may_have_been_delivered: false })
        );
        assert!(!refused && sent.receipt != Some(Receipt::Delivered), "taken after {:?}", sent.receipt);
    }

    fn step(&mut self, trouble: bool) {
        let side = self.dice.roll(2);
        match self.dice.roll(if trouble { 100 } else { 90 }) {
            0..=19 => {
                if let Some(endpoint) = self.sides[side].alive(&mut self.dice) {
                    let _ = self.sides[side].send(endpoint);
                }
            }
            20..=44 => self.transmit(side),
            45..=69 => self.arrive(side),
            70..=89 => self.take(side),
            90..=92 => {
                let (name, priority) = (self.dice.roll(NAMES.len()), self.dice.roll(9));
                // Mostly each name has its priority.
                let priority = PRIORITIES[if priority < 3 { priority } else { name }];
                let window = 1 + self.dice.roll(4) as u16;
                self.sides[side].open(name, priority, window);
            }
            93..=94 => {
                if let Some(endpoint) = self.sides[side].alive(&mut self.dice) {
                    self.sides[side].close(endpoint);
                }
            }
            95 => self.lose(side),
            96..=98 => self.relink(side),
            _ => {
                if let Some((_, old)) = self.sides[side].link {
                    self.lose(side);
                    if self.dice.roll(2) == 0 {
                        self.relink(side);
                    }
                    self.arrive_late(side, old);
                }
            }
        }
        for side in &mut self.sides {
            side.settle();
            side.check();
        }
    }

    /// Everything moves until nothing does any more.
    fn come_to_rest(&mut self) {
        let mut quiet = 0;
        while quiet < 400 {
            let before = self.moves();
            for side in 0..2 {
                self.transmit(side);
                self.arrive(side);
                self.take(side);
                self.sides[side].settle();
                self.sides[side].check();
            }
            quiet = if self.moves() == before { quiet + 1 } else { 0 };
        }
    }

    fn moves(&self) -> (usize, usize, u32) {
        let backlog =
            |side: &Side| PRIORITIES.map(|priority| side.core.backlog(priority)).iter().sum::<usize>();
        let wire = self.links.last().map_or(0, |wire| wire.iter().flatten().map(VecDeque::len).sum());
        let taken = self.sides.iter().flat_map(|side| &side.sent).map(|sent| sent.taken).sum();
        (self.sides.iter().map(backlog).sum(), wire, taken)
    }

    /// With a link that stays and the same endpoints on both sides, every window opens and every message arrives.
    fn ends_well(&mut self) {
        for side in 0..2 {
            let side = &mut self.sides[side];
            (0..side.endpoints.len()).for_each(|endpoint| side.close(endpoint));
            (0..NAMES.len()).for_each(|name| side.open(name, PRIORITIES[name], 2));
        }
        (0..2).for_each(|side| self.relink(side));
        (0..2).for_each(|side| self.relink(side));
        self.come_to_rest();
        for side in 0..2 {
            let endpoints = self.sides[side].endpoints.len() - NAMES.len()..self.sides[side].endpoints.len();
            for endpoint in endpoints {
                for _ in 0..2 {
                    self.sides[side].send(endpoint).expect("the window is open");
                }
                assert_eq!(self.sides[side].send(endpoint), Err(SendError::WouldBlock));
            }
        }
        self.come_to_rest();
        for side in &self.sides {
            let last = &side.sent[side.sent.len() - 2 * NAMES.len()..];
            assert!(last.iter().all(|sent| sent.receipt == Some(Receipt::Delivered)), "{last:?}");
        }
    }

    fn check_books(&self) {
        for (number, sent) in self.sides.iter().flat_map(|side| side.sent.iter().enumerate()) {
            let taken = match sent.receipt.unwrap_or_else(|| panic!("message {number} has no receipt")) {
                Receipt::Delivered => 1..=1,
                Receipt::Refused(_) | Receipt::PeerGone { may_have_been_delivered: false } => 0..=0,
                Receipt::PeerGone { may_have_been_delivered: true } => 0..=1,
            };
            assert!(taken.contains(&sent.taken), "message {number}: {sent:?}");
        }
    }
}

/// How often each receipt was given.
fn run(seed: u64) -> BTreeMap<String, u64> {
    let mut world = World::new(seed);
    (0..2).for_each(|side| world.relink(side));
    for (name, priority) in PRIORITIES.into_iter().enumerate() {
        let window = 1 + world.dice.roll(4) as u16;
        world.sides.iter_mut().for_each(|side| side.open(name, priority, window));
    }
    for _ in 0..100 + world.dice.roll(600) {
        world.step(true);
    }
    world.ends_well();
    world.check_books();
    let mut counts = BTreeMap::new();
    for sent in world.sides.iter().flat_map(|side| &side.sent) {
        *counts.entry(format!("{:?}", sent.receipt)).or_default() += 1;
    }
    counts
}

#[test]
fn every_message_has_one_true_receipt_for_any_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("ISFC_SOCKET_SIM_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let seeds =
        number("ISFC_SOCKET_SIM_SEEDS").unwrap_or(if cfg!(debug_assertions) { 2_000 } else { 20_000 });
    let first = number("ISFC_SOCKET_SIM_FIRST").unwrap_or(0);
    let mut counts = BTreeMap::<String, u64>::new();
    for seed in first..first + seeds {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(more) => {
                more.into_iter().for_each(|(receipt, count)| *counts.entry(receipt).or_default() += count)
            }
            Err(cause) => {
                println!(
                    "replay: ISFC_SOCKET_SIM_SEED={seed} cargo test --release -p isfc --test sim_socket"
                );
                std::panic::resume_unwind(cause);
            }
        }
    }
    // A simulation that never gets to the interesting places shows nothing.
    assert!(seeds < 100 || counts.len() == 6, "{counts:?}");
    println!("{seeds} seeds from {first}: {counts:?}");
}
