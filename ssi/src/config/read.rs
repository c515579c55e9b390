//! From logical lines to records: qualifiers and blocks come off, then the statement is read by its name.

use super::names::{self, Name};
use super::statement::{self as st, Statement};
use super::{Pattern, Record, Scope};
use crate::source::{self, Diagnostic, Diagnostics, Limits, Logical, Source, Span, Spelling, Word, Words};

/// Most names before one statement.
const QUALIFIERS_MAX: usize = 64;

/// A block that is open.
struct Block {
    patterns: Vec<Pattern>,
    begin: Span,
}

/// All statements of the file that can be read. What cannot is told.
pub(super) fn records(source: &Source, diagnostics: &mut Diagnostics) -> Vec<Record> {
    let mut records = Vec::new();
    let mut block: Option<Block> = None;
    for line in source::records(source, Limits::CONFIG, diagnostics) {
        match record(line, &mut block) {
            Ok(record) => records.extend(record),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    if let Some(block) = block {
        diagnostics.push(Diagnostic::error(block.begin, "the block is not closed").expecting("END"));
    }
    records
}

fn record(mut line: Logical, block: &mut Option<Block>) -> Result<Option<Record>, Diagnostic> {
    let own = qualifiers(&mut line)?;
    if is_bracket(&line, Spelling("BEGIN")) {
        return begin(&line, own, block).map(|()| None);
    }
    if is_bracket(&line, Spelling("END")) {
        return end(&line, &own, block).map(|()| None);
    }
    let around = block.as_ref().map(|block| block.patterns.clone()).unwrap_or_default();
    let statement = statement(&line)?;
    Ok(Some(Record { scope: Scope::new(around, own), statement, logical: line }))
}

fn is_bracket(line: &Logical, spelling: Spelling) -> bool {
    line.words.len() == 1 && line.words[0].is(spelling)
}

fn begin(line: &Logical, own: Vec<Pattern>, block: &mut Option<Block>) -> Result<(), Diagnostic> {
    if block.is_some() {
        return Err(Diagnostic::error(line.span, "a block inside a block").expecting("END of the first one"));
    }
    if own.is_empty() {
        return Err(
            Diagnostic::error(line.span, "a block for nobody").expecting("a member's name and a colon")
        );
    }
    *block = Some(Block { patterns: own, begin: line.span });
    Ok(())
}

fn end(line: &Logical, own: &[Pattern], block: &mut Option<Block>) -> Result<(), Diagnostic> {
    let Some(open) = block.take() else {
        return Err(Diagnostic::error(line.span, "no block is open here").expecting("a statement"));
    };
    if own.is_empty() || own == open.patterns {
        return Ok(());
    }
    let names = open.patterns.iter().map(|name| format!("{name}:")).collect::<Vec<_>>().join(" ");
    Err(Diagnostic::error(line.span, "this is not the block that is open").expecting(format!("{names} END")))
}

/// Takes `MEMBERA:` off the front, as many as there are.
fn qualifiers(line: &mut Logical) -> Result<Vec<Pattern>, Diagnostic> {
    let mut own = Vec::new();
    while let Some((name, rest)) = line.words.first().and_then(split_qualifier) {
        if own.len() == QUALIFIERS_MAX {
            return Err(
                Diagnostic::error(name.span, "too many qualifiers").expecting("a pattern or an EQUATE name")
            );
        }
        let pattern = name.text.parse::<Pattern>().map_err(|error| {
            Diagnostic::error(name.span, error.to_string()).expecting("a member's name before the colon")
        })?;
        own.push(pattern);
        match rest {
            Some(rest) => line.words[0] = rest,
            None => drop(line.words.remove(0)),
        }
    }
    let Some((first, last)) = line.words.first().zip(line.words.last()) else {
        return Err(Diagnostic::error(line.span, "a qualifier without a statement").expecting("a statement"));
    };
    line.span = first.span.to(last.span);
    Ok(own)
}

fn split_qualifier(word: &Word) -> Option<(Word, Option<Word>)> {
    let (name, rest) = word.text.split_once(':')?;
    if word.is_quoted {
        return None;
    }
    let part = |text: &str, offset: usize| Word {
        text: text.to_owned(),
        is_quoted: false,
        span: Span { start: word.span.start + offset, len: text.len() },
    };
    Some((part(name, 0), (!rest.is_empty()).then(|| part(rest, name.len() + 1))))
}

fn statement(line: &Logical) -> Result<Statement, Diagnostic> {
    if let Some((spelled, name)) =
        names::UNDERSTOOD.iter().find(|(name, _)| names::is_named(name, &line.words))
    {
        let mut words = Words::new(line);
        for _ in *spelled {
            words.next();
        }
        return understood(*name, &mut words);
    }
    if let Some(name) = names::KEPT.iter().find(|name| names::is_named(name, &line.words)) {
        return Ok(Statement::Kept(st::Kept::new(name, &line.words)));
    }
    let first = &line.words[0];
    let second = line.words.get(1);
    let is_start = |name: &&[Spelling]| name.len() > 1 && first.is(name[0]);
    let mut all = names::UNDERSTOOD.iter().map(|(name, _)| *name).chain(names::KEPT.iter().copied());
    let (word, expected) = match (all.any(|name| is_start(&name)), second) {
        (true, Some(second)) => (second.span, format!("what {} is for", first.text.to_ascii_uppercase())),
        _ => (first.span, "the name of a statement".to_owned()),
    };
    Err(Diagnostic::error(word, "no statement has this name").expecting(expected))
}

fn understood(name: Name, words: &mut Words<'_>) -> Result<Statement, Diagnostic> {
    let statement = match name {
        Name::ActivateIslink => Statement::ActivateIslink(st::ActivateIslink::parse(words)?),
        Name::CpOwned => Statement::CpOwned(st::CpOwned::parse(words)?),
        Name::DefineVswitch => Statement::DefineVswitch(st::DefineVswitch::parse(words)?),
        Name::Equate => Statement::Equate(st::Equate::parse(words)?),
        Name::Features => Statement::Features(st::Features::parse(words)?),
        Name::IslinkEndpoint => Statement::IslinkEndpoint(st::IslinkEndpoint::parse(words)?),
        Name::ModifyVswitch => Statement::ModifyVswitch(st::ModifyVswitch::parse(words)?),
        Name::OperatorConsoles => Statement::OperatorConsoles(st::OperatorConsoles::parse(words)?),
        Name::Product => Statement::Product(st::Product::parse(words)?),
        Name::Rdevice => Statement::Rdevice(st::Rdevice::parse(words)?),
        Name::RelocationDomain => Statement::RelocationDomain(st::RelocationDomain::parse(words)?),
        Name::Ssi => Statement::Ssi(st::Ssi::parse(words)?),
        Name::SystemIdentifier => Statement::SystemIdentifier(st::SystemIdentifier::parse(words)?),
        Name::SystemIdentifierDefault => {
            Statement::SystemIdentifierDefault(st::SystemIdentifierDefault::parse(words)?)
        }
        Name::SystemResidence => Statement::SystemResidence(st::SystemResidence::parse(words)?),
        Name::UserVolumeExclude => Statement::UserVolumeExclude(st::UserVolumePatterns::parse(words)?),
        Name::UserVolumeInclude => Statement::UserVolumeInclude(st::UserVolumePatterns::parse(words)?),
        Name::UserVolumeList => Statement::UserVolumeList(st::UserVolumeList::parse(words)?),
        Name::Vmlan => Statement::Vmlan(st::Vmlan::parse(words)?),
    };
    words.finish("the end of the statement")?;
    Ok(statement)
}
