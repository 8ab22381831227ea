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
    Amount, close,
    windows::{Trouble, turn},
};
use crate::{
    baseline::Baseline,
    environment::{Environment, Settings, TARGETS},
    figures::judge,
    health::{Health, Recovery},
    load::{Crowd, LATE, LEFT, Load, Told},
    log::Log,
    reconcile::tell_kinds,
};

/// Maximum time until a target is healthy after a fault.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Maximum time to wait until a target is healthy after a fault.
const GIVE_UP: Duration = Duration::from_secs(30);
/// Time after which calls must fail while the audit log fails.
const AUDIT_PATIENCE: Duration = Duration::from_secs(1);

/// Results of all windows with the same kind of fault.
#[derive(Default)]
struct Seen {
    /// Number of windows.
    windows: u32,
    /// The longest recovery. `None` if the fault affects no target, or if no target recovered.
    recovery: Option<Recovery>,
    /// Number of targets that did not recover.
    never: u32,
}

#[derive(Default)]
struct Schedule {
    seen: BTreeMap<String, Seen>,
    /// Start and end of each window in which the audit log failed.
    unrecordable: Vec<(Instant, Instant)>,
}

pub async fn run(amount: &Amount) -> bool {
    let (deadline, until) = (amount.deadline(), Instant::now() + amount.time(60));
    let settings = Settings {
        latency: Duration::from_millis(2),
        slow: deadline / 6,
        token_life: Duration::from_secs(10),
        ..Settings::default()
    };
    let environment = Environment::start(&settings);
    let health = Arc::new(Health::new());
    let load = Arc::new(Load {
        leave: true,
        health: Some(Arc::clone(&health)),
        ..Load::new(deadline)
    });
    let crowd = Crowd {
        targets: &[0, 1, 2, 3],
        callers: amount.callers.unwrap_or(32),
        rate: amount.rate.unwrap_or(400.0),
        strict: false,
    };
    println!(
        "faults: {} callers of {TARGETS:?}, {} calls/s, each fault for {} ms",
        crowd.callers, crowd.rate, amount.window_ms
    );
    let stop = CancellationToken::new();
    let callers = load.start(&environment, &crowd, &stop);
    let baseline = Baseline::start(&environment.folder, &stop);
    sleep(Duration::from_secs(1)).await;
    let mut log = Log::new(&environment.folder);
    let mut schedule = Schedule::default();
    // Completes at least one pass regardless of the time, then continues until the time is over.
    let windows = (0..).flat_map(|pass| turn(pass).into_iter().map(move |window| (pass, window)));
    for (_, window) in windows.take_while(|(pass, _)| *pass == 0 || Instant::now() < until) {
        schedule
            .go_through(&window, &environment, &mut log, &health, amount)
            .await;
    }
    stop.cancel();
    let told = callers.join_all().await.concat();
    tell_kinds(&told);
    tell_requests(&environment, &told);
    let longest_sync = baseline.tell().await;
    let mut good = schedule.tell();
    good &= tell_relapses(&health, longest_sync);
    good &= schedule.tell_unrecordable(&told);
    close(environment, log, &told, deadline, good)
}

impl Schedule {
    /// Runs one window, and waits until the targets have recovered.
    async fn go_through(
        &mut self,
        window: &[Trouble],
        environment: &Environment,
        log: &mut Log,
        health: &Health,
        amount: &Amount,
    ) {
        let mut time = Duration::from_millis(amount.window_ms);
        let harmed: Vec<usize> = window
            .iter()
            .flat_map(|trouble| trouble.harms())
            .copied()
            .collect();
        let unrecordable = matches!(window, [Trouble::Audit(_)]);
        if unrecordable {
            time = time.max(AUDIT_PATIENCE * 2);
        }
        for target in &harmed {
            health.fault(*target);
        }
        let names: Vec<_> = window.iter().map(ToString::to_string).collect();
        let names = names.join(" and ");
        health.set_window(names.clone());
        for trouble in window {
            trouble.begin(environment, log);
        }
        let begun = Instant::now();
        sleep(time).await;
        if unrecordable {
            self.unrecordable.push((begun, Instant::now()));
        }
        for trouble in window {
            trouble.end(environment, log);
        }
        for target in &harmed {
            health.mend(*target);
        }
        health.set_window(format!("the time after {names}"));
        let ended = Instant::now();
        while ended.elapsed() < GIVE_UP
            && harmed
                .iter()
                .any(|target| health.recovery(*target).is_none())
        {
            sleep(Duration::from_millis(20)).await;
        }
        for trouble in window {
            let seen = self.seen.entry(trouble.to_string()).or_default();
            seen.windows += 1;
            for target in trouble.harms() {
                seen.note(health.recovery(*target));
            }
        }
        sleep((time / 3).max(Duration::from_millis(100))).await;
    }

