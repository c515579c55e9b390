//! An address, as somebody writes it. Host names are left out: they would be asked of a name server.

use std::net::SocketAddr;

use isfc::{Address, Medium};

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(medium) = text.parse::<Medium>() {
        assert_eq!(medium.as_str(), text);
    }
    let path = ["unix:", "shm:"].iter().any(|prefix| text.starts_with(prefix));
    let host = text.strip_prefix("tcp:").unwrap_or(text);
    let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !path && port && host.parse::<SocketAddr>().is_err() {
        return;
    }
    let Ok(address) = text.parse::<Address>() else { return };
    assert_eq!(address.to_string().parse(), Ok(address.clone()));
    if let Address::Unix(path) | Address::Shm(path) = &address {
        assert!((1..=107).contains(&path.as_os_str().len()));
        assert_eq!(address.to_string(), text);
    }
}
