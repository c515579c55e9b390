//! From logical lines to entries.

use super::minidisk::Minidisk;
use super::statement::{self, Statement};
use super::{Entry, Kind, Line, UserDirect};
use crate::name::UserId;
use crate::source::{self, Diagnostic, Diagnostics, Limits, Logical, Source, Spelling, Word, Words};

/// The statement that begins an entry.
const ENTRIES: [(Spelling, Kind); 5] = [
    (Spelling("GLOBALDefs"), Kind::GlobalDefs),
    (Spelling("PROFILE"), Kind::Profile),
    (Spelling("User"), Kind::User),
    (Spelling("IDENTity"), Kind::Identity),
    (Spelling("SUBCONFig"), Kind::Subconfig),
];

type Parse = fn(&mut Words<'_>) -> Result<Statement, Diagnostic>;

/// Statements that are understood.
const UNDERSTOOD: [(Spelling, Parse); 8] = [
    (Spelling("INclude"), |words| {
        let profile = words.value("a profile's name")?;
        words.finish("the end of the statement").map(|()| Statement::Include(profile))
    }),
    (Spelling("BUILD"), statement::build),
    (Spelling("CLass"), |words| {
        let classes = words.value("privilege classes")?;
        words.finish("the end of the statement").map(|()| Statement::Class(classes))
    }),
    (Spelling("LOGONBY"), |words| statement::users(words).map(Statement::LogonBy)),
    (Spelling("AUTOlog"), |words| statement::users(words).map(Statement::Autolog)),
    (Spelling("MDisk"), |words| Minidisk::parse(words).map(Statement::Minidisk)),
    (Spelling("Link"), statement::link),
    (Spelling("VMRELOcate"), statement::vmrelocate),
];

/// Statements that define a virtual device, whose number comes first.
const DEVICES: [(Spelling, &str); 5] = [
    (Spelling("CONsole"), "CONSOLE"),
    (Spelling("DEDicate"), "DEDICATE"),
    (Spelling("NICDEF"), "NICDEF"),
    (Spelling("SPEcial"), "SPECIAL"),
    (Spelling("SPOol"), "SPOOL"),
];

/// Statements that CP knows and that are kept as they are.
const KEPT: [(Spelling, &str); 43] = [
    (Spelling("ACCount"), "ACCOUNT"),
    (Spelling("ACIgroup"), "ACIGROUP"),
    (Spelling("ADJunct"), "ADJUNCT"),
    (Spelling("APPCpass"), "APPCPASS"),
    (Spelling("COMMAND"), "COMMAND"),
    (Spelling("CPU"), "CPU"),
    (Spelling("CRYpto"), "CRYPTO"),
    (Spelling("D8ONECMD"), "D8ONECMD"),
    (Spelling("DASDOPT"), "DASDOPT"),
    (Spelling("DATEFormat"), "DATEFORMAT"),
    (Spelling("GLOBALOPts"), "GLOBALOPTS"),
    (Spelling("IOPriority"), "IOPRIORITY"),
    (Spelling("IPl"), "IPL"),
    (Spelling("IUCV"), "IUCV"),
    (Spelling("LOADdev"), "LOADDEV"),
    (Spelling("DUMPDEV"), "DUMPDEV"),
    (Spelling("MACHine"), "MACHINE"),
    (Spelling("MAXSTORage"), "MAXSTORAGE"),
    (Spelling("MINIOPT"), "MINIOPT"),
    (Spelling("NAMesave"), "NAMESAVE"),
    (Spelling("NOPData"), "NOPDATA"),
    (Spelling("OPtion"), "OPTION"),
    (Spelling("POOL"), "POOL"),
    (Spelling("POSIXFSroot"), "POSIXFSROOT"),
    (Spelling("POSIXGROUP"), "POSIXGROUP"),
    (Spelling("POSIXGList"), "POSIXGLIST"),
    (Spelling("POSIXINFO"), "POSIXINFO"),
    (Spelling("POSIXIUpgm"), "POSIXIUPGM"),
    (Spelling("POSIXIWdir"), "POSIXIWDIR"),
    (Spelling("POSIXOPT"), "POSIXOPT"),
    (Spelling("SCReen"), "SCREEN"),
    (Spelling("SECLabel"), "SECLABEL"),
    (Spelling("SHAre"), "SHARE"),
    (Spelling("SPOOLFile"), "SPOOLFILE"),
    (Spelling("STDEVopt"), "STDEVOPT"),
    (Spelling("STDEXit"), "STDEXIT"),
    (Spelling("STORage"), "STORAGE"),
    (Spelling("SUBPOOL"), "SUBPOOL"),
    (Spelling("SYSAFFin"), "SYSAFFIN"),
    (Spelling("XAUTOLOG"), "XAUTOLOG"),
    (Spelling("XCONfig"), "XCONFIG"),
    (Spelling("XSTORE"), "XSTORE"),
    (Spelling("LOAD"), "LOAD"),
];

pub(super) fn directory(source: &Source, diagnostics: &mut Diagnostics) -> UserDirect {
    let mut directory = UserDirect::default();
    // What follows an entry that cannot be read is read, and not kept.
    let mut is_lost = false;
    for logical in source::cards(source, Limits::DIRECTORY, diagnostics) {
        if let Err(diagnostic) = line(logical, &mut directory, &mut is_lost) {
            diagnostics.push(diagnostic);
        }
    }
    directory
}

fn line(logical: Logical, directory: &mut UserDirect, is_lost: &mut bool) -> Result<(), Diagnostic> {
    let first = &logical.words[0];
    if let Some((_, kind)) = ENTRIES.iter().find(|(spelling, _)| first.is(*spelling)) {
        let entry = entry(*kind, &logical);
        *is_lost = entry.is_err();
        directory.entries.push(entry?);
        return Ok(());
    }
    if first.is(Spelling("DIRECTory")) {
        let mut words = Words::new(&logical);
        words.next();
        let operands = words.rest().iter().map(|word| word.text.to_ascii_uppercase()).collect();
        let statement = Statement::Words("DIRECTORY", operands);
        if !directory.entries.is_empty() {
            return Err(Diagnostic::error(first.span, "a DIRECTORY statement after an entry")
                .expecting("it before all entries"));
        }
        directory.directory.push(Line { statement, logical });
        return Ok(());
    }
    let statement = statement(first, &logical)?;
    match directory.entries.last_mut() {
        Some(entry) if !*is_lost => entry.lines.push(Line { statement, logical }),
        Some(_) => {}
        None => {
            let message = format!("a {} statement outside of any entry", first.text.to_ascii_uppercase());
            return Err(Diagnostic::error(first.span, message)
                .expecting("USER, IDENTITY, PROFILE or SUBCONFIG before it"));
        }
    }
    Ok(())
}

fn entry(kind: Kind, logical: &Logical) -> Result<Entry, Diagnostic> {
    let mut words = Words::new(logical);
    words.next();
    let name = match kind {
        Kind::GlobalDefs => UserId::new("GLOBALS").expect("this is a name"),
        _ => words.value("the entry's name")?,
    };
    let header = match kind {
        Kind::User | Kind::Identity => Some(statement::header(&mut words)?),
        Kind::GlobalDefs | Kind::Profile | Kind::Subconfig => {
            words.finish("the end of the statement")?;
            None
        }
    };
    Ok(Entry { kind, name, header, lines: Vec::new(), logical: logical.clone() })
}

fn statement(first: &Word, logical: &Logical) -> Result<Statement, Diagnostic> {
    let mut words = Words::new(logical);
    words.next();
    if let Some((_, parse)) = UNDERSTOOD.iter().find(|(spelling, _)| first.is(*spelling)) {
        return parse(&mut words);
    }
    if let Some((_, name)) = DEVICES.iter().find(|(spelling, _)| first.is(*spelling)) {
        let vdev = words.value("a virtual device number")?;
        return Ok(Statement::Device(name, vdev, statement::rest(&mut words)));
    }
    if let Some((_, name)) = KEPT.iter().find(|(spelling, _)| first.is(*spelling)) {
        return Ok(Statement::Words(name, statement::rest(&mut words)));
    }
    let message = format!("'{}' is no statement of a directory", first.text);
    Err(Diagnostic::error(first.span, message).expecting("a statement"))
}
