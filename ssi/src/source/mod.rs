//! What every file of statements shares: the text, its logical lines, and what is said about them.
//!
//! ```text
//! file ─▶ Source ─▶ logical lines ─▶ words ─▶ statements      (config, directory)
//!                        └──────────── spans ───────────▶ Diagnostic: file, line, caret, what was expected
//! ```
//!
//! Words keep where they stand in the file, so that whatever is wrong with a statement can be shown in place. A reader
//! goes on after an error: one run tells all that is wrong with a file.

mod cards;
mod device;
mod diagnostic;
mod layout;
mod records;
mod spelling;
mod text;
mod word;

pub use device::{DeviceNumber, DeviceNumberError, DeviceRange};
pub use diagnostic::{Diagnostic, Diagnostics, Finding, InFile, Severity};
pub use layout::Layout;
pub use spelling::Spelling;
pub use text::{Limits, Source, SourceError, Span};
pub use word::{Logical, Word, Words};

pub(crate) use cards::cards;
pub(crate) use records::records;
pub(crate) use word::unexpected;
