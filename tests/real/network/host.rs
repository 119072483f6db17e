//! The host as the third: what it gets, what it serves, what its programs say.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use crate::patience::patient;

/// What a program of the host says.
pub(super) fn said(program: &str, args: &[&str]) -> String {
    let done = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output();
    done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned())
        .unwrap_or_default()
}

/// What the host gets from a server, once it listens.
pub(super) async fn host_gets(at: SocketAddr, path: &str) -> std::io::Result<String> {
    let path = path.to_owned();
    let get = move || {
        let until = Duration::from_secs(2);
        let mut last = std::io::Error::other("never tried");
        let end = Instant::now() + patient(Duration::from_secs(60));
        while Instant::now() < end {
            let asked = TcpStream::connect_timeout(&at, until).and_then(|mut stream| {
                stream.set_read_timeout(Some(until))?;
                write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                Ok(text)
            });
            match asked {
                Ok(text) if text.contains(" 200 ") => {
                    return Ok(text.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned());
                }
                Ok(text) => last = std::io::Error::other(text),
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(last)
    };
    tokio::task::spawn_blocking(get).await.expect("a thread")
}

/// A listener of the host's on the network's gateway, which answers one caller with a word.
pub(super) fn host_serves(at: IpAddr) -> (u16, std::thread::JoinHandle<SocketAddr>) {
    host_says(at, b"hello from the host\n".to_vec())
}

/// The same with so many bytes.
pub(super) fn host_sends(at: IpAddr, bytes: usize) -> (u16, std::thread::JoinHandle<SocketAddr>) {
    host_says(at, vec![b'x'; bytes])
}

fn host_says(at: IpAddr, what: Vec<u8>) -> (u16, std::thread::JoinHandle<SocketAddr>) {
    let listener = TcpListener::bind((at, 0)).expect("to listen");
    let port = listener.local_addr().expect("an address").port();
    let serving = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("a caller");
        stream.write_all(&what).expect("to answer");
        from
    });
    (port, serving)
}
