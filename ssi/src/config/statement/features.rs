//! `FEATURES [ENABLE feature...] [DISABLE feature...] [setting value]...`: switches of the system.

use serde::Serialize;

use crate::source::{Diagnostic, Layout, Spelling, Words};

/// Features that are enabled or disabled by name.
const SWITCHES: &[Spelling] = &[
    Spelling("AUTO_IPL"),
    Spelling("AUTO_IPL_AFTER_RESTART"),
    Spelling("AUTO_IPL_AFTER_SHUTDOWN_REIPL"),
    Spelling("AUTO_WARM_IPL"),
    Spelling("CLEAR_TDisk"),
    Spelling("CPCHECKING"),
    Spelling("CRYPTO_APVIRT"),
    Spelling("CRYPTO_TEST"),
    Spelling("DYNAMIC_IO"),
    Spelling("HYPERPAV"),
    Spelling("IPL_MESSAGES"),
    Spelling("LOGMSG_FROM_FILE"),
    Spelling("NEW_DEVICES_INITIALIZED_WHEN_ADDED"),
    Spelling("PAGING_ALIAS"),
    Spelling("PAGING_HPF"),
    Spelling("PROMPT"),
    Spelling("PROMPT_AFTER_RESTART"),
    Spelling("PROMPT_AFTER_SHUTDOWN_REIPL"),
    Spelling("SECURE_IPL"),
    Spelling("SET_DEVICES"),
    Spelling("SET_DYNAMIC_IO"),
    Spelling("SET_PRIVCLASS"),
    Spelling("STP_TIMESTAMPING"),
    Spelling("STP_TIMEZONE"),
    Spelling("STP_TZ"),
    Spelling("THROTTLE_ALL"),
    Spelling("UNRESPONSIVE_PROCESSOR_DETECTION"),
    Spelling("VALIDATE_SHUTDOWN"),
    Spelling("VDISK_FORMAT"),
    Spelling("XRC_OPTIONAL"),
    Spelling("XRC_TEST"),
];

/// Settings with a value, by section and key.
const SETTINGS: &[(Spelling, &[Spelling])] = &[
    (Spelling("MAXUSers"), &[]),
    (Spelling("RETRIEVE"), &[Spelling("DEFault"), Spelling("MAXimum")]),
    (Spelling("PASSWORDS_on_CMDs"), &[Spelling("AUTOLOG"), Spelling("LINK"), Spelling("LOGON")]),
    (Spelling("VDISK"), &[Spelling("SYSLIM"), Spelling("USERLIM")]),
    (Spelling("SIGNAL"), &[Spelling("SHUTDOWNTIME")]),
    (Spelling("SHUTDOWNTIME"), &[]),
    (Spelling("SIGNALTIMEOUT"), &[]),
];

/// A value that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// E.g. `PASSWORDS_ON_CMDS`.
    pub section: String,
    /// E.g. `LINK`; none for sections of one value.
    pub key: Option<String>,
    /// In capitals: a number, perhaps with its unit behind it, or a word such as `NO`, `NOLIMIT`, `INFINITE`.
    pub value: String,
}

/// A FEATURES statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Switched on.
    pub enabled: Vec<String>,
    /// Switched off.
    pub disabled: Vec<String>,
    /// Set to a value.
    pub settings: Vec<Setting>,
}

impl Features {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let mut statement = Self::default();
        if words.is_empty() {
            words.expect("ENABLE, DISABLE or a setting")?;
        }
        while !words.is_empty() {
            if words.accept(Spelling("ENAble")) {
                switches(words, &mut statement.enabled)?;
            } else if words.accept(Spelling("DISAble")) {
                switches(words, &mut statement.disabled)?;
            } else {
                settings(words, &mut statement.settings)?;
            }
        }
        Ok(statement)
    }

    pub(crate) fn layout(&self) -> Layout {
        let mut layout = Layout::new().word("FEATURES");
        for (name, switches) in [("DISABLE", &self.disabled), ("ENABLE", &self.enabled)] {
            layout = layout.flag(name, !switches.is_empty()).words(switches);
        }
        for setting in &self.settings {
            layout = layout.word(&setting.section);
            layout = layout.words(&setting.key).words(setting.value.split(' '));
        }
        layout
    }
}

fn switches(words: &mut Words<'_>, named: &mut Vec<String>) -> Result<(), Diagnostic> {
    let known = |words: &Words<'_>| {
        let word = words.peek()?;
        SWITCHES.iter().find(|switch| word.is(**switch)).copied()
    };
    if known(words).is_none() {
        let word = words.expect("the name of a feature")?;
        return Err(Diagnostic::error(word.span, format!("no feature is called '{}'", word.text))
            .expecting("a feature, e.g. AUTO_WARM_IPL or CLEAR_TDISK"));
    }
    while let Some(switch) = known(words) {
        words.next();
        named.push(switch.full());
    }
    Ok(())
}

fn settings(words: &mut Words<'_>, settings: &mut Vec<Setting>) -> Result<(), Diagnostic> {
    let Some((section, keys)) =
        words.peek().and_then(|word| SETTINGS.iter().find(|(section, _)| word.is(*section)))
    else {
        return words.finish("ENABLE, DISABLE, a feature or a setting");
    };
    words.next();
    if keys.is_empty() {
        settings.push(Setting { section: section.full(), key: None, value: value(words)? });
        return Ok(());
    }
    let known = |words: &Words<'_>| keys.iter().find(|key| words.peek().is_some_and(|word| word.is(**key)));
    if known(words).is_none() {
        let choices: Vec<_> = keys.iter().map(|key| (*key, ())).collect();
        words.one_of(&choices)?;
    }
    while let Some(key) = known(words) {
        words.next();
        settings.push(Setting { section: section.full(), key: Some(key.full()), value: value(words)? });
    }
    Ok(())
}

/// A number, with its unit if it has one, or a word.
fn value(words: &mut Words<'_>) -> Result<String, Diagnostic> {
    const WORDS: &[Spelling] =
        &[Spelling("YES"), Spelling("NO"), Spelling("NOLIMit"), Spelling("INFinite"), Spelling("SKIP")];
    const UNITS: &[Spelling] = &[Spelling("BLOcks"), Spelling("SEConds")];
    let word = words.expect("a value")?;
    if let Some(known) = WORDS.iter().find(|known| word.is(**known)) {
        return Ok(known.full());
    }
    if !(1..=12).contains(&word.text.len()) || !word.text.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("'{}' is no value", word.text);
        return Err(Diagnostic::error(word.span, message).expecting("a number, YES, NO, NOLIMIT or INFINITE"));
    }
    let unit = UNITS.iter().find(|unit| words.accept(**unit));
    Ok(unit.map_or_else(|| word.text.clone(), |unit| format!("{} {unit}", word.text)))
}
