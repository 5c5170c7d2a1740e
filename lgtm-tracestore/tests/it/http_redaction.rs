//! `tempopb.BackendScheduler/SubmitRedaction`, by calls over HTTP/2.

#![cfg(feature = "http")]

use crate::door::{Answer, Door, DoorParts, ID, Sent, otlp, shop};
use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field, put_varint_field, varint_tag};
use lgtm_tracestore::http::ApiSettings;
use lgtm_tracestore::limits::Limits;

const METHOD: &str = "/tempopb.BackendScheduler/SubmitRedaction";

/// Another trace.
const CD: &str = "000000000000000000000000000000cd";

/// `SubmitRedactionRequest`
#[derive(Debug, Clone, Default)]
struct Order {
    ids: Vec<Vec<u8>>,
    query: Option<&'static str>,
    mode: u64,
    start_ns: u64,
    end_ns: u64,
}

impl Order {
    fn id(last: u8) -> Self {
        let mut id = vec![0; 16];
        id[15] = last;
        Self {
            ids: vec![id],
            ..Self::default()
        }
    }

    fn query(query: &'static str) -> Self {
        Self {
            query: Some(query),
            ..Self::default()
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // The tenant in the message is not looked at.
        put_bytes_field(&mut out, 1, b"somebody");
        for id in &self.ids {
            put_bytes_field(&mut out, 2, id);
        }
        if let Some(query) = self.query {
            let mut message = Vec::new();
            put_bytes_field(&mut message, 1, query.as_bytes());
            put_bytes_field(&mut out, 3, &message);
        }
        for (field, value) in [(4, self.mode), (5, self.start_ns), (6, self.end_ns)] {
            if value > 0 {
                put_varint_field(&mut out, field, value);
            }
        }
        out
    }

    async fn send(&self, door: &Door) -> Answer {
        door.call(METHOD, &self.bytes()).await
    }
}

/// Name of the batch, and jobs.
fn answer(answer: &Answer) -> (String, u64) {
    assert_eq!(answer.grpc_status().0, 0, "{:?}", answer.grpc_status());
    let message = answer.messages().pop().unwrap();
    let mut r = Reader::new("answer", &message);
    assert_eq!(r.uvarint().unwrap(), bytes_tag(1));
    let batch = String::from_utf8(r.bytes().unwrap().to_vec()).unwrap();
    let mut jobs = 0;
    if !r.is_empty() {
        assert_eq!(r.uvarint().unwrap(), varint_tag(2));
        jobs = r.uvarint().unwrap();
    }
    (batch, jobs)
}

async fn is_there(door: &Door, id: &str) -> bool {
    let status = door.get(&format!("/api/traces/{id}"), &[]).await.status;
    assert!(status == 200 || status == 404, "{status}");
    status == 200
}

#[tokio::test]
async fn traces_go_by_id_and_by_query_and_a_dry_run_takes_none() {
    let door = Door::new().await;
    door.push(&shop()).await;
    door.push(&otlp(&[Sent::root("other", CD, "GET")])).await;
    door.store.flush().await.unwrap();
    let dry = Order {
        mode: 1,
        ..Order::id(0xab)
    };
    let (batch, jobs) = answer(&dry.send(&door).await);
    assert_eq!((batch.len(), jobs), (36, 1));
    assert!(is_there(&door, ID).await);
    let (_, jobs) = answer(&Order::id(0xab).send(&door).await);
    assert_eq!(jobs, 1);
    assert!(!is_there(&door, ID).await);
    assert!(is_there(&door, CD).await);
    // What has just come is written to a block first.
    door.push(&shop()).await;
    let named = Order::query("{ resource.service.name = \"stock\" }");
    answer(&named.send(&door).await);
    assert!(!is_there(&door, ID).await);
    assert!(is_there(&door, CD).await);
}

#[tokio::test]
async fn what_is_not_taken_has_its_code() {
    let door = Door::new().await;
    let code = async |order: Order| order.send(&door).await.grpc_status().0;
    assert_eq!(code(Order::id(1)).await, 5, "nobody has blocks");
    door.push(&shop()).await;
    door.store.flush().await.unwrap();
    let both = Order {
        query: Some("{ span.a = 1 }"),
        ..Order::id(1)
    };
    let half = Order {
        start_ns: 7,
        ..Order::query("{ span.a = 1 }")
    };
    let ranged = Order {
        start_ns: 7,
        end_ns: 8,
        ..Order::id(1)
    };
    let short = Order {
        ids: vec![vec![1; 8]],
        ..Order::default()
    };
    let mode = Order {
        mode: 2,
        ..Order::id(1)
    };
    for bad in [
        Order::default(),
        both,
        half,
        ranged,
        short,
        mode,
        Order::query("{}"),
        Order::query("{ span.a != 1 }"),
    ] {
        assert_eq!(code(bad.clone()).await, 3, "{bad:?}");
    }
    let long_ago = Order {
        start_ns: 7,
        end_ns: 8,
        ..Order::query("{ span.a = 1 }")
    };
    assert_eq!(code(long_ago).await, 5);
    let mut limits = Limits::default();
    limits.compaction.compaction_disabled = true;
    let parts = DoorParts {
        limits,
        ..DoorParts::default()
    };
    let still = Order::id(1).send(&Door::with(parts).await).await;
    assert_eq!(still.grpc_status().0, 9);
    let parts = DoorParts {
        settings: ApiSettings {
            multitenancy_enabled: true,
            ..ApiSettings::default()
        },
        ..DoorParts::default()
    };
    let nobody = Order::id(1).send(&Door::with(parts).await).await;
    assert_eq!(nobody.grpc_status().0, 16);
}
