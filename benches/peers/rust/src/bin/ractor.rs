//! The workloads on ractor: each service is an actor, a task on Tokio's runtime. ractor has no restart of
//! its own: a supervising actor gets told and spawns the next one, as its documentation shows.

use std::collections::HashMap;
use std::sync::Arc;

use peers::{
    BELOW_EACH, Crowd, Entry, Flaky, How, LEVELS, Member, Muster, Pairs, SUPERVISORS, Workload,
};
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent,
};
use tokio::runtime::Runtime;
use tokio::sync::watch;

type Answer<T> = Result<T, ActorProcessingErr>;

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
            |boss| stop(on, boss.get_cell()),
        ),
        Workload::W4(pairs) => on.block_on(add_and_remove(pairs)),
        Workload::W5 { services } => {
            let _boss = start_idle(on, services);
            peers::stay_idle();
        }
        Workload::W6 => peers::time_tree(|| start_tree(on), |tree| stop(on, tree.get_cell())),
    }
}

/// What a service does; kept by the supervising actor for the next run.
#[derive(Clone)]
enum Job {
    Flaky(Arc<Flaky>),
    Member(Arc<Crowd>, Arc<Member>, watch::Receiver<bool>),
    Idle(Arc<Muster>),
    Pair(Arc<Entry>),
}

