//! Names of the methods.

/// Those of whoever holds logs.
#[derive(Debug)]
pub(super) struct SelectMethods {
    pub(super) select: &'static str,
    pub(super) series: &'static str,
    pub(super) label_names: &'static str,
    pub(super) label_values: &'static str,
    pub(super) volumes: &'static str,
}

pub(super) const INGESTER: SelectMethods = SelectMethods {
    select: "lgtm.logs.v1.Ingester/Select",
    series: "lgtm.logs.v1.Ingester/Series",
    label_names: "lgtm.logs.v1.Ingester/LabelNames",
    label_values: "lgtm.logs.v1.Ingester/LabelValues",
    volumes: "lgtm.logs.v1.Ingester/Volumes",
};

pub(super) const INDEX_GATEWAY: SelectMethods = SelectMethods {
    select: "lgtm.logs.v1.IndexGateway/Select",
    series: "lgtm.logs.v1.IndexGateway/Series",
    label_names: "lgtm.logs.v1.IndexGateway/LabelNames",
    label_values: "lgtm.logs.v1.IndexGateway/LabelValues",
    volumes: "lgtm.logs.v1.IndexGateway/Volumes",
};

pub(super) const PUSH: &str = "lgtm.logs.v1.Ingester/Push";
pub(super) const PATTERNS: &str = "lgtm.logs.v1.Ingester/Patterns";
pub(super) const TAIL: &str = "lgtm.logs.v1.Ingester/Tail";
