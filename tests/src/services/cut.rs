//! A network that can be cut: a port that leads to another one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// Nothing comes through, and nobody is told.
    Stalled,
    /// Connections end, new ones too.
    Cut,
    /// The port is to be closed.
    Gone,
}

#[derive(Debug)]
struct Shared {
    mode: Mode,
    streams: Vec<TcpStream>,
}

/// A port that leads to a service until it is cut or stalled. Dropping it ends all connections.
#[derive(Debug)]
pub struct Cut {
    address: SocketAddr,
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

impl Cut {
    /// A way to a port of this machine.
    ///
    /// # Panics
    /// If no port is free.
    pub fn new(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Shared {
            mode: Mode::Open,
            streams: Vec::new(),
        };
        let shared = Arc::new((Mutex::new(shared), Condvar::new()));
        let cut = Self {
            address,
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                match lock(&shared).mode {
                    Mode::Gone => return,
                    Mode::Cut => continue,
                    Mode::Open | Mode::Stalled => {}
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || join(client, target, &shared));
            }
        });
        cut
    }

    /// The port that leads there.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all connections, and new ones at once.
    pub fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// Lets nothing through. Connections stay, and nobody is told.
    pub fn stall(&self) {
        self.set(Mode::Stalled);
    }

    /// Lets all through again, also what was held back.
    pub fn heal(&self) {
        self.set(Mode::Open);
    }

    fn set(&self, mode: Mode) {
        let mut shared = lock(&self.shared);
        shared.mode = mode;
        if matches!(mode, Mode::Cut | Mode::Gone) {
            for stream in shared.streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        drop(shared);
        self.shared.1.notify_all();
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.set(Mode::Gone);
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(shared: &(Mutex<Shared>, Condvar)) -> MutexGuard<'_, Shared> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join(client: TcpStream, target: u16, shared: &Arc<(Mutex<Shared>, Condvar)>) {
    // A connection that is made while the network is stalled is not answered before it is healed.
    let stalled = |shared: &mut Shared| shared.mode == Mode::Stalled;
    let mut held = shared
        .1
        .wait_while(lock(shared), stalled)
        .unwrap_or_else(PoisonError::into_inner);
    if held.mode != Mode::Open {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(near), Ok(far)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    held.streams.extend([near, far]);
    drop(held);
    let (Ok(near), Ok(far)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let up = Arc::clone(shared);
    std::thread::spawn(move || pump(near, server, &up));
    pump(far, client, shared);
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &(Mutex<Shared>, Condvar)) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length) = from.read(&mut buffer) {
        let stalled = |shared: &mut Shared| shared.mode == Mode::Stalled;
        let held = shared
            .1
            .wait_while(lock(shared), stalled)
            .unwrap_or_else(PoisonError::into_inner);
        let is_open = held.mode == Mode::Open;
        drop(held);
        if length == 0 || !is_open || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
