//! The names of all statements, with their shortest abbreviations. One table for those that are understood, one for
//! those that z/VM has and that are kept without being understood.

use crate::source::{Spelling, Word};

/// A statement that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    ActivateIslink,
    CpOwned,
    DefineVswitch,
    Equate,
    Features,
    IslinkEndpoint,
    ModifyVswitch,
    OperatorConsoles,
    Product,
    Rdevice,
    RelocationDomain,
    Ssi,
    SystemIdentifier,
    SystemIdentifierDefault,
    SystemResidence,
    UserVolumeExclude,
    UserVolumeInclude,
    UserVolumeList,
    Vmlan,
}

/// Statements that are understood. ISLINK_ENDPOINT is not one of z/VM's.
pub(super) const UNDERSTOOD: &[(&[Spelling], Name)] = &[
    (&[Spelling("ACTivate"), Spelling("ISLINK")], Name::ActivateIslink),
    (&[Spelling("CP_OWNed")], Name::CpOwned),
    (&[Spelling("DEFine"), Spelling("VSWITCH")], Name::DefineVswitch),
    (&[Spelling("EQUate")], Name::Equate),
    (&[Spelling("FEATures")], Name::Features),
    (&[Spelling("ISLINK_ENDpoint")], Name::IslinkEndpoint),
    (&[Spelling("MODify"), Spelling("VSWITCH")], Name::ModifyVswitch),
    (&[Spelling("OPERator_CONSoles")], Name::OperatorConsoles),
    (&[Spelling("PRODuct")], Name::Product),
    (&[Spelling("RDEVice")], Name::Rdevice),
    (&[Spelling("RELOCation_DOMain")], Name::RelocationDomain),
    (&[Spelling("SSI")], Name::Ssi),
    (&[Spelling("SYSTEM_IDentifier")], Name::SystemIdentifier),
    (&[Spelling("SYSTEM_IDentifier_DEFault")], Name::SystemIdentifierDefault),
    (&[Spelling("SYSTEM_RESidence")], Name::SystemResidence),
    (&[Spelling("USER_VOLume_EXClude")], Name::UserVolumeExclude),
    (&[Spelling("USER_VOLume_INClude")], Name::UserVolumeInclude),
    (&[Spelling("USER_VOLume_List")], Name::UserVolumeList),
    (&[Spelling("VMLAN")], Name::Vmlan),
];

