//! OTLP logs: one stream a resource, its attributes labels or structured metadata by the tenant's rules. See `docs/format/push.md`.

mod logs;
mod rules;
mod schema;

pub use logs::decode_otlp;
pub use rules::{AttributeAction, AttributePattern, AttributeRule, OtlpRules, ResourceRules};
pub use schema::REQUEST;
