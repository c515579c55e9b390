//! Shows a relocation while it goes on: a bar, plain lines, or JSON lines for programs.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lgr_engine::event::{Event, Observer};
use lgr_engine::report::table::{size, time};

use crate::options::ProgressArg;

/// The observer that `how` asks for.
pub(crate) fn observer(how: ProgressArg) -> Box<dyn Observer> {
    let terminal = std::io::stderr().is_terminal();
    match how {
        ProgressArg::Auto if terminal => Box::new(Bar::new()),
        ProgressArg::Bar => Box::new(Bar::new()),
        ProgressArg::Auto | ProgressArg::Plain => Box::new(Plain::default()),
        ProgressArg::Json => Box::new(Json),
        ProgressArg::None => Box::new(lgr_engine::event::Silent),
    }
}

/// Prints to standard output; a reader that went away is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints a line to standard error; a reader that went away is no error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// One JSON object per line on standard output.
struct Json;

impl Observer for Json {
    fn event(&self, event: Event) {
        if let Ok(mut line) = serde_json::to_string(&event) {
            line.push('\n');
            print(&line);
            let _ = std::io::stdout().flush();
        }
    }
}

/// The line that an event is worth; most progress is worth none.
fn line_of(event: &Event) -> Option<String> {
    Some(match event {
        Event::Listening { address } => format!("listening on {address}"),
        Event::Connected { peer, queues, medium, engine, tls } => {
            let tls = tls.as_ref().map(|tls| format!(", {tls}")).unwrap_or_default();
            format!("linked with {peer}: {queues} queues over {medium}, {engine}{tls}")
        }
        Event::PassDone { number, kind, pages, ms } => {
            let bytes = size(pages * guest_mem::PAGE_SIZE as u64);
            format!("pass {number} ({}): {bytes} in {}", kind.name(), time(*ms))
        }
        Event::Predicted { number, left_bytes, quiesce_ms, limit_ms } => {
            let too_long = limit_ms.is_some_and(|limit_ms| *quiesce_ms > limit_ms);
            // After the first pass always; later only while it is bad news.
            if *number > 1 && !too_long {
                return None;
            }
            let limit = limit_ms.map(|ms| format!(", limit {}", time(ms))).unwrap_or_default();
            format!("pass {number} left {}; predicted stop {}{limit}", size(*left_bytes), time(*quiesce_ms))
        }
        Event::Quiesced => "guest stopped".to_owned(),
        Event::Running { side } => format!("guest runs on the {}", side.name()),
        Event::Note { text } => format!("note: {text}"),
        Event::Preparing { .. }
        | Event::PassStarted { .. }
        | Event::PassProgress { .. }
        | Event::Verifying { .. }
        | Event::Finished { .. } => return None,
    })
}

/// What goes on now, as (title, done, total).
fn state_of(event: &Event) -> Option<(String, u64, u64)> {
    Some(match event {
        Event::Preparing { side, what, done_bytes, total_bytes } => {
            (format!("{}: {what}", side.name()), *done_bytes, *total_bytes)
        }
        Event::PassProgress { number, done_bytes, total_bytes } => {
            (format!("pass {number}"), *done_bytes, *total_bytes)
        }
        Event::Verifying { done_pages, total_pages } => {
            let page = guest_mem::PAGE_SIZE as u64;
            ("verifying".to_owned(), done_pages * page, total_pages * page)
        }
        _ => return None,
    })
}

/// Plain lines on standard error; long steps at most once every two seconds.
#[derive(Default)]
struct Plain {
    last: Mutex<Option<Instant>>,
}

impl Observer for Plain {
    fn event(&self, event: Event) {
        if let Some(line) = line_of(&event) {
            complain(&line);
            return;
        }
        let Some((title, done, total)) = state_of(&event) else { return };
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.get_or_insert_with(Instant::now).elapsed() >= Duration::from_secs(2) {
            *last = Some(Instant::now());
            complain(&format!("{title}: {} of {}", size(done), size(total)));
        }
    }
}

/// A progress bar on standard error.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template =
            "{msg:32} [{bar:32}] {binary_bytes:>11} of {binary_total_bytes:11} {binary_bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }
}

impl Observer for Bar {
    fn event(&self, event: Event) {
        if let Some(line) = line_of(&event) {
            self.0.suspend(|| complain(&line));
        }
        if let Some((title, done, total)) = state_of(&event) {
            self.0.set_message(title);
            self.0.set_length(total);
            self.0.set_position(done.min(total));
        }
        if matches!(event, Event::Finished { .. }) {
            self.0.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_would_be_too_long_is_foretold_after_each_pass_and_one_that_would_not_after_the_first() {
        let told = |number, quiesce_ms, limit_ms| {
            line_of(&Event::Predicted { number, left_bytes: 45 << 20, quiesce_ms, limit_ms })
        };
        let line = "pass 1 left 45.0 MiB; predicted stop 12.3 s, limit 10.0 s";
        assert_eq!(told(1, 12_300.0, Some(10_000.0)).as_deref(), Some(line));
        assert_eq!(told(1, 2.5, None).as_deref(), Some("pass 1 left 45.0 MiB; predicted stop 2.50 ms"));
        assert!(told(2, 12_300.0, Some(10_000.0)).is_some());
        assert_eq!((told(2, 9_000.0, Some(10_000.0)), told(2, 12_300.0, None)), (None, None));
    }
}
