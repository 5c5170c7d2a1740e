use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::promql::parse;

fn sharded(query: &str) -> Option<(String, Vec<Vec<String>>)> {
    let sharded = shard_query(&parse(query).unwrap(), 2)?;
    let text = |leg: &Vec<Expr>| leg.iter().map(ToString::to_string).collect();
    // What goes over the wire is text.
    assert_eq!(
        parse(&sharded.outer.to_string()).unwrap().to_string(),
        sharded.outer.to_string()
    );
    Some((
        sharded.outer.to_string(),
        sharded.legs.iter().map(text).collect(),
    ))
}

#[test]
fn aggregations_are_cut_and_the_rest_is_asked_whole() {
    let (outer, legs) =
        sharded("histogram_quantile(0.9, sum by (le) (rate(x{a=\"b\"}[5m])))").unwrap();
    assert_eq!(
        outer,
        "histogram_quantile(0.9, sum by (le) (__embedded__{__leg__=\"0\"}))"
    );
    let wanted = [
        "sum by (le) (rate(x{__query_shard__=\"1_of_2\",a=\"b\"}[5m]))",
        "sum by (le) (rate(x{__query_shard__=\"2_of_2\",a=\"b\"}[5m]))",
    ];
    assert_eq!(legs, [wanted]);

    let (outer, legs) = sharded("count without (a) (x > 1) + on (b) y").unwrap();
    assert_eq!(
        outer,
        "sum without (a, __query_shard__) (__embedded__{__leg__=\"0\"}) + on (b) __embedded__{__leg__=\"1\"}"
    );
    assert_eq!(
        legs[0][1],
        "count without (a) (x{__query_shard__=\"2_of_2\"} > 1)"
    );
    assert_eq!(legs[1], ["y"]);

    let (outer, legs) = sharded("avg(abs(x)) * scalar(y)").unwrap();
    assert_eq!(
        outer,
        "(sum(__embedded__{__leg__=\"0\"}) / sum(__embedded__{__leg__=\"1\"})) * scalar(__embedded__{__leg__=\"2\"})"
    );
    assert_eq!((legs.len(), legs[2].len()), (3, 1));

    let (outer, _) = sharded("topk(3, sum by (a) (x)) or topk(2, max by (a) (y))").unwrap();
    assert_eq!(
        outer,
        "topk(3, sum by (a) (__embedded__{__leg__=\"0\"})) or topk(2, max by (a) (__embedded__{__leg__=\"1\"}))"
    );
    // Only the inner one is over plain series.
    let (outer, legs) = sharded("sum(max by (a) (x))").unwrap();
    assert_eq!(outer, "sum(max by (a) (__embedded__{__leg__=\"0\"}))");
    assert_eq!(legs.len(), 1);
}

#[test]
fn what_cannot_be_cut_stays() {
    for query in [
        "x",
        "topk(3, x)",
        "stddev(x)",
        "sum(x + y)",
        "sum(x and y)",
        "sum(absent(x))",
        "sum(label_replace(x, \"a\", \"b\", \"c\", \"d\"))",
        "sum(histogram_quantile(0.9, x))",
        "sum(vector(1))",
        "sum(hour())",
        "sum(x * scalar(y))",
        "sum(rate({a=\"b\"}[5m]))",
        "sum(x{__query_shard__=\"1_of_2\"})",
        "avg by (__name__) (x)",
        "max_over_time(sum(x)[1h:5m])",
        "1 + 2",
    ] {
        assert_eq!(sharded(query), None, "{query}");
    }
    assert!(shard_query(&parse("sum(x)").unwrap(), 1).is_none());
}

type Sample = (BTreeMap<String, String>, f64);

/// As much of the language as is needed to see that shards change nothing: floats at one time.
struct Evaluator<'a> {
    data: &'a [Sample],
    legs: Vec<Vec<Vec<Sample>>>,
}