impl Job {
    async fn run(&self) -> Answer<()> {
        match self {
            Job::Flaky(flaky) => flaky.run()?,
            Job::Member(crowd, member, gate) => {
                if member.is_first(crowd) {
                    crowd.at_the_gate.begun();
                    gate.clone().wait_for(|open| *open).await?;
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
struct Worker;

enum Order {
    RunAgain,
}

impl Actor for Worker {
    type Msg = Order;
    type State = Job;
    type Arguments = Job;

    async fn pre_start(&self, _: ActorRef<Order>, job: Job) -> Answer<Job> {
        Ok(job)
    }

    /// The first that is supervised.
    async fn post_start(&self, _: ActorRef<Order>, job: &mut Job) -> Answer<()> {
        job.run().await
    }

    async fn handle(&self, _: ActorRef<Order>, order: Order, job: &mut Job) -> Answer<()> {
        match order {
            Order::RunAgain => job.run().await,
        }
    }
}

/// A supervising actor: it knows what to run for whom, so a new service comes by a message to it.
struct Boss;

enum Request {
    Add(Job, RpcReplyPort<ActorRef<Order>>),
}

type Jobs = HashMap<ActorId, Job>;

impl Boss {
    async fn start(
        myself: &ActorRef<Request>,
        job: Job,
        jobs: &mut Jobs,
    ) -> Answer<ActorRef<Order>> {
        let (worker, _) = Actor::spawn_linked(None, Worker, job.clone(), myself.get_cell()).await?;
        jobs.insert(worker.get_id(), job);
        Ok(worker)
    }
}

impl Actor for Boss {
    type Msg = Request;
    type State = Jobs;
    type Arguments = Vec<Job>;

    async fn pre_start(&self, myself: ActorRef<Request>, jobs: Vec<Job>) -> Answer<Jobs> {
        let mut running = Jobs::new();
        for job in jobs {
            Boss::start(&myself, job, &mut running).await?;
        }
        Ok(running)
    }

    async fn handle(
        &self,
        myself: ActorRef<Request>,
        request: Request,
        jobs: &mut Jobs,
    ) -> Answer<()> {
        match request {
            Request::Add(job, reply) => {
                let worker = Boss::start(&myself, job, jobs).await?;
                reply.send(worker)?;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Request>,
        event: SupervisionEvent,
        jobs: &mut Jobs,
    ) -> Answer<()> {
        match event {
            SupervisionEvent::ActorFailed(worker, _) => {
                if let Some(job) = jobs.remove(&worker.get_id()) {
                    Boss::start(&myself, job, jobs).await?;
                }
            }
            SupervisionEvent::ActorTerminated(worker, ..) => {
                jobs.remove(&worker.get_id());
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }

    /// Without this the workers would be killed, and nobody would wait for them.
    async fn post_stop(&self, myself: ActorRef<Request>, _: &mut Jobs) -> Answer<()> {
        myself.stop_children_and_wait(None, None).await;
        Ok(())
    }
}

async fn boss(jobs: Vec<Job>) -> ActorRef<Request> {
    let (boss, _) = Actor::spawn(None, Boss, jobs).await.unwrap();
    boss
}

fn add(runtime: &Runtime, boss: &ActorRef<Request>, job: Job) -> ActorRef<Order> {
    runtime.block_on(add_to(boss, job))
}

async fn add_to(boss: &ActorRef<Request>, job: Job) -> ActorRef<Order> {
    let answer = boss.call(|reply| Request::Add(job, reply), None).await;
    answer.unwrap().unwrap()
}

fn stop(runtime: &Runtime, actor: ActorCell) {
    runtime.block_on(actor.stop_and_wait(None, None)).unwrap();
}

fn flaky(runtime: &Runtime, how: How, failures: u64) {
    let (flaky, runs) = Flaky::new(how);
    let flaky = Arc::new(flaky);
    let boss = runtime.block_on(boss(Vec::new()));
    add(runtime, &boss, Job::Flaky(flaky.clone()));
    // Each run is another actor. The one before may still be among the children, on its way out: it
    // takes no order any more.
    let wake = || {
        for worker in boss.get_children() {
            let _ = worker.send_message(Order::RunAgain);
        }
    };
    flaky.measure(&runs, failures, wake);
    stop(runtime, boss.get_cell());
}

fn crowd(runtime: &Runtime, services: u64, panics: u64) {
    let (crowd, all_done) = Crowd::new(services, panics);
    let (crowd, (open, gate)) = (Arc::new(crowd), watch::channel(false));
    let jobs = (0..services)
        .map(|_| Job::Member(crowd.clone(), Arc::new(crowd.member()), gate.clone()))
        .collect();
    let boss = runtime.block_on(boss(jobs));
    crowd.measure(&all_done, || open.send(true).unwrap());
    stop(runtime, boss.get_cell());
}

fn start_idle(runtime: &Runtime, services: usize) -> ActorRef<Request> {
    let muster = Arc::new(Muster::new(services));
    let jobs = vec![Job::Idle(muster.clone()); services];
    let boss = runtime.block_on(boss(jobs));
    muster.wait();
    boss
}

async fn add_and_remove(load: Pairs) {
    let boss = boss(Vec::new()).await;
    load.by_tasks(|_, pairs| {
        let boss = boss.clone();
        async move {
            let mut ran = 0;
            for _ in 0..pairs {
                let entry = Arc::new(Entry::default());
                let worker = add_to(&boss, Job::Pair(entry.clone())).await;
                if load.until_it_runs {
                    entry.wait().await;
                }
                worker.stop_and_wait(None, None).await.unwrap();
                ran += u64::from(entry.has_run());
            }
            ran
        }
    })
    .await;
    boss.stop_and_wait(None, None).await.unwrap();
}

/// A supervising actor with nothing but others of its kind below it.
struct Branch;

impl Actor for Branch {
    type Msg = ();
    type State = ();
    type Arguments = (usize, Arc<Muster>);

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        (levels, muster): (usize, Arc<Muster>),
    ) -> Answer<()> {
        let below = if levels > 0 { BELOW_EACH } else { 0 };
        for _ in 0..below {
            let arguments = (levels - 1, muster.clone());
            Box::pin(Actor::spawn_linked(
                None,
                Branch,
                arguments,
                myself.get_cell(),
            ))
            .await?;
        }
        muster.begun();
        Ok(())
    }

    async fn post_stop(&self, myself: ActorRef<()>, _: &mut ()) -> Answer<()> {
        myself.stop_children_and_wait(None, None).await;
        Ok(())
    }
}

fn start_tree(runtime: &Runtime) -> ActorRef<()> {
    let muster = Arc::new(Muster::new(SUPERVISORS));
    let arguments = (LEVELS, muster.clone());
    let tree = runtime.block_on(Actor::spawn(None, Branch, arguments));
    muster.wait();
    tree.unwrap().0
}
