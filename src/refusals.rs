//! Callers that were turned away, told in few lines: a peer with a mistake calls once for each device of its link, and
//! a port scanner as often as it likes.

use std::time::{Duration, Instant};

/// So long a line is not said again.
const WINDOW: Duration = Duration::from_secs(2);
/// Most lines in a window.
const LINES_MAX: usize = 16;

/// What has been said of refused callers, and what has not.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    since: Option<Instant>,
    said: Vec<String>,
    unsaid: u64,
}

impl Refusals {
    /// A caller was turned away; `text` is where it called from, and why. Gives what is to be said now.
    pub(crate) fn hear(&mut self, text: &str, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            lines.extend(self.rest());
            self.said.clear();
            self.since = Some(now);
        }
        let line = without_port(text);
        if self.said.len() < LINES_MAX && !self.said.contains(&line) {
            self.said.push(line);
            lines.push(format!("caller refused: {text}"));
        } else {
            self.unsaid += 1;
        }
        lines
    }

    /// How many have not been told of, once.
    pub(crate) fn rest(&mut self) -> Option<String> {
        match std::mem::take(&mut self.unsaid) {
            0 => None,
            1 => Some("1 more call refused".to_owned()),
            more => Some(format!("{more} more calls refused")),
        }
    }
}

/// `HOST:PORT: why` without the port, which is another one for each call.
fn without_port(text: &str) -> String {
    let (peer, why) = text.split_once(": ").unwrap_or(("", text));
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
    format!("{host}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixteen_calls_of_one_link_are_one_line_and_a_count() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let said: Vec<String> =
            (0..16).flat_map(|port| refusals.hear(&format!("[::1]:{port}: no hello"), now)).collect();
        assert_eq!(said, ["caller refused: [::1]:0: no hello"]);
        assert_eq!(refusals.rest().as_deref(), Some("15 more calls refused"));
        assert_eq!(refusals.rest(), None);
    }

    #[test]
    fn another_host_and_another_reason_are_said() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for text in
            ["10.0.0.1:1: no hello", "10.0.0.2:1: no hello", "10.0.0.1:2: busy", "a local caller: busy"]
        {
            assert_eq!(refusals.hear(text, now), [format!("caller refused: {text}")]);
        }
    }

    #[test]
    fn who_tries_again_later_is_told_again() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        refusals.hear("10.0.0.1:1: busy", now);
        refusals.hear("10.0.0.1:2: busy", now);
        let later = refusals.hear("10.0.0.1:3: busy", now + WINDOW);
        assert_eq!(later, ["1 more call refused", "caller refused: 10.0.0.1:3: busy"]);
    }

    #[test]
    fn garbage_that_is_never_the_same_fills_no_log() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let lines: usize =
            (0..1000).map(|byte| refusals.hear(&format!("10.0.0.1:1: not a hello: {byte}"), now).len()).sum();
        assert_eq!(lines, LINES_MAX);
        assert_eq!(refusals.rest().as_deref(), Some("984 more calls refused"));
    }
}
