//! `OPERATOR_CONSOLES {rdev | SYSTEM_3270 | SYSTEM_CONSOLE}...`: where the operator may sit.

use serde::Serialize;

use crate::source::{DeviceNumber, Diagnostic, Layout, Spelling, Words};

/// A place for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Console {
    /// A terminal.
    Device(DeviceNumber),
    /// The hardware console's 3270 window.
    System3270,
    /// The hardware console's line-mode window.
    SystemConsole,
}

/// An OPERATOR_CONSOLES statement. The first console that answers is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorConsoles {
    /// In the order in which they are tried.
    pub consoles: Vec<Console>,
}

impl OperatorConsoles {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let mut consoles = Vec::new();
        while consoles.is_empty() || !words.is_empty() {
            consoles.push(if words.accept(Spelling("SYSTEM_3270")) {
                Console::System3270
            } else if words.accept(Spelling("SYSTEM_CONSole")) {
                Console::SystemConsole
            } else {
                Console::Device(words.value("a device number, SYSTEM_3270 or SYSTEM_CONSOLE")?)
            });
        }
        Ok(Self { consoles })
    }

    pub(crate) fn layout(&self) -> Layout {
        self.consoles.iter().fold(Layout::new().word("OPERATOR_CONSOLES"), |layout, console| match console {
            Console::Device(device) => layout.word(device),
            Console::System3270 => layout.word("SYSTEM_3270"),
            Console::SystemConsole => layout.word("SYSTEM_CONSOLE"),
        })
    }
}