impl Evaluator<'_> {
    fn select(&self, s: &VectorSelector) -> Vec<Sample> {
        let value = |name: &str| {
            s.matchers
                .iter()
                .find(|m| m.name() == name)
                .map(Matcher::value)
        };
        if s.name == EMBEDDED_METRIC {
            let leg = &self.legs[value(LEG_LABEL).unwrap().parse::<usize>().unwrap()];
            let marked = leg.iter().enumerate().flat_map(|(n, part)| {
                part.iter().map(move |(labels, v)| {
                    let mut labels = labels.clone();
                    if leg.len() > 1 {
                        labels.insert(QUERY_SHARD_LABEL.into(), n.to_string());
                    }
                    (labels, *v)
                })
            });
            return marked.collect();
        }
        let shard = value(QUERY_SHARD_LABEL).map(|v| v.split_once("_of_").unwrap());
        let shard =
            shard.map(|(i, n)| (i.parse::<usize>().unwrap() - 1, n.parse::<usize>().unwrap()));
        let all = self.data.iter().enumerate();
        let own = all.filter(|(n, (labels, _))| {
            let in_shard = shard.is_none_or(|(i, of)| n * 7 % of == i);
            in_shard
                && s.matchers
                    .iter()
                    .filter(|m| m.name() != QUERY_SHARD_LABEL)
                    .all(|m| m.matches(labels.get(m.name()).map_or("", String::as_str)))
        });
        own.map(|(_, sample)| sample.clone()).collect()
    }

    fn eval(&self, expr: &Expr) -> Vec<Sample> {
        let nameless = |(mut labels, v): Sample, f: &dyn Fn(f64) -> f64| {
            labels.remove(METRIC_NAME);
            (labels, f(v))
        };
        match expr {
            Expr::Vector(s) => self.select(s),
            Expr::Paren(e) => self.eval(&e.expr),
            Expr::Unary(e) => self
                .eval(&e.expr)
                .into_iter()
                .map(|s| nameless(s, &|v| -v))
                .collect(),
            Expr::Call(c) => self
                .eval(&c.args[0])
                .into_iter()
                .map(|s| nameless(s, &f64::abs))
                .collect(),
            Expr::Aggregate(a) => self.aggregate(a),
            Expr::Binary(b) => match (&*b.lhs, &*b.rhs) {
                (lhs, Expr::Number(n)) => {
                    let n = n.value;
                    self.eval(lhs)
                        .into_iter()
                        .map(|s| nameless(s, &|v| v * n))
                        .collect()
                }
                (lhs, rhs) => {
                    let (lhs, rhs) = (self.eval(lhs), self.eval(rhs));
                    let pairs = lhs.into_iter().filter_map(|(mut labels, v)| {
                        labels.remove(METRIC_NAME);
                        let (_, w) = rhs.iter().find(|(other, _)| {
                            let mut other = other.clone();
                            other.remove(METRIC_NAME);
                            other == labels
                        })?;
                        Some((labels, v / w))
                    });
                    pairs.collect()
                }
            },
            other => unreachable!("the test does not make {other}"),
        }
    }

    fn aggregate(&self, a: &Aggregate) -> Vec<Sample> {
        let mut groups: BTreeMap<BTreeMap<String, String>, Vec<f64>> = BTreeMap::new();
        for (mut labels, v) in self.eval(&a.expr) {
            let listed = |l: &String| a.grouping.contains(l);
            labels.retain(|l, _| {
                if a.without {
                    !listed(l) && l != METRIC_NAME
                } else {
                    listed(l)
                }
            });
            groups.entry(labels).or_default().push(v);
        }
        let fold = |values: Vec<f64>| match a.op {
            AggregateOp::Sum => values.iter().sum(),
            AggregateOp::Count => values.len() as f64,
            AggregateOp::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            AggregateOp::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            AggregateOp::Avg => values.iter().sum::<f64>() / values.len() as f64,
            _ => 1.0,
        };
        groups
            .into_iter()
            .map(|(labels, values)| (labels, fold(values)))
            .collect()
    }
}

proptest! {
    #[test]
    fn shards_change_nothing(
        data in prop::collection::btree_map(("[xy]", "[ab]?", "[cd]?"), -1000i32..1000, 0..16),
        op in proptest::sample::select(&["sum", "count", "min", "max", "avg", "group"][..]),
        grouping in proptest::sample::select(&["", "by (a)", "by (a, b)", "without (a)", "without ()", "by (zone)"][..]),
        inner in proptest::sample::select(&["x", "abs(x)", "-(x)", "x * 3", "{b!=\"\"}", "(x{a=\"b\"})"][..]),
        around in proptest::sample::select(&["", " / y", " * 2"][..]),
        shards in 2u32..6,
    ) {
        let data: Vec<Sample> = data.into_iter().map(|((name, a, b), v)| {
            let labels = [(METRIC_NAME, name), ("a", a), ("b", b)];
            let labels = labels.into_iter().filter(|(_, v)| !v.is_empty());
            (labels.map(|(n, v)| (n.to_owned(), v)).collect(), f64::from(v))
        }).collect();
        let expr = parse(&format!("{op} {grouping} ({inner}){around}")).unwrap();
        let plain = Evaluator { data: &data, legs: Vec::new() };
        let sharded = shard_query(&expr, shards).unwrap();
        let legs = sharded.legs.iter().map(|leg| leg.iter().map(|e| plain.eval(e)).collect()).collect();
        let got = Evaluator { data: &[], legs }.eval(&sharded.outer);
        let wanted = plain.eval(&expr);
        // NaN equals nothing, so values are compared as they are written.
        let shown = |samples: &[Sample]| -> BTreeMap<_, _> {
            samples.iter().map(|(labels, v)| (labels.clone(), v.to_string())).collect()
        };
        prop_assert_eq!(got.len(), wanted.len());
        prop_assert_eq!(shown(&got), shown(&wanted), "{}", sharded.outer);
    }
}
