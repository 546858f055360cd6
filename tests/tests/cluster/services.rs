//! The harness itself: services start, survive their kill, and networks are cut.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use runner_tests::services::{Cut, MariadbServer, PostgresServer, RedisServer, Reply};

#[test]
fn a_redis_forgets_or_remembers_as_it_was_started() {
    for (server, kept) in [
        (RedisServer::start(), Reply::Nothing),
        (
            RedisServer::start_with_aof(),
            Reply::Text("here".to_owned()),
        ),
    ] {
        server.command(&["SET", "key", "here"]);
        server.kill9();
        server.try_command(&["PING"]).unwrap_err();
        server.restart();
        assert_eq!(server.command(&["GET", "key"]), kept);
    }
}

#[test]
fn a_postgres_keeps_what_it_had_committed() {
    let server = PostgresServer::start();
    let database = server.create_database();
    server.rows(&database, "CREATE TABLE t AS SELECT 1 AS a, 'x' AS b");
    server.kill9();
    server.restart();
    assert_eq!(server.rows(&database, "SELECT * FROM t"), [["1", "x"]]);
}

#[test]
fn a_mariadb_keeps_what_it_had_committed() {
    let server = MariadbServer::start();
    let database = server.create_database();
    server.rows(&database, "CREATE TABLE t AS SELECT 1 AS a, NULL AS b");
    server.kill9();
    server.restart();
    assert_eq!(server.rows(&database, "SELECT * FROM t"), [["1", ""]]);
}

#[test]
fn a_network_can_be_cut_and_stalled_and_healed() {
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in echo.incoming().flatten() {
            let mut out = stream.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut stream, &mut out));
        }
    });
    let cut = Cut::new(port);
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", cut.port())).unwrap();
        let patience = Some(Duration::from_millis(300));
        stream.set_read_timeout(patience).unwrap();
        stream
    };
    let mut buffer = [0; 2];
    let mut stream = connect();
    stream.write_all(b"ab").unwrap();
    stream.read_exact(&mut buffer).unwrap();
    cut.stall();
    stream.write_all(b"cd").unwrap();
    stream.read_exact(&mut buffer).unwrap_err();
    cut.heal();
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"cd");
    cut.cut();
    assert_eq!(stream.read(&mut buffer).unwrap_or(0), 0);
    assert_eq!(connect().read(&mut buffer).unwrap_or(0), 0);
    cut.heal();
    let mut stream = connect();
    stream.write_all(b"ef").unwrap();
    stream.read_exact(&mut buffer).unwrap();
}
