//! The frame around the points: a metric, as borrowed bytes.

use lgtm_core::DecodeError;
use lgtm_core::codec::Reader;
use lgtm_core::codec::protobuf::{bytes_tag, skip, varint_tag};
use lgtm_core::otlp::submessages;

/// What kind of points a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

/// What a point counts since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Temporality {
    #[default]
    Unspecified,
    Delta,
    Cumulative,
}

/// One metric, its points not looked into yet.
#[derive(Debug)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) unit: &'a str,
    /// `None` when the metric has no points of a kind that is known.
    pub(super) kind: Option<MetricKind>,
    pub(super) temporality: Temporality,
    pub(super) is_monotonic: bool,
    pub(super) point_count: u64,
    data: &'a [u8],
}

impl<'a> Metric<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut out = Self {
            name: "",
            description: "",
            unit: "",
            kind: None,
            temporality: Temporality::Unspecified,
            is_monotonic: false,
            point_count: 0,
            data: &[],
        };
        let mut r = Reader::new("metric", bytes);
        while !r.is_empty() {
            let tag = r.uvarint()?;
            let kind = match tag {
                _ if tag == bytes_tag(5) => MetricKind::Gauge,
                _ if tag == bytes_tag(7) => MetricKind::Sum,
                _ if tag == bytes_tag(9) => MetricKind::Histogram,
                _ if tag == bytes_tag(10) => MetricKind::Exponential,
                _ if tag == bytes_tag(11) => MetricKind::Summary,
                _ => {
                    match tag {
                        _ if tag == bytes_tag(1) => out.name = r.str()?,
                        _ if tag == bytes_tag(2) => out.description = r.str()?,
                        _ if tag == bytes_tag(3) => out.unit = r.str()?,
                        _ => skip(&mut r, tag)?,
                    }
                    continue;
                }
            };
            (out.kind, out.data) = (Some(kind), r.bytes()?);
        }
        out.data_fields()?;
        Ok(out)
    }

    /// What stands beside the points; it may stand behind them.
    fn data_fields(&mut self) -> Result<(), DecodeError> {
        let mut r = Reader::new("metric data", self.data);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => {
                    r.bytes()?;
                    self.point_count += 1;
                }
                tag if tag == varint_tag(2) => {
                    self.temporality = match r.uvarint()? {
                        1 => Temporality::Delta,
                        2 => Temporality::Cumulative,
                        _ => Temporality::Unspecified,
                    }
                }
                tag if tag == varint_tag(3) => self.is_monotonic = r.uvarint()? != 0,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }

    pub(super) fn points(&self) -> impl Iterator<Item = Result<&'a [u8], DecodeError>> + use<'a> {
        submessages("metric data", self.data, 1)
    }

    /// Whether its points count from a start: those of gauges and summaries have no temporality.
    pub(super) fn counts(&self) -> bool {
        matches!(
            self.kind,
            Some(MetricKind::Sum | MetricKind::Histogram | MetricKind::Exponential)
        )
    }
}
