//! How long each stage of a request takes by itself: `cargo bench --bench micro`. The end-to-end figures,
//! which are what counts, are `benches/compare`'s; what is gated are instructions (`instructions.rs`).

mod stages;

use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn micro(criterion: &mut Criterion) {
    // A memory file system would hide what appends cost.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for stage in stages::stages(target) {
        let mut group = criterion.benchmark_group("stages");
        if stage.times > 1 {
            group.throughput(Throughput::Elements(stage.times.into())).sample_size(20);
        }
        let size = if stage.times > 1 { BatchSize::PerIteration } else { BatchSize::SmallInput };
        group.bench_function(stage.name, |bencher| {
            bencher.iter_batched(&stage.prepare, |work| work(), size);
        });
    }
}

fn quick() -> Criterion {
    let criterion = Criterion::default();
    criterion.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = quick();
    targets = micro
}
criterion_main!(benches);
