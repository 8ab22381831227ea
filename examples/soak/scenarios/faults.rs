//! Load during a schedule of faults, followed by a comparison of all records.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use useradmin::proto::ErrorReason;

use super::{
    LoadOptions, finish,
    windows::{FaultKind, windows_of_pass},
};
use crate::{
    baseline::Baseline,
    environment::{Environment, Settings, TARGETS},
    figures::print_result,
    health::{Health, Recovery},
    load::{CANCELLED, CallResult, CallerGroup, LATE, Load},
    log::Log,
    reconcile::print_outcomes,
};

/// Recovery time required to pass.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Time after which the target counts as never recovered.
const MAX_RECOVERY: Duration = Duration::from_secs(30);
/// Time after which calls must fail while the audit log fails.
const AUDIT_FAILURE_LIMIT: Duration = Duration::from_secs(1);

/// Results of all windows with the same kind of fault.
#[derive(Default)]
struct FaultResults {
    /// Number of windows.
    windows: u32,
    /// The longest recovery. `None` if the fault affects no target, or if no target recovered.
    recovery: Option<Recovery>,
    /// Number of targets that did not recover.
    unrecovered: u32,
}

#[derive(Default)]
struct Schedule {
    results_by_fault: BTreeMap<String, FaultResults>,
    /// Start and end of each window in which the audit log failed.
    audit_outages: Vec<(Instant, Instant)>,
}

pub async fn run(options: &LoadOptions) -> bool {
    let (deadline, until) = (options.deadline(), Instant::now() + options.duration(60));
    let settings = Settings {
        latency: Duration::from_millis(2),
        slow_latency: deadline / 6,
        token_lifetime: Duration::from_secs(10),
        ..Settings::default()
    };
    let environment = Environment::start(&settings);
    let health = Arc::new(Health::new());
    let load = Arc::new(Load {
        cancel_some: true,
        health: Some(Arc::clone(&health)),
        ..Load::new(deadline)
    });
    let group = CallerGroup {
        targets: &[0, 1, 2, 3],
        callers: options.callers.unwrap_or(32),
        rate: options.rate.unwrap_or(400.0),
        fixed_schedule: false,
    };
    println!(
        "faults: {} callers of {TARGETS:?}, {} calls/s, each fault for {} ms",
        group.callers, group.rate, options.window_ms
    );
    let stop = CancellationToken::new();
    let callers = load.start(&environment, &group, &stop);
    let baseline = Baseline::start(&environment.folder, &stop);
    sleep(Duration::from_secs(1)).await;
    let mut log = Log::new(&environment.folder);
    let mut schedule = Schedule::default();
    // Completes at least one pass regardless of the time, then continues until the time is over.
    let windows = (0..).flat_map(|pass| {
        windows_of_pass(pass)
            .into_iter()
            .map(move |window| (pass, window))
    });
    for (_, window) in windows.take_while(|(pass, _)| *pass == 0 || Instant::now() < until) {
        schedule
            .run_window(&window, &environment, &mut log, &health, options)
            .await;
    }
    stop.cancel();
    let results = callers.join_all().await.concat();
    print_outcomes(&results);
    print_requests(&environment, &results);
    let longest_sync = baseline.print().await;
    let mut passed = schedule.print();
    passed &= print_relapses(&health, longest_sync);
    passed &= schedule.check_audit_outages(&results);
    finish(environment, log, &results, deadline, passed)
}

impl Schedule {
    /// Runs one window, and waits until the targets have recovered.
    async fn run_window(
        &mut self,
        faults: &[FaultKind],
        environment: &Environment,
        log: &mut Log,
        health: &Health,
        options: &LoadOptions,
    ) {
        let mut time = Duration::from_millis(options.window_ms);
        let targets: Vec<usize> = faults
            .iter()
            .flat_map(|fault| fault.affected_targets())
            .copied()
            .collect();
        let fails_audit_log = matches!(faults, [FaultKind::Audit(_)]);
        if fails_audit_log {
            time = time.max(AUDIT_FAILURE_LIMIT * 2);
        }
        for target in &targets {
            health.fault(*target);
        }
        let names: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let names = names.join(" and ");
        health.set_window(names.clone());
        for fault in faults {
            fault.begin(environment, log);
        }
        let started = Instant::now();
        sleep(time).await;
        if fails_audit_log {
            self.audit_outages.push((started, Instant::now()));
        }
        for fault in faults {
            fault.end(environment, log);
        }
        for target in &targets {
            health.restore(*target);
        }
        health.set_window(format!("the time after {names}"));
        let ended = Instant::now();
        while ended.elapsed() < MAX_RECOVERY
            && targets
                .iter()
                .any(|target| health.recovery(*target).is_none())
        {
            sleep(Duration::from_millis(20)).await;
        }
        for fault in faults {
            let results = self.results_by_fault.entry(fault.to_string()).or_default();
            results.windows += 1;
            for target in fault.affected_targets() {
                results.record(health.recovery(*target));
            }
        }
        sleep((time / 3).max(Duration::from_millis(100))).await;
    }

