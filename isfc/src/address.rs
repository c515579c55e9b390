//! Where a member listens: `tcp:HOST:PORT`, `unix:PATH` or `shm:PATH`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// What carries the devices of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// TCP: crosses machines.
    Tcp,
    /// Unix stream sockets: one machine.
    Unix,
    /// Unix sockets for the frames; the receiver maps the sender's memory and fetches the payload.
    Shm,
}

impl Medium {
    /// All media, in the order they are listed to a user.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Unix, Self::Shm];

    /// The word that names it on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Shm => "shm",
        }
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no medium or address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not one of the media.
    #[error("unknown medium '{0}': use tcp, unix or shm")]
    Medium(String),
    /// No medium and no host and port either.
    #[error("'{0}' is no address: write tcp:HOST:PORT, unix:PATH or shm:PATH")]
    Form(String),
    /// A host name that cannot be resolved.
    #[error("cannot resolve '{host}': {reason} (an address is tcp:HOST:PORT, unix:PATH or shm:PATH)")]
    Resolve {
        /// As given.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// A socket path longer than the kernel takes.
    #[error("socket path of {len_bytes} bytes is too long, at most 107 allowed: {path}")]
    PathLen {
        /// As given.
        path: String,
        /// Its length.
        len_bytes: usize,
    },
}

impl FromStr for Medium {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::ALL
            .into_iter()
            .find(|medium| medium.as_str() == text)
            .ok_or_else(|| AddressError::Medium(text.to_owned()))
    }
}

/// Where a member listens or calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The path of the Unix socket of a shared-memory link.
    Shm(PathBuf),
}

impl Address {
    /// The medium this address belongs to.
    pub fn medium(&self) -> Medium {
        match self {
            Self::Tcp(_) => Medium::Tcp,
            Self::Unix(_) => Medium::Unix,
            Self::Shm(_) => Medium::Shm,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Shm(path) => write!(f, "shm:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(socket_path(path)?));
        }
        if let Some(path) = text.strip_prefix("shm:") {
            return Ok(Self::Shm(socket_path(path)?));
        }
        let host = text.strip_prefix("tcp:").unwrap_or(text);
        if host.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(AddressError::Form(text.to_owned()));
        }
        // A host name holds no colon and no slash, so what stands before one was meant to be a medium.
        if let Some((medium, rest)) = host.split_once(':')
            && rest.contains(['/', ':'])
            && !medium.is_empty()
            && medium.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && host.parse::<SocketAddr>().is_err()
        {
            return Err(AddressError::Medium(medium.to_owned()));
        }
        let resolve = |reason: String| AddressError::Resolve { host: host.to_owned(), reason };
        let mut found = host.to_socket_addrs().map_err(|error| resolve(error.to_string()))?;
        found.next().map(Self::Tcp).ok_or_else(|| resolve("no address found".to_owned()))
    }
}

fn socket_path(path: &str) -> Result<PathBuf, AddressError> {
    if path.is_empty() {
        return Err(AddressError::Form(path.to_owned()));
    }
    // sockaddr_un holds 108 bytes with the closing zero.
    if path.len() > 107 {
        return Err(AddressError::PathLen { path: path.to_owned(), len_bytes: path.len() });
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_printing() {
        for text in ["tcp:127.0.0.1:7000", "unix:/tmp/a", "shm:/tmp/b", "tcp:[::1]:80"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("127.0.0.1:1".parse::<Address>().unwrap().medium(), Medium::Tcp);
    }

    #[test]
    fn nonsense_is_refused_with_what_to_write() {
        for text in ["", "tcp:", "host", "127.0.0.1:99999", "unix:", "shm:"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        for text in ["rdma:host:1", "rdma:/path", "ftp://host:21"] {
            assert!(
                matches!(text.parse::<Address>(), Err(AddressError::Form(_) | AddressError::Medium(_))),
                "{text}"
            );
        }
        let error = "rdma".parse::<Medium>().unwrap_err().to_string();
        assert_eq!(error, "unknown medium 'rdma': use tcp, unix or shm");
        assert!(format!("unix:/{}", "x".repeat(107)).parse::<Address>().is_err());
    }
}
