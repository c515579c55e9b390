//! For which members a statement is: `MEMBERA: statement`, or all between `MEMBERA: BEGIN` and `MEMBERA: END`.

use serde::Serialize;

use super::Pattern;
use crate::SystemName;

/// Names of members, of groups of members, or patterns of names. A statement inside a block may be qualified, too, and
/// then is for those members whom both name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// Of the block around the statement; empty outside of blocks.
    pub block: Vec<Pattern>,
    /// Of the statement itself; empty if it is not qualified.
    pub own: Vec<Pattern>,
}

impl Scope {
    /// A scope of one level: a block with one statement is the same as a qualified statement.
    pub(crate) fn new(block: Vec<Pattern>, own: Vec<Pattern>) -> Self {
        if own.is_empty() { Self { block: Vec::new(), own: block } } else { Self { block, own } }
    }

    /// Whether it is for all members.
    pub fn is_everyone(&self) -> bool {
        self.block.is_empty() && self.own.is_empty()
    }

    /// Whether it is for this member, who belongs to these groups.
    pub fn includes(&self, member: SystemName, groups: &[SystemName]) -> bool {
        let named = |patterns: &[Pattern]| {
            patterns.is_empty()
                || patterns.iter().any(|pattern| {
                    pattern.matches(member.as_str())
                        || groups.iter().any(|group| pattern.as_str() == group.as_str())
                })
        };
        named(&self.block) && named(&self.own)
    }

    /// All names and patterns in it.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.block.iter().chain(&self.own)
    }
}
