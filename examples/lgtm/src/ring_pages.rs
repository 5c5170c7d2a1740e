//! Pages of the cluster: its rings, and its members.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use lgtm_core::clock::Clock;
use lgtm_ring::http::{RingPage, router as ring_router};
use lgtm_ring::kv::GossipKv;

use crate::modules::{Cluster, RingOfCluster};

/// `/ring` (which rings there are), each at its paths, and `/memberlist`. A process that is alone says so.
pub(crate) fn router(cluster: Option<&Cluster>, clock: &Arc<dyn Clock>) -> Router {
    let rings = cluster.map_or_else(Vec::new, |c| c.rings.clone());
    let mut router = Router::new();
    for ring in &rings {
        for path in ring.paths {
            let page = RingPage {
                name: ring.name.to_owned(),
                ring: ring.ring.clone(),
                store: Some(ring.store.clone()),
                clock: Arc::clone(clock),
            };
            router = router.nest(path, ring_router(page));
        }
    }
    let index = Router::new()
        .route("/ring", get(index))
        .with_state(Arc::new(rings));
    let members = Router::new()
        .route("/memberlist", get(members))
        .with_state(cluster.and_then(|c| c.gossip.clone()));
    router.merge(index).merge(members)
}

async fn index(State(rings): State<Arc<Vec<RingOfCluster>>>) -> Html<String> {
    let mut page = "<!doctype html><title>rings</title><h1>Rings</h1>".to_owned();
    if rings.is_empty() {
        page.push_str("<p>none: this process is all there is (-ring.kvstore)</p>");
    }
    page.push_str("<ul>");
    for ring in rings.iter() {
        let (path, count) = (ring.paths[0], ring.ring.current().len());
        // Writing to a string does not fail.
        let _ = write!(
            page,
            "<li><a href={path}>{}</a>: {count} instances",
            ring.name
        );
    }
    page.push_str("</ul>");
    Html(page)
}

/// One line a member: its name, address, and whether it lives.
async fn members(State(gossip): State<Option<GossipKv>>) -> String {
    let Some(gossip) = gossip else {
        return "members do not gossip (-ring.kvstore)\n".to_owned();
    };
    let mut out = String::new();
    for (node, lives) in gossip.members() {
        let state = if lives { "alive" } else { "dead" };
        let _ = writeln!(out, "{} {} {state}", node.name, node.addr);
    }
    out
}
