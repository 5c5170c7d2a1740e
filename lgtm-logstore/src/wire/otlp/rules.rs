//! What becomes of the attributes of OTLP logs.

use std::sync::Arc;

use lgtm_core::re2::{Anchoring, Dot, Re2};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What becomes of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeAction {
    /// A label of the stream. For attributes of log records it gives each value a stream of its own.
    IndexLabel,
    /// Structured metadata of the entries.
    StructuredMetadata,
    /// Nothing.
    Drop,
}

/// A regular expression for whole attribute names.
#[derive(Debug, Clone)]
pub struct AttributePattern {
    text: String,
    pattern: Arc<Re2>,
}

impl AttributePattern {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// `InvalidInput` when it is none.
    pub fn new(text: &str) -> lgtm_core::Result<Self> {
        let pattern = Re2::new(text, Anchoring::Whole, Dot::NotNewline).map_err(|e| {
            lgtm_core::Error::InvalidInput(format!("regex {text:?} of an attribute rule: {e}"))
        })?;
        Ok(Self {
            text: text.to_owned(),
            pattern: Arc::new(pattern),
        })
    }
}

impl PartialEq for AttributePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for AttributePattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for AttributePattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// A rule for some attributes; of several the first that names an attribute counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeRule {
    /// What becomes of them.
    pub action: AttributeAction,
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// A pattern for their whole names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<AttributePattern>,
}

impl AttributeRule {
    fn names(&self, attribute: &str) -> bool {
        let is_listed = self.attributes.iter().any(|a| a == attribute);
        is_listed || (self.regex.as_ref()).is_some_and(|r| r.pattern.is_match(attribute))
    }
}

/// Rules for the attributes of resources.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceRules {
    /// Whether the attributes that usually become labels (`service.name` and the like) do not. Off (default), as in Loki.
    pub ignore_defaults: bool,
    /// Rules that come before those. None (default).
    pub attributes_config: Vec<AttributeRule>,
}

/// Rules for all attributes. What no rule names becomes structured metadata, but for the resource attributes that usually become labels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpRules {
    /// For those of resources.
    pub resource_attributes: ResourceRules,
    /// For those of scopes; they cannot become labels.
    pub scope_attributes: Vec<AttributeRule>,
    /// For those of log records.
    pub log_attributes: Vec<AttributeRule>,
    /// Whether the severity text becomes a label. Off (default), as in Loki: it gives each level a stream of its own.
    pub severity_text_as_label: bool,
}

/// Resource attributes that become labels, as in Loki.
const DEFAULT_LABELS: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

fn action_of(rules: &[AttributeRule], attribute: &str) -> Option<AttributeAction> {
    let rule = rules.iter().find(|r| r.names(attribute));
    rule.map(|r| r.action)
}

impl OtlpRules {
    pub(super) fn of_resource(&self, attribute: &str) -> AttributeAction {
        let rules = &self.resource_attributes;
        let is_label = || !rules.ignore_defaults && DEFAULT_LABELS.contains(&attribute);
        action_of(&rules.attributes_config, attribute).unwrap_or_else(|| {
            if is_label() {
                AttributeAction::IndexLabel
            } else {
                AttributeAction::StructuredMetadata
            }
        })
    }

    pub(super) fn of_scope(&self, attribute: &str) -> AttributeAction {
        match action_of(&self.scope_attributes, attribute) {
            Some(AttributeAction::Drop) => AttributeAction::Drop,
            _ => AttributeAction::StructuredMetadata,
        }
    }

    pub(super) fn of_log(&self, attribute: &str) -> AttributeAction {
        action_of(&self.log_attributes, attribute).unwrap_or(AttributeAction::StructuredMetadata)
    }

    /// Whether attributes of a record may become labels.
    pub(super) fn may_split(&self) -> bool {
        let mut rules = self.log_attributes.iter();
        self.severity_text_as_label || rules.any(|r| r.action == AttributeAction::IndexLabel)
    }
}