/// Statements of z/VM that are kept as they are and have no effect here.
pub(super) const KEPT: &[&[Spelling]] = &[
    &[Spelling("ALTERNATe_OPERATORS")],
    &[Spelling("ASSOCiate"), Spelling("EXIT")],
    &[Spelling("ASSOCiate"), Spelling("MESSAGE")],
    &[Spelling("CHARacter_DEFaults")],
    &[Spelling("CP_ACCess")],
    &[Spelling("CP_ADDON_INITialize_ROUTINES")],
    &[Spelling("CPXLoad")],
    &[Spelling("CRYPTO")],
    &[Spelling("CU")],
    &[Spelling("DEFine"), Spelling("ALIAS")],
    &[Spelling("DEFine"), Spelling("CMD")],
    &[Spelling("DEFine"), Spelling("COMMAND")],
    &[Spelling("DEFine"), Spelling("DIAGnose")],
    &[Spelling("DEFine"), Spelling("LAN")],
    &[Spelling("DEVices")],
    &[Spelling("DISAble"), Spelling("CMD")],
    &[Spelling("DISAble"), Spelling("COMMAND")],
    &[Spelling("DISAble"), Spelling("DIAGnose")],
    &[Spelling("DISAble"), Spelling("EXITS")],
    &[Spelling("DISTRIBUTE")],
    &[Spelling("DRAIN")],
    &[Spelling("EDEVice")],
    &[Spelling("EMERGENCY_MESSAGE_CONSoles")],
    &[Spelling("ENAble"), Spelling("CMD")],
    &[Spelling("ENAble"), Spelling("COMMAND")],
    &[Spelling("ENAble"), Spelling("DIAGnose")],
    &[Spelling("ENAble"), Spelling("EXITS")],
    &[Spelling("ENFORCE_BY_VOLid")],
    &[Spelling("EXTERNAL_SYNTAX")],
    &[Spelling("FORM_DEFault")],
    &[Spelling("HOT_IO_RATE")],
    &[Spelling("IMBED")],
    &[Spelling("INIT_MITIME")],
    &[Spelling("IODF")],
    &[Spelling("JOURNALing")],
    &[Spelling("LOGO_CONFIG")],
    &[Spelling("MODify"), Spelling("CMD")],
    &[Spelling("MODify"), Spelling("COMMAND")],
    &[Spelling("MODify"), Spelling("DIAGnose")],
    &[Spelling("MODify"), Spelling("EXIT")],
    &[Spelling("MODify"), Spelling("LAN")],
    &[Spelling("MODify"), Spelling("PORT")],
    &[Spelling("MODify"), Spelling("PRIV_CLASSES")],
    &[Spelling("MULTITHReading")],
    &[Spelling("PAGING")],
    &[Spelling("PRINTER_TITLE")],
    &[Spelling("PRIV_CLASSES")],
    &[Spelling("SAY")],
    &[Spelling("SET"), Spelling("PORT")],
    &[Spelling("SET"), Spelling("VARiable")],
    &[Spelling("SRM")],
    &[Spelling("START")],
    &[Spelling("STORage")],
    &[Spelling("SYSTEM_3270")],
    &[Spelling("SYSTEM_ALIAS")],
    &[Spelling("SYSTEM_DATEFORMAT")],
    &[Spelling("SYSTEM_USERIDS")],
    &[Spelling("THROTTLE")],
    &[Spelling("TIMEZONE_BOUNDARY")],
    &[Spelling("TIMEZONE_DEFinition")],
    &[Spelling("TOLERATE_CONFIG_ERRORS")],
    &[Spelling("TRANSLATE_TABLE")],
    &[Spelling("USER_DEFaults")],
    &[Spelling("USER_VOLume_RDEV")],
    &[Spelling("USERFORM")],
    &[Spelling("XLINK_DEVICE_DEFAULTS")],
    &[Spelling("XLINK_SYSTEM_EXCLude")],
    &[Spelling("XLINK_SYSTEM_INCLude")],
    &[Spelling("XLINK_VOLUME_EXCLude")],
    &[Spelling("XLINK_VOLUME_INCLude")],
    &[Spelling("XSPOOL_SYSTEM")],
    &[Spelling("XSPOOL_TRACE")],
    &[Spelling("XSPOOL_XLIST_INPUT")],
    &[Spelling("XSPOOL_XLIST_OUTPUT")],
];

/// Whether a statement of these words has this name.
pub(super) fn is_named(name: &[Spelling], words: &[Word]) -> bool {
    words.len() >= name.len() && name.iter().zip(words).all(|(spelling, word)| word.is(*spelling))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortest(spelling: Spelling) -> String {
        spelling.0.chars().filter(|letter| !letter.is_ascii_lowercase()).collect()
    }

    #[test]
    fn the_document_explains_every_statement_that_is_understood() {
        let text = include_str!("../../../docs/configuration.md");
        for (name, _) in UNDERSTOOD {
            let spelled = name.iter().map(|part| part.0).collect::<Vec<_>>().join(" ");
            assert!(text.contains(&format!("`{spelled} ")), "{spelled}");
        }
    }

    #[test]
    fn no_abbreviation_stands_for_two_statements() {
        let names: Vec<&[Spelling]> =
            UNDERSTOOD.iter().map(|(name, _)| *name).chain(KEPT.iter().copied()).collect();
        for name in &names {
            for spell in [shortest, |spelling: Spelling| spelling.full()] {
                let words: Vec<Word> = name
                    .iter()
                    .map(|part| Word { text: spell(*part), is_quoted: false, span: Default::default() })
                    .collect();
                let meanings =
                    names.iter().filter(|other| other.len() == name.len() && is_named(other, &words));
                assert_eq!(meanings.count(), 1, "{words:?}");
            }
        }
    }
}
