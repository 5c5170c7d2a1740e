//! Following a query over a WebSocket, on a real socket.

#![cfg(feature = "http")]

use std::net::SocketAddr;
use std::time::Duration;

use crate::door::{Door, DoorParts, encoded};
use lgtm_core::exec::CancelToken;
use lgtm_core::http::{ConnectionSettings, Connections, HttpServer};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_logstore::components::TailSettings;
use lgtm_logstore::limits::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A store behind a server.
struct Served {
    door: Door,
    address: SocketAddr,
    stop: CancelToken,
}

async fn served(limits: Limits) -> Served {
    served_with(DoorParts {
        limits,
        ..DoorParts::default()
    })
    .await
}

async fn served_with(parts: DoorParts) -> Served {
    let door = Door::with(parts).await;
    let connections = Connections::new(ConnectionSettings::default(), &Registry::new()).unwrap();
    let server = HttpServer::bind("test", "127.0.0.1:0", door.router.clone(), connections);
    let server = server.await.unwrap();
    let (address, stop) = (server.address(), CancelToken::new());
    let until = stop.clone();
    tokio::runtime::Handle::current().spawn(async move { server.run(until).await });
    Served {
        door,
        address,
        stop,
    }
}

/// A client that follows.
struct Client(TcpStream);

impl Client {
    async fn follow(address: SocketAddr, params: &[(&str, &str)]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /loki/api/v1/tail?{} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            encoded(params)
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Self(stream)
    }

    /// The next frame: its kind and what is in it. `None` when the connection ended.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let kind = self.0.read_u8().await.ok()? & 0xf;
            let length = match self.0.read_u8().await.ok()? {
                126 => usize::from(self.0.read_u16().await.ok()?),
                127 => usize::try_from(self.0.read_u64().await.ok()?).unwrap(),
                short => usize::from(short),
            };
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.ok()?;
            Some((kind, body))
        };
        timeout(Duration::from_secs(20), read)
            .await
            .expect("a frame")
    }

    /// The next text.
    async fn text(&mut self) -> Value {
        loop {
            match self.frame().await {
                Some((1, text)) => return serde_json::from_slice(&text).unwrap(),
                Some((9, _)) => {}
                other => panic!("no text but {other:?}"),
            }
        }
    }

    /// The code and the reason with which it is ended.
    async fn end(&mut self) -> Option<(u16, String)> {
        loop {
            match self.frame().await? {
                (8, body) => {
                    let code = u16::from_be_bytes([body[0], body[1]]);
                    return Some((code, String::from_utf8(body[2..].to_vec()).unwrap()));
                }
                _ => continue,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_gets_the_past_and_what_comes() {
    let s = served(Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    })
    .await;
    let app = json!({"app": "a"});
    s.door
        .push(app.clone(), &[(20, "old x"), (10, "old y")])
        .await;
    let query = "{app=\"a\"} |~ \"x|y\" | line_format \"<{{__line__}}>\"";
    let mut client = Client::follow(s.address, &[("query", query)]).await;
    let frame = client.text().await;
    let lines = |frame: &Value| -> Vec<String> {
        let streams = frame["streams"].as_array().unwrap().iter();
        let line = |s: &Value| s["values"][0][1].as_str().unwrap().to_owned();
        streams.map(line).collect()
    };
    assert_eq!(lines(&frame), ["<old x>", "<old y>"]);
    assert_eq!(frame["streams"][0]["stream"], app);
    s.door.push(app.clone(), &[(5, "new x"), (4, "none")]).await;
    assert_eq!(lines(&client.text().await), ["<new x>"]);
    assert!(frame.get("dropped_entries").is_none());
    // Pings come although nothing else does.
    let ping = loop {
        let (kind, _) = client.frame().await.unwrap();
        if kind == 9 {
            break kind;
        }
    };
    assert_eq!(ping, 9);
    // A client that goes away is forgotten.
    drop(client);
    let followers = s.door.store.ingester();
    let gone = async {
        while followers.followers().count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_stand_in_the_close_frame() {
    let s = served(Limits {
        max_concurrent_tail_requests: 1,
        ..Limits::default()
    })
    .await;
    let metric = [("query", "rate({app=\"a\"}[1m])")];
    let mut client = Client::follow(s.address, &metric).await;
    let told = client.end().await;
    let (code, reason) = told.unwrap();
    assert_eq!(code, 1011);
    assert!(
        reason.contains("only log selector is supported"),
        "{reason}"
    );
    let query = [("query", "{app=\"a\"}")];
    let _first = Client::follow(s.address, &query).await;
    let follows = async {
        while s.door.store.ingester().followers().count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), follows).await.unwrap();
    let mut second = Client::follow(s.address, &query).await;
    let reason = "max concurrent tail requests limit exceeded, count > limit (2 > 1)";
    assert_eq!(second.end().await, Some((1011, reason.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_followed_for_long_is_told_to_come_again() {
    let s = served_with(DoorParts {
        tail: TailSettings {
            max_duration: Duration::from_millis(300),
        },
        ..DoorParts::default()
    })
    .await;
    let mut client = Client::follow(s.address, &[("query", "{app=\"a\"}")]).await;
    // Clients reconnect without a word when it is this text, word for word.
    let reason = "reached tail max duration limit";
    assert_eq!(client.end().await, Some((1011, reason.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_ends_who_follows() {
    let s = served(Limits::default()).await;
    let mut client = Client::follow(s.address, &[("query", "{app=\"a\"}")]).await;
    s.stop.cancel();
    assert_eq!(client.end().await, None);
}
