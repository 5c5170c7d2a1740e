//! How fast are set operations over postings? Goal: under 20 ns per id of the union of 100 lists; about 1 ns per id of the longer list when
//! it is intersected with a tenth or loses one, and nearly nothing when the other list is short.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::postings::{
    List, Postings, intersect, intersect_slices, subtract, subtract_slice, union,
};

const SERIES: u64 = 1_000_000;

fn every(step: u64, offset: u64) -> Vec<u64> {
    (offset..SERIES).step_by(step as usize).collect()
}

fn sum(postings: impl Postings<Id = u64>) -> u64 {
    postings.ids().fold(0, u64::wrapping_add)
}

fn benches(c: &mut Criterion) {
    let all = every(1, 0);
    let list = |ids: &'static [u64]| List::from_ascending(ids);
    let leak = |ids: Vec<u64>| -> &'static [u64] { ids.leak() };
    let (all, half, tenth, rare) = (
        leak(all),
        leak(every(2, 0)),
        leak(every(10, 0)),
        leak(every(10_007, 3)),
    );
    let shards: Vec<&'static [u64]> = (0..100).map(|i| leak(every(100, i))).collect();
    let mut group = c.benchmark_group("postings");
    group.throughput(Throughput::Elements(SERIES));
    group.bench_function("intersect half of a million with a tenth", |b| {
        b.iter(|| sum(intersect(vec![list(black_box(half)), list(tenth)])));
    });
    group.bench_function("intersect a million with a hundred", |b| {
        b.iter(|| sum(intersect(vec![list(black_box(all)), list(rare)])));
    });
    group.bench_function("union of 100 lists of 10 000", |b| {
        b.iter(|| sum(union(black_box(&shards).iter().map(|s| list(s)).collect())));
    });
    group.bench_function("subtract a tenth from a million", |b| {
        b.iter(|| sum(subtract(list(black_box(all)), list(tenth))));
    });
    let short = |ids: &[u64]| ids.iter().map(|&id| id as u32).collect::<Vec<u32>>();
    let (half, tenth) = (short(half), short(tenth));
    group.bench_function("intersect the same half and tenth as slices", |b| {
        b.iter(|| intersect_slices(black_box(&half), &tenth));
    });
    group.bench_function("subtract the tenth from the half as slices", |b| {
        b.iter_batched_ref(
            || half.clone(),
            |from| subtract_slice(from, &tenth),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(postings, benches);
criterion_main!(postings);
