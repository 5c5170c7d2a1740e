//! A ring as a page without scripts.

use std::fmt::Write;

use crate::status::{InstanceStatus, RingStatus};

const HEAD: &str = "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>Ring</title><style>\
body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}\
th,td{padding:.3em .8em;border:1px solid #ccc;text-align:left}td.n{text-align:right}\
tr.UNHEALTHY{background:#fdd}tr.LEAVING,tr.PENDING,tr.JOINING{background:#ffd}\
</style></head><body>";

impl RingStatus {
    /// The page of the ring called `name`. Each line has a button that posts `forget=<id>` to the page's own address.
    pub fn to_html(&self, name: &str, show_tokens: bool) -> String {
        let mut html = String::from(HEAD);
        // Writing to a string does not fail.
        let _ = write!(
            html,
            "<h1>{} ring</h1><p>{} instances at {}</p><form method=\"POST\"><table><tr>",
            escape(name),
            self.shards.len(),
            self.now
        );
        for title in [
            "Instance",
            "State",
            "Zone",
            "Address",
            "Registered",
            "Read-only",
            "Last heartbeat",
            "Tokens",
            "Ownership",
            "",
        ] {
            let _ = write!(html, "<th>{title}</th>");
        }
        html.push_str("</tr>");
        self.shards.iter().for_each(|line| row(&mut html, line));
        html.push_str("</table></form>");
        if show_tokens {
            for line in &self.shards {
                let tokens: Vec<_> = line.tokens.iter().map(ToString::to_string).collect();
                let _ = write!(html, "<h2>{}</h2><p>", escape(&line.id));
                html.push_str(&tokens.join(" "));
                html.push_str("</p>");
            }
        } else {
            html.push_str("<p><a href=\"?tokens=true\">Show tokens</a></p>");
        }
        html.push_str("</body></html>");
        html
    }
}

fn row(html: &mut String, line: &InstanceStatus) {
    let read_only = match (line.read_only, line.read_only_updated_timestamp.as_str()) {
        (true, since) => format!("yes, since {since}"),
        (false, "") => "no".to_owned(),
        (false, since) => format!("no, since {since}"),
    };
    let id = escape(&line.id);
    let _ = write!(
        html,
        "<tr class=\"{state}\"><td>{id}</td><td>{state}</td><td>{zone}</td><td>{addr}</td><td>{registered}</td><td>{read_only}</td>\
         <td>{age} s ago</td><td class=\"n\">{tokens}</td><td class=\"n\">{share:.1}%</td>\
         <td><button name=\"forget\" value=\"{id}\">Forget</button></td></tr>",
        state = line.state,
        zone = escape(&line.zone),
        addr = escape(&line.address),
        registered = line.registered_timestamp,
        age = line.heartbeat_age_seconds,
        tokens = line.tokens.len(),
        share = line.ownership * 100.0,
    );
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
