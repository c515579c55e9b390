//! Notes about devices that go down and come back: enough to see what happens, and never a flood.

use std::time::{Duration, Instant};

use isfc::DownReason;

/// Notes that may come at once: each device of a link once.
const AT_ONCE_MAX: u32 = 16;
/// After those, one each so often.
const EVERY: Duration = Duration::from_secs(5);

/// Decides which notes are told.
#[derive(Debug)]
pub(super) struct DeviceNotes {
    left: u32,
    refilled: Instant,
    held_back: u32,
}

impl DeviceNotes {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: AT_ONCE_MAX, refilled: now, held_back: 0 }
    }

    /// A device went down.
    pub(super) fn down(&mut self, device: u8, why: &DownReason, now: Instant) -> Option<String> {
        self.told(format!("device {device} is down: {why}"), now)
    }

    /// A device came back.
    pub(super) fn up(&mut self, device: u8, now: Instant) -> Option<String> {
        self.told(format!("device {device} is up again"), now)
    }

    /// What was held back, at the end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let count = std::mem::take(&mut self.held_back);
        (count > 0).then(|| format!("devices went down or came back {count} times more"))
    }

    fn told(&mut self, text: String, now: Instant) -> Option<String> {
        let due = (now.saturating_duration_since(self.refilled).as_millis() / EVERY.as_millis()) as u32;
        if due > 0 {
            self.left = self.left.saturating_add(due).min(AT_ONCE_MAX);
            self.refilled = now;
        }
        if self.left == 0 {
            self.held_back += 1;
            return None;
        }
        self.left -= 1;
        Some(match std::mem::take(&mut self.held_back) {
            0 => text,
            count => format!("{text} (devices went down or came back {count} times since the note before)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_flaps_for_ten_minutes_is_told_in_few_notes_that_count_the_rest() {
        let began = Instant::now();
        let mut notes = DeviceNotes::new(began);
        let mut told = Vec::new();
        for tenth in 0..6000 {
            let now = began + Duration::from_millis(tenth * 100);
            told.extend(notes.down(3, &DownReason::Closed, now));
            told.extend(notes.up(3, now));
        }
        told.extend(notes.rest());
        assert!((100..=140).contains(&told.len()), "{}", told.len());
        assert!(told[..16].iter().all(|text| !text.contains("times")));
        let counted: u32 = told
            .iter()
            .filter_map(|text| text.split_once("came back ")?.1.split(' ').next()?.parse::<u32>().ok())
            .sum();
        assert_eq!(counted as usize + told.iter().filter(|text| text.contains("device 3")).count(), 12_000);
    }
}
