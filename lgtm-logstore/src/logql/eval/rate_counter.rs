//! The rate of a counter, with resets and edges as Prometheus has them.

/// Increase per second of a counter within `(start_ns, end_ns]`; samples in time order. Fewer than two give 0.
pub(super) fn rate_counter(samples: &[(i64, f64)], start_ns: i64, end_ns: i64) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return 0.0;
    };
    if samples.len() < 2 {
        return 0.0;
    }
    let mut increase = last.1 - first.1;
    for pair in samples.windows(2) {
        if pair[1].1 < pair[0].1 {
            increase += pair[0].1;
        }
    }
    let seconds = |ns: i64| ns as f64 / 1e9;
    let mut to_start = seconds(first.0 - start_ns);
    let to_end = seconds(end_ns - last.0);
    let sampled = seconds(last.0 - first.0);
    let average = sampled / (samples.len() - 1) as f64;
    if increase > 0.0 && first.1 >= 0.0 {
        // A counter was not below zero.
        to_start = to_start.min(sampled * (first.1 / increase));
    }
    let near = average * 1.1;
    let edge = |distance: f64| {
        if distance < near {
            distance
        } else {
            average / 2.0
        }
    };
    let covered = sampled + edge(to_start) + edge(to_end);
    increase * (covered / sampled) / seconds(end_ns - start_ns)
}
