//! The name in a certificate: which member of which cluster it belongs to.
//!
//! It is one URI among the subject alternative names, `isfc://CLUSTER/MEMBER`. A member's name may hold characters
//! that a DNS name or a URI may not (`@`, `#`, `$`), so those are percent-encoded. There is one way to write a name;
//! another is refused.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

const SCHEME: &str = "isfc://";
/// Longest name of a member, in characters.
pub const MEMBER_LEN_MAX: usize = 8;
/// Longest name of a cluster, in characters.
pub const CLUSTER_LEN_MAX: usize = 32;

/// Which member of which cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateName {
    cluster: String,
    member: String,
}

/// Why a certificate or a text names no member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A cluster's name has 1 to 32 letters, digits, `-`, `_` or `.`.
    #[error("'{0}' is no name for a cluster: use 1 to 32 letters, digits, '-', '_' or '.'")]
    Cluster(String),
    /// A member's name has 1 to 8 printable ASCII characters.
    #[error("'{0}' is no name for a member: use 1 to 8 printable characters without blanks")]
    Member(String),
    /// Not exactly one URI of the right form.
    #[error("the certificate names no member of a cluster (one URI isfc://CLUSTER/MEMBER)")]
    Missing,
}

impl CertificateName {
    /// The name of `member` of `cluster`.
    ///
    /// # Errors
    /// [`NameError::Cluster`], [`NameError::Member`].
    pub fn new(cluster: &str, member: &str) -> Result<Self, NameError> {
        if !is_cluster(cluster) {
            return Err(NameError::Cluster(cluster.chars().take(64).collect()));
        }
        if !is_member(member) {
            return Err(NameError::Member(member.chars().take(64).collect()));
        }
        Ok(Self { cluster: cluster.to_owned(), member: member.to_owned() })
    }

    /// Name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Name of the member.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// As the certificate has it.
    pub fn to_uri(&self) -> String {
        let mut uri = format!("{SCHEME}{}/", self.cluster);
        for byte in self.member.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => uri.push(char::from(byte)),
                _ => uri += &format!("%{byte:02X}"),
            }
        }
        uri
    }

    /// Reads [`Self::to_uri`]; nothing else is taken.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let (cluster, encoded) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let mut member = String::new();
        let mut bytes = encoded.bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'%' => 16 * hex(bytes.next()?)? + hex(bytes.next()?)?,
                _ => byte,
            };
            // Also keeps an overlong text from being copied.
            if !byte.is_ascii_graphic() || member.len() == MEMBER_LEN_MAX {
                return None;
            }
            member.push(char::from(byte));
        }
        Self::new(cluster, &member).ok().filter(|name| name.to_uri() == uri)
    }

    /// The name in a certificate, which has to hold exactly one.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Result<Self, NameError> {
        let names = certificate.subject_alternative_name().map_err(|_| NameError::Missing)?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::from_uri(uri).ok_or(NameError::Missing),
            _ => Err(NameError::Missing),
        }
    }

    /// The name in a certificate as it travels.
    pub(crate) fn of_der(der: &[u8]) -> Result<Self, NameError> {
        match x509_parser::parse_x509_certificate(der) {
            Ok(([], certificate)) => Self::of(&certificate),
            _ => Err(NameError::Missing),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.member, self.cluster)
    }
}

pub(crate) fn is_cluster(text: &str) -> bool {
    (1..=CLUSTER_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_member(text: &str) -> bool {
    (1..=MEMBER_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_that_no_uri_has_are_encoded() {
        let name = CertificateName::new("TEST-1", "A@#$_-%/").unwrap();
        assert_eq!(name.to_uri(), "isfc://TEST-1/A%40%23%24_-%25%2F");
        assert_eq!(CertificateName::from_uri(&name.to_uri()), Some(name));
    }

    #[test]
    fn another_way_to_write_a_name_is_no_name() {
        for uri in [
            "isfc://C/%41",
            "isfc://C/A%2f",
            "isfc://C/",
            "isfc://C/A/B",
            "isfc://C/ABCDEFGHI",
            "isfc:///A",
            "isfc://C D/A",
            "ISFC://C/A",
            "isfc://C/%4",
            "isfc://C/%00",
            "https://C/A",
        ] {
            assert_eq!(CertificateName::from_uri(uri), None, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn every_member_name_survives(cluster in "[A-Za-z0-9._-]{1,32}", member in "[!-~]{1,8}") {
            let name = CertificateName::new(&cluster, &member).unwrap();
            prop_assert_eq!(CertificateName::from_uri(&name.to_uri()), Some(name));
        }

        #[test]
        fn any_text_is_a_name_or_none(text in "(isfc://)?\\PC{0,40}") {
            let _ = CertificateName::from_uri(&text);
        }
    }
}
