//! Names of the methods.

/// Those of whoever holds data.
#[derive(Debug)]
pub(super) struct SelectMethods {
    pub(super) select: &'static str,
    pub(super) series: &'static str,
    pub(super) label_names: &'static str,
    pub(super) label_values: &'static str,
}

pub(super) const INGESTER: SelectMethods = SelectMethods {
    select: "lgtm.metrics.v1.Ingester/Select",
    series: "lgtm.metrics.v1.Ingester/Series",
    label_names: "lgtm.metrics.v1.Ingester/LabelNames",
    label_values: "lgtm.metrics.v1.Ingester/LabelValues",
};

pub(super) const STORE_GATEWAY: SelectMethods = SelectMethods {
    select: "lgtm.metrics.v1.StoreGateway/Select",
    series: "lgtm.metrics.v1.StoreGateway/Series",
    label_names: "lgtm.metrics.v1.StoreGateway/LabelNames",
    label_values: "lgtm.metrics.v1.StoreGateway/LabelValues",
};

pub(super) const PUSH: &str = "lgtm.metrics.v1.Ingester/Push";
pub(super) const METADATA: &str = "lgtm.metrics.v1.Ingester/Metadata";
pub(super) const EXEMPLARS: &str = "lgtm.metrics.v1.Ingester/Exemplars";
pub(super) const LABEL_NAMES_CARDINALITY: &str = "lgtm.metrics.v1.Ingester/LabelNamesCardinality";
pub(super) const LABEL_VALUES_CARDINALITY: &str = "lgtm.metrics.v1.Ingester/LabelValuesCardinality";
pub(super) const ACTIVE_SERIES: &str = "lgtm.metrics.v1.Ingester/ActiveSeries";
pub(super) const ACTIVE_HISTOGRAMS: &str = "lgtm.metrics.v1.Ingester/ActiveHistograms";
pub(super) const HEAD_STATS: &str = "lgtm.metrics.v1.Ingester/HeadStats";
pub(super) const TENANT_STATS: &str = "lgtm.metrics.v1.Ingester/TenantStats";