    fn print(&self) -> bool {
        println!(
            "after each fault, until the first success, and until the first of 20 in a row; the longest ones:"
        );
        let mut passed = true;
        for (name, results) in &self.results_by_fault {
            let name = format!("{name:22} {:>3} times", results.windows);
            let Some(Recovery { first, full }) = results.recovery else {
                let text = if results.unrecovered == 0 {
                    "no call may fail because of it"
                } else {
                    "never"
                };
                passed &= print_result(results.unrecovered == 0, &format!("{name}  {text}"));
                continue;
            };
            let unrecovered = if results.unrecovered == 0 {
                ""
            } else {
                ", did not recover at least once"
            };
            let text = format!("{name}  {first:>7.1?}  {full:>7.1?}{unrecovered}");
            passed &= print_result(results.unrecovered == 0 && full <= HEALTHY_AFTER, &text);
        }
        passed
    }

    /// Checks that no call is admitted while it cannot be recorded. `reconcile` checks that no request was sent either.
    fn check_audit_outages(&self, results: &[CallResult]) -> bool {
        let (mut refused, mut others) = (0, 0);
        for (started, ended) in &self.audit_outages {
            let calls = results.iter().filter(|result| {
                result.started > *started + AUDIT_FAILURE_LIMIT
                    && result.ended() < *ended
                    && ![CANCELLED, LATE].contains(&result.outcome)
            });
            for result in calls {
                if result.reason == ErrorReason::AuditUnavailable.as_str_name() {
                    refused += 1;
                } else {
                    others += 1;
                }
            }
        }
        let text = format!(
            "while the audit log failed, 1 s after the beginning: {refused} calls refused, {others} not"
        );
        print_result(others == 0, &text)
    }
}

impl FaultResults {
    fn record(&mut self, recovery: Option<Recovery>) {
        let Some(Recovery { first, full }) = recovery else {
            self.unrecovered += 1;
            return;
        };
        let longest = self.recovery.get_or_insert(Recovery { first, full });
        longest.first = longest.first.max(first);
        longest.full = longest.full.max(full);
    }
}

fn print_requests(environment: &Environment, results: &[CallResult]) {
    let deletes = (0..TARGETS.len()).map(|target| {
        let book = environment.users(target).lock();
        book.values().map(|done| done.deletes_received).sum::<u32>()
    });
    let deletes = f64::from(deletes.sum::<u32>());
    let calls = f64::from(u32::try_from(results.len()).unwrap());
    println!("{deletes:>10}  DELETEs: {:.2} a call", deletes / calls);
}

fn print_relapses(health: &Health, longest_sync: Duration) -> bool {
    let mut kinds: BTreeMap<_, (u32, Duration)> = BTreeMap::new();
    let (mut failed, mut stalled) = (0, 0);
    for (result, window) in health.relapses() {
        let kind = (
            window,
            TARGETS[result.target],
            result.outcome,
            result.reason,
        );
        let request = kinds.entry(kind).or_default();
        *request = (request.0 + 1, request.1.max(result.elapsed));
        // If the disk hangs, the audit log hangs as well. This is not a fault of the server.
        let unavailable = result.reason == ErrorReason::AuditUnavailable.as_str_name();
        if unavailable && longest_sync > AUDIT_FAILURE_LIMIT / 2 {
            stalled += 1;
        } else {
            failed += 1;
        }
    }
    for ((window, target, outcome, reason), (count, longest)) in kinds.into_iter().take(20) {
        let description = format!("{outcome} {reason}, after {longest:.1?} at most");
        println!("  {count} calls of {target} during {window}: {description}");
    }
    let text = format!(
        "{failed} calls failed on a healthy target without a fault, and {stalled} because the machine's own disk \
         hung"
    );
    print_result(failed == 0, &text)
}
