//! What a process does before it starts, mostly in containers: it waits for what it needs, and forwards ports of
//! localhost to the machine around it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::settings::surroundings::{Place, Surroundings};

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Connections that are forwarded at a time; more wait.
const MOST: usize = 1_024;
/// After a connection could not be accepted, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until everything accepts connections that must; says what does not in time.
pub(crate) async fn wait(surroundings: &Surroundings) -> anyhow::Result<()> {
    if surroundings.wait_for.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    for place in &surroundings.wait_for {
        let mut is_said = false;
        loop {
            let left = surroundings.wait.saturating_sub(begun.elapsed());
            let Err(error) = connect(&place.host, place.port, CONNECT.min(left)).await else {
                break;
            };
            if begun.elapsed() >= surroundings.wait {
                bail!(
                    "WAIT_HOSTS has {place}, which did not accept a connection within WAIT_TIMEOUT, {} s: {error}",
                    surroundings.wait.as_secs_f64()
                );
            }
            if !is_said {
                tracing::info!("waiting for {place}: {error}");
                is_said = true;
            }
            tokio::time::sleep(surroundings.pause.min(surroundings.wait)).await;
        }
    }
    tracing::info!(
        "everything that was waited for is there, after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, std::io::Error> {
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "no answer in time",
        )),
    }
}

/// Forwards ports for as long as the process lives.
pub(crate) async fn forward(surroundings: &Surroundings) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(MOST));
    for port in &surroundings.forwarded {
        let place = Place {
            host: surroundings.forward_to.clone(),
            port: *port,
        };
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
            .await
            .with_context(|| {
                format!("LOCALHOST_PROXY_PORTS has :{port}, and nothing else may listen there")
            })?;
        tokio::spawn(serve(listener, place.clone(), Arc::clone(&room)));
        // Where a machine has no IPv6, nobody asks there.
        if let Ok(listener) = bind(SocketAddr::from((Ipv6Addr::LOCALHOST, *port))).await {
            tokio::spawn(serve(listener, place.clone(), Arc::clone(&room)));
        }
        tracing::info!("localhost:{port} leads to {place}");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn serve(listener: TcpListener, place: Place, room: Arc<Semaphore>) {
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((mut near, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let place = place.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match connect(&place.host, place.port, CONNECT).await {
                Ok(mut far) => {
                    // Whichever side breaks off, the other is told by a closed connection.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
                Err(error) => tracing::warn!("{place} cannot be reached: {error}"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn surroundings(wait_for: Vec<Place>, forwarded: Vec<u16>) -> Surroundings {
        Surroundings {
            wait_for,
            wait: Duration::from_millis(600),
            pause: Duration::from_millis(50),
            forwarded,
            forward_to: "127.0.0.2".to_owned(),
        }
    }

    #[tokio::test]
    async fn one_that_comes_late_is_waited_for_and_one_that_does_not_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let place = Place {
            host: "127.0.0.1".to_owned(),
            port,
        };
        let surroundings = surroundings(vec![place], Vec::new());
        let error = wait(&surroundings).await.unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
        assert!(error.contains("WAIT_TIMEOUT, 0.6 s"), "{error}");
        let later = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            TcpListener::bind(("127.0.0.1", port)).await.unwrap()
        };
        let (waited, _listener) = tokio::join!(wait(&surroundings), later);
        waited.unwrap();
    }

    #[tokio::test]
    async fn a_port_of_localhost_leads_to_the_same_port_elsewhere_both_ways() {
        let far = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = far.local_addr().unwrap().port();
        forward(&surroundings(Vec::new(), vec![port]))
            .await
            .unwrap();
        let echo = async {
            let (mut stream, _) = far.accept().await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream
                .write_all(text.to_uppercase().as_bytes())
                .await
                .unwrap();
        };
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (_, answer) = tokio::join!(echo, ask);
        assert_eq!(answer, "HELLO");
        let again = forward(&surroundings(Vec::new(), vec![port])).await;
        let error = format!("{:#}", again.unwrap_err());
        assert!(error.contains(&format!(":{port}")), "{error}");
    }
}