    fn tell(&self) -> bool {
        println!(
            "after each fault, until the first success, and until the first of 20 in a row; the longest ones:"
        );
        let mut good = true;
        for (name, seen) in &self.seen {
            let name = format!("{name:22} {:>3} times", seen.windows);
            let Some(Recovery { first, full }) = seen.recovery else {
                let text = if seen.never == 0 {
                    "no call may fail of it"
                } else {
                    "never"
                };
                good &= judge(seen.never == 0, &format!("{name}  {text}"));
                continue;
            };
            let never = if seen.never == 0 {
                ""
            } else {
                ", and once or more never"
            };
            let text = format!("{name}  {first:>7.1?}  {full:>7.1?}{never}");
            good &= judge(seen.never == 0 && full <= HEALTHY_AFTER, &text);
        }
        good
    }

    /// Checks that no call is admitted while it cannot be recorded. `reconcile` checks that no request was sent either.
    fn tell_unrecordable(&self, told: &[Told]) -> bool {
        let (mut refused, mut others) = (0, 0);
        for (begun, ended) in &self.unrecordable {
            let calls = told.iter().filter(|told| {
                told.begun > *begun + AUDIT_PATIENCE
                    && told.ended() < *ended
                    && ![LEFT, LATE].contains(&told.outcome)
            });
            for told in calls {
                if told.reason == ErrorReason::AuditUnavailable.as_str_name() {
                    refused += 1;
                } else {
                    others += 1;
                }
            }
        }
        let text = format!(
            "while the audit log failed, 1 s after the beginning: {refused} calls refused, {others} not"
        );
        judge(others == 0, &text)
    }
}

impl Seen {
    fn note(&mut self, recovery: Option<Recovery>) {
        let Some(Recovery { first, full }) = recovery else {
            self.never += 1;
            return;
        };
        let longest = self.recovery.get_or_insert(Recovery { first, full });
        longest.first = longest.first.max(first);
        longest.full = longest.full.max(full);
    }
}

fn tell_requests(environment: &Environment, told: &[Told]) {
    let deletes = (0..TARGETS.len()).map(|target| {
        let book = environment.users(target).book();
        book.values().map(|done| done.asked).sum::<u32>()
    });
    let deletes = f64::from(deletes.sum::<u32>());
    let calls = f64::from(u32::try_from(told.len()).unwrap());
    println!("{deletes:>10}  DELETEs: {:.2} a call", deletes / calls);
}

fn tell_relapses(health: &Health, longest_sync: Duration) -> bool {
    let mut kinds: BTreeMap<_, (u32, Duration)> = BTreeMap::new();
    let (mut bad, mut stalled) = (0, 0);
    for (told, window) in health.relapses() {
        let kind = (window, TARGETS[told.target], told.outcome, told.reason);
        let seen = kinds.entry(kind).or_default();
        *seen = (seen.0 + 1, seen.1.max(told.took));
        // If the disk hangs, the audit log hangs as well. This is not a fault of the server.
        let unavailable = told.reason == ErrorReason::AuditUnavailable.as_str_name();
        if unavailable && longest_sync > AUDIT_PATIENCE / 2 {
            stalled += 1;
        } else {
            bad += 1;
        }
    }
    for ((window, target, outcome, reason), (count, longest)) in kinds.into_iter().take(20) {
        let what = format!("{outcome} {reason}, after {longest:.1?} at most");
        println!("  {count} calls of {target} during {window}: {what}");
    }
    let text = format!(
        "{bad} calls failed of a target that had no fault and was healthy, and {stalled} because the machine's own disk \
         hung"
    );
    judge(bad == 0, &text)
}
