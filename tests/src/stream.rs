//! An answer that is read while it comes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends a request, and reads the answer up to its body, of which each piece comes within `patience`.
///
/// # Panics
/// If the answer is not 200.
#[track_caller]
pub(crate) fn open(
    address: SocketAddr,
    request: &[u8],
    patience: Duration,
) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    stream.write_all(request).expect("a request");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("an answer");
    assert!(line.contains(" 200 "), "{line}");
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).expect("a header");
    }
    reader
}
