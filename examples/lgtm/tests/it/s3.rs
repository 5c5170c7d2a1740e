//! Blocks in an S3 bucket: written by the host, read by another one that knows nothing but the bucket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::host::{Host, now_ms};

/// A moto server, killed when dropped.
struct Moto(Child, u16);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn moto() -> Option<Moto> {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let started = Command::new("moto_server")
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        Ok(child) => Some(Moto(child, port)),
        Err(_) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "moto_server is missing, and CI must have it"
            );
            None
        }
    }
}

fn create_bucket(port: u16) {
    for _ in 0..300 {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let request = format!(
                "PUT /observability HTTP/1.1
Host: 127.0.0.1:{port}
Content-Length: 0
Connection: close

"
            );
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            if answer.contains(" 200 ") {
                return;
            }
        }
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    panic!("moto does not answer");
}

#[test]
fn blocks_go_to_s3_and_come_back() {
    let Some(moto) = moto() else { return };
    create_bucket(moto.1);
    let url = format!(
        "-storage.url=s3://observability?endpoint=http://127.0.0.1:{}&path_style=true&region=us-east-1",
        moto.1
    );
    let flags = [
        url.as_str(),
        "-storage.backend.allow-http=true",
        "-storage.backend.credentials={from: static, id: test, secret: test}",
    ];
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let t_ms = now_ms();
    let host = Host::start(first.path(), &flags);
    for i in 0..200 {
        let name = format!("series_{i}");
        assert_eq!(
            host.push(&[(&[("__name__", &name), ("job", "s3")], t_ms, f64::from(i))])
                .status,
            200
        );
    }
    assert_eq!(
        host.post("/flush", &[], b"").text(),
        "1 blocks, 0 chunks, 0 trace blocks written\n"
    );
    let query = format!(
        "/prometheus/api/v1/query?query=%7Bjob%3D%22s3%22%7D&time={}",
        t_ms / 1000 + 1
    );
    let before = host.get(&query).text();
    assert!(
        host.get("/metrics")
            .text()
            .contains("lgtm_objstore_operations_total")
    );
    drop(host);
    let host = Host::start(second.path(), &flags);
    let after = host.get(&query);
    assert_eq!(
        after.json()["data"]["result"].as_array().unwrap().len(),
        200
    );
    assert_eq!(after.text(), before);
}
