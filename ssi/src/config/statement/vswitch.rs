//! `DEFINE VSWITCH name ...` and `MODIFY VSWITCH name ...`: a virtual switch, and who may plug into it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::{VlanId, VlanUse};
use crate::UserId;
use crate::source::{DeviceNumber, Diagnostic, Layout, Spelling, Word, Words};

/// Most uplink devices of a switch: one in use, two to take over.
const UPLINKS_MAX: usize = 3;

/// Operands that are known by name, with how many words follow each. They are kept and have no effect here.
const DEFINE_OTHER: &[(Spelling, usize)] = &[
    (Spelling("LOCal"), 0),
    (Spelling("GLOBal"), 0),
    (Spelling("TYPE"), 1),
    (Spelling("CONnect"), 0),
    (Spelling("DISCONnect"), 0),
    (Spelling("NOUPLINK"), 0),
    (Spelling("CONTRoller"), 1),
    (Spelling("QUEuestorage"), 1),
    (Spelling("IPTimeout"), 1),
    (Spelling("NONrouter"), 0),
    (Spelling("PRIrouter"), 0),
    (Spelling("NATive"), 1),
    (Spelling("GVRP"), 0),
    (Spelling("NOGVRP"), 0),
    (Spelling("GROup"), 1),
    (Spelling("PORTBASED"), 0),
    (Spelling("USERBASED"), 0),
    (Spelling("ISOLation"), 1),
    (Spelling("VEPA"), 1),
    (Spelling("MACPROTect"), 1),
    (Spelling("UPLINK"), 2),
    (Spelling("BRIDGEport"), 2),
];

/// The same of MODIFY VSWITCH.
const MODIFY_OTHER: &[(Spelling, usize)] = &[
    (Spelling("ISOLation"), 1),
    (Spelling("VEPA"), 1),
    (Spelling("MACPROTect"), 1),
    (Spelling("QUEuestorage"), 1),
    (Spelling("IPTimeout"), 1),
    (Spelling("PORTNUMber"), 1),
    (Spelling("USERid"), 1),
    (Spelling("VLANID"), 1),
    (Spelling("CONTRoller"), 1),
    (Spelling("ADD"), 0),
    (Spelling("DELete"), 0),
];

/// Not 1 to 8 letters, digits or one of @ # $ _.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no switch's name: 1 to 8 of letters, digits, @, #, $ and _")]
pub struct VswitchNameError(String);

/// Name of a virtual switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct VswitchName(String);

impl VswitchName {
    /// In capitals.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VswitchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VswitchName {
    type Err = VswitchNameError;

    fn from_str(text: &str) -> Result<Self, VswitchNameError> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"@#$_".contains(&byte);
        if (1..=8).contains(&text.len()) && text.bytes().all(is_letter) {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err(VswitchNameError(text.to_owned()))
        }
    }
}

/// An uplink device, with the port of its adapter if it has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Uplink {
    /// The real device.
    pub device: DeviceNumber,
    /// Port of the adapter.
    pub port: u8,
}

impl fmt::Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.device)?;
        if self.port > 0 { write!(f, ".P{:02}", self.port) } else { Ok(()) }
    }
}

impl FromStr for Uplink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("'{text}' is no uplink: a device number, or one with a port such as 0600.P01");
        let (device, port) = text.split_once('.').unwrap_or((text, "P0"));
        let port = port.strip_prefix(['P', 'p']).ok_or_else(error)?;
        let digits = (1..=2).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = if digits { port.parse().map_err(|_| error())? } else { return Err(error()) };
        Ok(Self { device: device.parse().map_err(|_| error())?, port })
    }
}

/// What the switch looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// IP addresses.
    #[default]
    Ip,
    /// MAC addresses.
    Ethernet,
}

/// How a port is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PortType {
    /// Frames have no VLAN tags.
    Access,
    /// Frames may have.
    Trunk,
}

const PORT_TYPES: [(Spelling, PortType); 2] =
    [(Spelling("ACCESS"), PortType::Access), (Spelling("TRUNK"), PortType::Trunk)];

fn port_word(port: PortType) -> &'static str {
    if port == PortType::Access { "ACCESS" } else { "TRUNK" }
}

/// A DEFINE VSWITCH statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DefineVswitch {
    /// The switch.
    pub name: VswitchName,
    /// Its way to the outside: the first device that works. None: `RDEV NONE` or nothing written.
    pub uplinks: Vec<Uplink>,
    /// IP or Ethernet.
    pub layer: Layer,
    /// VLANs.
    pub vlan: VlanUse,
    /// Of ports of which nothing else is said.
    pub port_type: PortType,
    /// Other operands, as written.
    pub other: Vec<String>,
}

impl DefineVswitch {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let name = words.value("the switch's name")?;
        let mut statement = Self {
            name,
            uplinks: Vec::new(),
            layer: Layer::default(),
            vlan: VlanUse::default(),
            port_type: PortType::Access,
            other: Vec::new(),
        };
        while !words.is_empty() {
            statement.operand(words)?;
        }
        Ok(statement)
    }

    fn operand(&mut self, words: &mut Words<'_>) -> Result<(), Diagnostic> {
        if words.accept(Spelling("RDEV")) {
            self.uplinks = uplinks(words)?;
        } else if words.accept(Spelling("IP")) {
            self.layer = Layer::Ip;
        } else if words.accept(Spelling("ETHernet")) {
            self.layer = Layer::Ethernet;
        } else if words.accept(Spelling("VLAN")) {
            self.vlan = if words.accept(Spelling("UNAWARE")) {
                VlanUse::Unaware
            } else if words.accept(Spelling("AWARE")) {
                VlanUse::Aware
            } else {
                VlanUse::Default(words.value("AWARE, UNAWARE or a VLAN from 1 to 4094")?)
            };
        } else if words.accept(Spelling("PORTType")) {
            self.port_type = words.one_of(&PORT_TYPES)?;
        } else {
            other(words, DEFINE_OTHER, &mut self.other)?;
        }
        Ok(())
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("DEFINE").word("VSWITCH").word(&self.name);
        let layout = layout.flag("RDEV", !self.uplinks.is_empty()).words(&self.uplinks);
        let layout = layout.word(if self.layer == Layer::Ip { "IP" } else { "ETHERNET" }).word("VLAN");
        let layout = match self.vlan {
            VlanUse::Unaware => layout.word("UNAWARE"),
            VlanUse::Aware => layout.word("AWARE"),
            VlanUse::Default(id) => layout.word(id),
        };
        let layout = layout.word("PORTTYPE").word(port_word(self.port_type));
        self.other.iter().fold(layout, |layout, word| layout.text(word))
    }
}

