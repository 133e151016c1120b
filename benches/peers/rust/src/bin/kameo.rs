//! The workloads on kameo: each service is an actor, a task on Tokio's runtime, below a supervising
//! actor.

use std::sync::Arc;
use std::time::Duration;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::message::{Context, Message};
use kameo::supervision::RestartPolicy;
use peers::{
    BELOW_EACH, Crowd, Entry, Flaky, How, LEVELS, Member, Muster, Pairs, SUPERVISORS, Workload,
};
use tokio::runtime::Runtime;
use tokio::sync::watch;

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
            |boss| on.block_on(stop(&boss)),
        ),
        Workload::W4(pairs) => on.block_on(add_and_remove(pairs)),
        Workload::W5 { services } => {
            let _boss = start_idle(on, services);
            peers::stay_idle();
        }
        Workload::W6 => peers::time_tree(|| start_tree(on), |tree| on.block_on(stop(&tree))),
    }
}

/// What a service does.
#[derive(Clone)]
enum Job {
    Flaky(Arc<Flaky>),
    Member(Arc<Crowd>, Arc<Member>, watch::Receiver<bool>),
    Idle(Arc<Muster>),
    Pair(Arc<Entry>),
}

impl Job {
    async fn run(&self) -> Result<(), String> {
        match self {
            // kameo's errors are Debug and Clone, ours are boxed.
            Job::Flaky(flaky) => flaky.run().map_err(|e| e.to_string())?,
            Job::Member(crowd, member, gate) => {
                if member.is_first(crowd) {
                    crowd.at_the_gate.begun();
                    let opened = gate.clone().wait_for(|open| *open).await.is_ok();
                    assert!(opened);
                }
                member.run(crowd);
            }
            Job::Idle(muster) => muster.begun(),
            Job::Pair(entry) => entry.runs(),
        }
        Ok(())
    }
}

/// A service.
struct Worker {
    job: Job,
}

impl Actor for Worker {
    type Args = Job;
    type Error = String;

    async fn on_start(job: Job, _: ActorRef<Worker>) -> Result<Worker, String> {
        job.run().await?;
        Ok(Worker { job })
    }
}

struct RunAgain;

impl Message<RunAgain> for Worker {
    type Reply = Result<(), String>;

    async fn handle(&mut self, _: RunAgain, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        self.job.run().await
    }
}

/// A supervising actor. Its strategy is the default: the one that failed restarts.
struct Boss;

impl Actor for Boss {
    type Args = ();
    type Error = Infallible;

    async fn on_start(_: (), _: ActorRef<Boss>) -> Result<Boss, Infallible> {
        Ok(Boss)
    }
}

/// Adds a service that restarts without end after a failure, and not after a stop that was asked for.
async fn add(boss: &ActorRef<Boss>, job: Job) -> ActorRef<Worker> {
    Worker::supervise_with(boss, move || job.clone())
        .restart_policy(RestartPolicy::Transient)
        .restart_limit(u32::MAX, Duration::from_secs(1))
        .spawn()
        .await
}

async fn stop<A: Actor>(actor: &ActorRef<A>) {
    actor.stop_gracefully().await.unwrap();
    actor.wait_for_shutdown().await;
}

async fn boss() -> ActorRef<Boss> {
    let boss = Boss::spawn(());
    boss.wait_for_startup().await;
    boss
}

fn flaky(runtime: &Runtime, how: How, failures: u64) {
    let (flaky, runs) = Flaky::new(how);
    let flaky = Arc::new(flaky);
    let boss = runtime.block_on(boss());
    // The reference stays good over restarts.
    let worker = runtime.block_on(add(&boss, Job::Flaky(flaky.clone())));
    flaky.measure(&runs, failures, || {
        runtime
            .block_on(async { worker.tell(RunAgain).await })
            .unwrap();
    });
    runtime.block_on(stop(&boss));
}

fn crowd(runtime: &Runtime, services: u64, panics: u64) {
    let (crowd, all_done) = Crowd::new(services, panics);
    let (crowd, (open, gate)) = (Arc::new(crowd), watch::channel(false));
    let boss = runtime.block_on(async {
        let boss = boss().await;
        for _ in 0..services {
            let member = Arc::new(crowd.member());
            add(&boss, Job::Member(crowd.clone(), member, gate.clone())).await;
        }
        boss
    });
    crowd.measure(&all_done, || open.send(true).unwrap());
    runtime.block_on(stop(&boss));
}

fn start_idle(runtime: &Runtime, services: usize) -> ActorRef<Boss> {
    let muster = Arc::new(Muster::new(services));
    let boss = runtime.block_on(async {
        let boss = boss().await;
        for _ in 0..services {
            add(&boss, Job::Idle(muster.clone())).await;
        }
        boss
    });
    muster.wait();
    boss
}

async fn add_and_remove(load: Pairs) {
    let boss = boss().await;
    load.by_tasks(|_, pairs| {
        let boss = boss.clone();
        async move {
            let mut ran = 0;
            for _ in 0..pairs {
                let entry = Arc::new(Entry::default());
                let worker = add(&boss, Job::Pair(entry.clone())).await;
                if load.until_it_runs {
                    entry.wait().await;
                }
                stop(&worker).await;
                ran += u64::from(entry.has_run());
            }
            ran
        }
    })
    .await;
    stop(&boss).await;
}

/// A supervising actor with nothing but others of its kind below it.
struct Branch;

impl Actor for Branch {
    type Args = (usize, Arc<Muster>);
    type Error = Infallible;

    async fn on_start(
        (levels, muster): (usize, Arc<Muster>),
        myself: ActorRef<Branch>,
    ) -> Result<Branch, Infallible> {
        let below = if levels > 0 { BELOW_EACH } else { 0 };
        for _ in 0..below {
            let muster = muster.clone();
            Branch::supervise_with(&myself, move || (levels - 1, muster.clone()))
                .spawn()
                .await;
        }
        muster.begun();
        Ok(Branch)
    }
}

fn start_tree(runtime: &Runtime) -> ActorRef<Branch> {
    let muster = Arc::new(Muster::new(SUPERVISORS));
    let tree = runtime.block_on(async { Branch::spawn((LEVELS, muster.clone())) });
    muster.wait();
    tree
}
