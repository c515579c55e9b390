//! The transport's first words, written by hand: a peer that is not this program.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// Length of a hello, and of the welcome that answers it.
const HELLO_LEN_BYTES: usize = 48;
const WELCOME_LEN_BYTES: usize = 24;

/// A hello of a link with one device over TCP that speaks `versions`.
pub(crate) fn hello(versions: (u16, u16)) -> Vec<u8> {
    let mut bytes = b"ISFCHELO".to_vec();
    bytes.extend(versions.0.to_le_bytes());
    bytes.extend(versions.1.to_le_bytes());
    // Device 0 of 1, no shared regions; payload digests are the one feature offered.
    bytes.extend([0, 1, 0, 0]);
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend([7; 16]);
    bytes.extend((1_u32 << 20).to_le_bytes());
    bytes.extend([0; 4]);
    assert_eq!(bytes.len(), HELLO_LEN_BYTES);
    bytes
}

/// A welcome that refuses every call, for want of a version: this side speaks `versions`.
pub(crate) fn refusal(versions: (u16, u16)) -> Vec<u8> {
    let mut bytes = b"ISFCWLCM".to_vec();
    for field in [0, 2, versions.0, versions.1] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend([0; 8]);
    assert_eq!(bytes.len(), WELCOME_LEN_BYTES);
    bytes
}

/// Calls the listener at `address` (`tcp:HOST:PORT`).
pub(crate) fn call(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.strip_prefix("tcp:").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Says `words` to the listener at `address` and gives what it answers before it hangs up.
pub(crate) fn say(address: &str, words: &[u8]) -> Vec<u8> {
    let mut stream = call(address);
    stream.write_all(words).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // A listener that hangs up on unread bytes resets the connection.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Version and refusal in a welcome, and the versions of who sent it.
pub(crate) fn read_welcome(bytes: &[u8]) -> (u16, u16, (u16, u16)) {
    assert_eq!((bytes.len(), &bytes[..8]), (WELCOME_LEN_BYTES, &b"ISFCWLCM"[..]), "{bytes:02x?}");
    let field = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    (field(8), field(10), (field(12), field(14)))
}

/// A listener that answers every hello of `calls` calls with the same words, and then hears each call out.
/// Gives its address.
pub(crate) fn answering(calls: usize, words: Vec<u8>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let streams: Vec<TcpStream> = (0..calls).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut hello = [0; HELLO_LEN_BYTES];
            let _ = stream.read_exact(&mut hello);
            let _ = stream.write_all(&words);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    (address, thread)
}
