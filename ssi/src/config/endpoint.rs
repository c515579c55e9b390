//! Where a member listens for the devices of its links, as the configuration says it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::SystemName;

/// `sun_path` holds 108 bytes with the closing zero.
const SOCKET_PATH_LEN_MAX_BYTES: usize = 107;

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No medium that is known.
    #[error("'{0}' does not start with a medium")]
    Medium(String),
    /// No host and port.
    #[error("'{0}' is no host and port")]
    HostPort(String),
    /// No path, or one that is too long.
    #[error("'{0}' is no path of 1 to {SOCKET_PATH_LEN_MAX_BYTES} bytes")]
    Path(String),
}

/// `tcp:HOST:PORT`, `unix:PATH` or `shm:PATH`. A path that is not absolute is one in the cluster's directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Endpoint {
    /// A host's name or address, and a port: crosses machines.
    Tcp {
        /// Name or address, IPv6 in brackets.
        host: String,
        /// From 1.
        port: u16,
    },
    /// A Unix socket.
    Unix(String),
    /// The Unix socket of a link through shared memory.
    Shm(String),
}

impl Endpoint {
    /// Where a member listens that no ISLINK_ENDPOINT names: a socket in the cluster's directory.
    pub fn default_of(member: SystemName) -> Self {
        Self::Unix(format!("{member}.islink"))
    }

    /// The same with a path that starts at the cluster's directory.
    #[must_use]
    pub fn in_directory(&self, directory: &Path) -> Self {
        let join = |path: &String| directory.join(path).display().to_string();
        match self {
            Self::Tcp { .. } => self.clone(),
            Self::Unix(path) => Self::Unix(join(path)),
            Self::Shm(path) => Self::Shm(join(path)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Shm(path) => write!(f, "shm:{path}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let no_medium = || EndpointError::Medium(text.to_owned());
        let (medium, place) = text.split_once(':').ok_or_else(no_medium)?;
        match medium.to_ascii_lowercase().as_str() {
            "tcp" => host_port(place).ok_or_else(|| EndpointError::HostPort(place.to_owned())),
            "unix" => socket_path(place).map(Self::Unix),
            "shm" => socket_path(place).map(Self::Shm),
            _ => Err(no_medium()),
        }
    }
}

fn host_port(place: &str) -> Option<Endpoint> {
    let (host, port) = place.rsplit_once(':')?;
    let is_address = |host: &str| host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let is_name = |host: &str| !host.is_empty() && !host.contains(['[', ']', ':', '/']);
    let host = (is_address(host) || is_name(host)).then(|| host.to_owned())?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { port.parse().ok().filter(|port| *port > 0)? } else { return None };
    Some(Endpoint::Tcp { host, port })
}

fn socket_path(path: &str) -> Result<String, EndpointError> {
    if (1..=SOCKET_PATH_LEN_MAX_BYTES).contains(&path.len()) {
        Ok(path.to_owned())
    } else {
        Err(EndpointError::Path(path.to_owned()))
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_host_and_port_or_a_path() {
        for good in ["tcp:10.0.0.1:7001", "tcp:[::1]:1", "tcp:a.example:65535", "unix:a", "shm:/run/x"] {
            assert_eq!(good.parse::<Endpoint>().unwrap().to_string(), good);
        }
        let long = format!("unix:{}", "x".repeat(108));
        let bad = ["", "tcp", "tcp:", "tcp:h", "tcp:h:0", "tcp::1", "tcp:h:65536", "tcp:h:+1", "tcp:[]:1"];
        for bad in bad.into_iter().chain(["tcp:::1:1", "unix:", "udp:h:1", long.as_str()]) {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_start_at_the_directory_of_the_cluster_unless_they_are_absolute() {
        let of =
            |text: &str| text.parse::<Endpoint>().unwrap().in_directory(Path::new("/run/c1")).to_string();
        assert_eq!(of("unix:a"), "unix:/run/c1/a");
        assert_eq!(of("shm:/tmp/a"), "shm:/tmp/a");
        assert_eq!(of("tcp:h:1"), "tcp:h:1");
        let member = SystemName::new("MEMBERA").unwrap();
        assert_eq!(Endpoint::default_of(member).to_string(), "unix:MEMBERA.islink");
    }
}
