//! The frame around the points: resources, scopes, metrics, as borrowed bytes.

use lgtm_core::DecodeError;
use lgtm_core::codec::protobuf::{bytes_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, DecodeFail, Reader};

/// The metrics of one resource.
#[derive(Debug, Default)]
pub(super) struct ResourceMetrics<'a> {
    pub(super) attributes: Vec<&'a [u8]>,
    pub(super) scopes: Vec<&'a [u8]>,
}

/// The metrics of one instrumentation scope.
#[derive(Debug, Default)]
pub(super) struct ScopeMetrics<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) schema_url: &'a str,
    pub(super) attributes: Vec<&'a [u8]>,
    pub(super) metrics: Vec<&'a [u8]>,
}

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

/// The messages of a field of `message`, in order.
pub(super) fn submessages<'a>(
    what: &'static str,
    message: &'a [u8],
    number: u64,
) -> impl Iterator<Item = Result<&'a [u8], DecodeError>> + use<'a> {
    let mut r = Reader::new(what, message);
    let mut next = move || {
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(number) => return r.bytes().map(Some),
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(None)
    };
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let item = next().transpose();
        failed = matches!(item, Some(Err(_)));
        item
    })
}

impl<'a> ResourceMetrics<'a> {
    pub(super) fn decode(
        bytes: &'a [u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new("resource metrics", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => {
                    for attribute in submessages("resource", r.bytes()?, 1) {
                        allowance.push(&mut out.attributes, attribute?)?;
                    }
                }
                tag if tag == bytes_tag(2) => allowance.push(&mut out.scopes, r.bytes()?)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }
}

impl<'a> ScopeMetrics<'a> {
    pub(super) fn decode(
        bytes: &'a [u8],
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let mut out = Self::default();
        let mut r = Reader::new("scope metrics", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.scope(r.bytes()?, allowance)?,
                tag if tag == bytes_tag(2) => allowance.push(&mut out.metrics, r.bytes()?)?,
                tag if tag == bytes_tag(3) => out.schema_url = r.str()?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }

    fn scope(&mut self, bytes: &'a [u8], allowance: &mut Allowance<'_>) -> Result<(), DecodeFail> {
        let mut r = Reader::new("scope", bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => self.name = r.str()?,
                tag if tag == bytes_tag(2) => self.version = r.str()?,
                tag if tag == bytes_tag(3) => allowance.push(&mut self.attributes, r.bytes()?)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    }
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