fn uplinks(words: &mut Words<'_>) -> Result<Vec<Uplink>, Diagnostic> {
    if words.accept(Spelling("NONE")) {
        return Ok(Vec::new());
    }
    let mut uplinks: Vec<Uplink> = vec![words.value("a device number or NONE")?];
    while let Some(uplink) = words.peek().and_then(|word| word.text.parse().ok()) {
        words.next();
        uplinks.push(uplink);
        if uplinks.len() > UPLINKS_MAX {
            return Err(Diagnostic::error(words.last(), "too many uplinks").expecting("at most three"));
        }
    }
    Ok(uplinks)
}

fn other(
    words: &mut Words<'_>,
    known: &[(Spelling, usize)],
    kept: &mut Vec<String>,
) -> Result<(), Diagnostic> {
    let find = |word: &Word| known.iter().find(|(name, _)| word.is(*name)).copied();
    let Some((name, follow)) = words.peek().and_then(find) else {
        return words.finish("an operand of the statement");
    };
    words.next();
    kept.push(name.full());
    for _ in 0..follow {
        kept.push(words.expect(&format!("what {name} is"))?.text.to_ascii_uppercase());
    }
    Ok(())
}

/// Leave to plug into a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// Who may.
    pub user: UserId,
    /// How the port is used, if not as the switch says.
    pub port_type: Option<PortType>,
    /// VLANs, if not the switch's.
    pub vlans: Vec<VlanId>,
    /// The port of a port-based switch.
    pub port_number: Option<u16>,
    /// Whether the user may see all frames.
    pub is_promiscuous: bool,
}

/// What MODIFY VSWITCH changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VswitchChange {
    /// Lets a user in.
    Grant(Grant),
    /// Keeps a user out.
    Revoke(UserId),
    /// Another attribute, kept as written.
    Other(Vec<String>),
}

/// A MODIFY VSWITCH statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModifyVswitch {
    /// The switch, which was defined before.
    pub name: VswitchName,
    /// What is changed.
    pub change: VswitchChange,
}

impl ModifyVswitch {
    pub(crate) fn parse(words: &mut Words<'_>) -> Result<Self, Diagnostic> {
        let name = words.value("the switch's name")?;
        let change = if words.accept(Spelling("GRAnt")) {
            VswitchChange::Grant(grant(words)?)
        } else if words.accept(Spelling("REVoke")) {
            VswitchChange::Revoke(words.value("a user id")?)
        } else {
            let mut kept = Vec::new();
            while kept.is_empty() || !words.is_empty() {
                if words.is_empty() {
                    words.expect("GRANT, REVOKE or an attribute")?;
                }
                other(words, MODIFY_OTHER, &mut kept)?;
            }
            VswitchChange::Other(kept)
        };
        Ok(Self { name, change })
    }

    pub(crate) fn layout(&self) -> Layout {
        let layout = Layout::new().word("MODIFY").word("VSWITCH").word(&self.name);
        match &self.change {
            VswitchChange::Grant(grant) => {
                let layout = layout.word("GRANT").word(grant.user);
                let layout = layout.option("PORTTYPE", grant.port_type.map(port_word));
                let layout = layout.flag("VLAN", !grant.vlans.is_empty()).words(&grant.vlans);
                layout.option("PORTNUMBER", grant.port_number).flag("PROMISCUOUS", grant.is_promiscuous)
            }
            VswitchChange::Revoke(user) => layout.word("REVOKE").word(user),
            VswitchChange::Other(words) => words.iter().fold(layout, |layout, word| layout.text(word)),
        }
    }
}

fn grant(words: &mut Words<'_>) -> Result<Grant, Diagnostic> {
    let user = words.value("a user id")?;
    let mut grant =
        Grant { user, port_type: None, vlans: Vec::new(), port_number: None, is_promiscuous: false };
    while !words.is_empty() {
        if words.accept(Spelling("PORTType")) {
            grant.port_type = Some(words.one_of(&PORT_TYPES)?);
        } else if words.accept(Spelling("VLAN")) {
            grant.vlans.push(words.value("a VLAN from 1 to 4094")?);
            while let Some(id) = words.peek().and_then(|word| word.text.parse().ok()) {
                words.next();
                grant.vlans.push(id);
            }
        } else if words.accept(Spelling("PORTNUMber")) {
            grant.port_number = Some(words.number("a port", 1..=2048)? as u16);
        } else if words.accept(Spelling("PROmiscuous")) {
            grant.is_promiscuous = true;
        } else if words.accept(Spelling("NOPROmiscuous")) {
            grant.is_promiscuous = false;
        } else {
            words.finish("PORTTYPE, VLAN, PORTNUMBER or PROMISCUOUS")?;
        }
    }
    Ok(grant)
}
