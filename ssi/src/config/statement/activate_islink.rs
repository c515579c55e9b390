//! `ACTIVATE ISLINK rdev... [NODE nodeid] [BUFFERS n]`: devices of a logical link to another member.

use serde::Serialize;

use crate::SystemName;
use crate::source::{DeviceNumber, DeviceRange, Diagnostic, Layout, Spelling, Words};

/// Most devices of a logical link.
pub const DEVICES_MAX: usize = 16;

/// An ACTIVATE ISLINK statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActivateIslink {
    /// As written; each once.
    pub devices: Vec<DeviceNumber>,
    /// Who is expected at their other end.
    pub node: Option<SystemName>,
    /// Taken and not used, as z/VM does.
    pub buffers: Option<u32>,
}

impl ActivateIslink {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let mut devices = Vec::new();
        loop {
            device(words, &mut devices)?;
            let is_option =
                |word: &crate::source::Word| word.is(Spelling("NODe")) || word.is(Spelling("BUffers"));
            if words.peek().is_none_or(is_option) {
                break;
            }
        }
        let (mut node, mut buffers) = (None, None);
        while !words.is_empty() {
            if node.is_none() && words.accept(Spelling("NODe")) {
                node = Some(words.value("a member's name")?);
            } else if buffers.is_none() && words.accept(Spelling("BUffers")) {
                buffers = Some(words.number("a number of buffers", 0..=u64::from(u32::MAX))? as u32);
            } else {
                words.finish("NODE or BUFFERS, each once")?;
            }
        }
        Ok(Self { devices, node, buffers })
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("ACTIVATE").word("ISLINK").words(&self.devices);
        layout.option("NODE", self.node).option("BUFFERS", self.buffers)
    }
}

/// One device, or several as a range.
fn device(words: &mut Words<'_>, devices: &mut Vec<DeviceNumber>) -> Result<(), Diagnostic> {
    let range: DeviceRange = words.value("a device number")?;
    for number in range.first().0..=range.last().0 {
        let device = DeviceNumber(number);
        if devices.contains(&device) {
            let message = format!("link device {device} is a duplicate");
            return Err(Diagnostic::error(words.last(), message).expecting("each device once"));
        }
        if devices.len() == DEVICES_MAX {
            let message = format!("more than {DEVICES_MAX} devices");
            return Err(Diagnostic::error(words.last(), message).expecting("at most 16 on one logical link"));
        }
        devices.push(device);
    }
    Ok(())
}
