//! The workloads on task-supervisor: each service is a task on Tokio's runtime.

use std::sync::Arc;
use std::time::Duration;

use peers::{Crowd, Entry, Flaky, How, Member, Muster, Pairs, Workload};
use task_supervisor::{
    CancellationToken, SupervisedTask, SupervisorBuilder, SupervisorHandle, TaskResult,
};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

fn main() {
    peers::quiet_panics();
    let runtime = Runtime::new().unwrap();
    let on = &runtime;
    match Workload::from_args() {
        Workload::W1 { panics } => flaky(on, How::Panic, panics),
        Workload::W1e { errors } => flaky(on, How::Error, errors),
        Workload::W2 { services, panics } => crowd(on, services, panics),
        Workload::W3 { services } => peers::time_services(
            services,
            || start_idle(on, services),
            |supervisor| on.block_on(supervisor.shutdown()).unwrap(),
        ),
        Workload::W4(pairs) => on.block_on(add_and_remove(pairs)),
        Workload::W5 { services } => {
            let _supervisor = start_idle(on, services);
            peers::stay_idle();
        }
        Workload::W6 => panic!("task-supervisor has no trees"),
    }
}

/// What a service does.
#[derive(Clone)]
enum Job {
    Flaky(Arc<Flaky>, Arc<Notify>),
    Member(Arc<Crowd>, Arc<Member>, watch::Receiver<bool>),
    Idle(Arc<Muster>),
    Pair(Arc<Entry>),
}

impl SupervisedTask for Job {
    async fn run(self, cancel: CancellationToken) -> TaskResult {
        match self {
            Job::Flaky(flaky, woken) => {
                flaky.run()?;
                while cancel.run_until_cancelled(woken.notified()).await.is_some() {
                    flaky.run()?;
                }
            }
            Job::Member(crowd, member, mut gate) => {
                if member.is_first(&crowd) {
                    crowd.at_the_gate.begun();
                    gate.wait_for(|open| *open).await?;
                }
                member.run(&crowd);
                cancel.cancelled().await;
            }
            Job::Idle(muster) => {
                muster.begun();
                cancel.cancelled().await;
            }
            Job::Pair(entry) => {
                entry.runs();
                cancel.cancelled().await;
            }
        }
        Ok(())
    }
}

/// Restarts without end, and with no delay: a timer for "now" is set all the same.
fn unlimited() -> SupervisorBuilder {
    SupervisorBuilder::new()
        .with_unlimited_restarts()
        .with_base_restart_delay(Duration::ZERO)
        .with_restart_jitter(0.0)
}

fn start(runtime: &Runtime, builder: SupervisorBuilder) -> SupervisorHandle {
    let _on = runtime.enter();
    builder.spawn()
}

fn flaky(runtime: &Runtime, how: How, failures: u64) {
    let (flaky, runs) = Flaky::new(how);
    let (flaky, wake) = (Arc::new(flaky), Arc::new(Notify::new()));
    let job = Job::Flaky(flaky.clone(), wake.clone());
    let supervisor = start(runtime, unlimited().with_task("flaky", job));
    flaky.measure(&runs, failures, || wake.notify_one());
    runtime.block_on(supervisor.shutdown()).unwrap();
}

fn crowd(runtime: &Runtime, services: u64, panics: u64) {
    let (crowd, all_done) = Crowd::new(services, panics);
    let (crowd, (open, gate)) = (Arc::new(crowd), watch::channel(false));
    let builder = (0..services).fold(unlimited(), |builder, i| {
        let member = Arc::new(crowd.member());
        let job = Job::Member(crowd.clone(), member, gate.clone());
        builder.with_task(&format!("member{i}"), job)
    });
    let supervisor = start(runtime, builder);
    crowd.measure(&all_done, || open.send(true).unwrap());
    runtime.block_on(supervisor.shutdown()).unwrap();
}

fn start_idle(runtime: &Runtime, services: usize) -> SupervisorHandle {
    let muster = Arc::new(Muster::new(services));
    let builder = (0..services).fold(unlimited(), |builder, i| {
        builder.with_task(&format!("idle{i}"), Job::Idle(muster.clone()))
    });
    let supervisor = start(runtime, builder);
    muster.wait();
    supervisor
}

async fn add_and_remove(load: Pairs) {
    let supervisor = unlimited().spawn();
    load.by_tasks(|client, pairs| {
        let supervisor = supervisor.clone();
        async move {
            let mut ran = 0;
            for i in 0..pairs {
                let entry = Arc::new(Entry::default());
                // A task that was killed keeps its entry, and its name, for good.
                let name = format!("client{client}-{i}");
                let job = Job::Pair(entry.clone());
                supervisor.add_task(&name, job).await.unwrap();
                if load.until_it_runs {
                    entry.wait().await;
                }
                supervisor.kill_task(&name).await.unwrap();
                ran += u64::from(entry.has_run());
            }
            ran
        }
    })
    .await;
    supervisor.shutdown().await.unwrap();
}
