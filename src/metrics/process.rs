//! Metrics of the process, under the names that all Prometheus clients use. They are available on Linux only.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Collector that reads the metrics of the process at each scrape.
#[derive(Debug)]
pub struct Process;

/// Values from `/proc/self/stat`, counted from the end of the process name, which may contain any character.
struct Stat {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        // `fields` starts with field 3, the state, which follows the name.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let (ticks, page) = (clock_ticks_per_second() as f64, page_size() as f64);
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_seconds: boot_time()? + field(22)? / ticks,
            resident_bytes: field(24)? * page,
        })
    }
}

/// Returns the boot time of the system in seconds since 1970, or `None` if it cannot be read.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.parse().ok()
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn open_files() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    // The folder itself is open during the count, and is not counted.
    Some(open.count().saturating_sub(1) as f64)
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn max_files() -> Option<f64> {
    getrlimit(Resource::Nofile).current.map(|max| max as f64)
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(stat) = Stat::read() else {
            return Ok(());
        };
        let cpu = encoder.encode_descriptor(
            "process_cpu",
            "CPU time of the process",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        ConstCounter::new(stat.cpu_seconds).encode(cpu)?;
        let gauges = [
            (
                "process_start_time",
                "Start time of the process, in seconds since 1970",
                Some(&Unit::Seconds),
                Some(stat.start_seconds),
            ),
            (
                "process_resident_memory",
                "Resident memory of the process",
                Some(&Unit::Bytes),
                Some(stat.resident_bytes),
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                None,
                open_files(),
            ),
            (
                "process_max_fds",
                "Limit of open file descriptors",
                None,
                max_files(),
            ),
        ];
        for (name, help, unit, value) in gauges {
            if let Some(value) = value {
                let gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
                ConstGauge::new(value).encode(gauge)?;
            }
        }
        Ok(())
    }
}
