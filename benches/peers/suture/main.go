// The workloads on suture: each service is a goroutine. The README in the folder above says what they
// are; one line per figure, "name value unit".
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thejerf/suture/v4"
)

// The tree of W6: one, ten, a hundred and a thousand supervisors.
const (
	belowEach   = 10
	levels      = 3
	supervisors = 1111
)

// How long W5 stays idle for whoever watches; it is killed before.
const idleMax = 5 * time.Minute

// How long W3 waits until everybody who has begun waits.
const settle = 500 * time.Millisecond

func main() {
	if len(os.Args) < 2 {
		panic("no workload")
	}
	number := func(i int) int {
		n, err := strconv.Atoi(os.Args[i+1])
		if err != nil {
			panic(err)
		}
		return n
	}
	switch os.Args[1] {
	case "w1":
		flaky("w1", number(1), func() error { panic("a service panics") })
	case "w1e":
		flaky("w1e", number(1), func() error { return errors.New("a service fails") })
	case "w2":
		crowd(number(1), number(2))
	case "w3":
		startAndStop(number(1))
	case "w4", "w4r":
		addAndRemove(os.Args[1], number(1), number(2))
	case "w5":
		supervisor, _ := startIdle(number(1))
		figure("w5_pid", float64(os.Getpid()), "id")
		time.Sleep(idleMax)
		supervisor.stop()
	case "w6":
		tree()
	default:
		panic("no workload " + os.Args[1])
	}
}

func figure(name string, value float64, unit string) {
	fmt.Printf("%s %.3f %s\n", name, value, unit)
}

// The time each of n took, in microseconds.
func figureEach(name string, took time.Duration, n int) {
	figure(name, float64(took.Nanoseconds())/1e3/float64(n), "us")
}

// Restarts without end and at once, and hands events to nobody.
func unlimited(name string) *suture.Supervisor {
	return suture.New(name, suture.Spec{
		EventHook:        func(suture.Event) {},
		FailureThreshold: 1e18,
	})
}

// A supervisor that runs.
type running struct {
	*suture.Supervisor
	cancel context.CancelFunc
	ended  <-chan error
}

func start(supervisor *suture.Supervisor) running {
	ctx, cancel := context.WithCancel(context.Background())
	return running{supervisor, cancel, supervisor.ServeBackground(ctx)}
}

func (r running) stop() {
	r.cancel()
	<-r.ended
}

// A service from a function. Its name spares suture a description by reflection.
type service struct {
	name  string
	serve func(ctx context.Context) error
}

func (s *service) String() string                  { return s.name }
func (s *service) Serve(ctx context.Context) error { return s.serve(ctx) }

// W1 and W1e: one service that fails as often as it is told.
func flaky(name string, failures int, fail func() error) {
	var left int64
	runs := make(chan time.Time, 1)
	wake := make(chan struct{}, 1)
	supervisor := unlimited("flaky")
	supervisor.Add(&service{"flaky", func(ctx context.Context) error {
		for {
			if atomic.LoadInt64(&left) > 0 {
				atomic.AddInt64(&left, -1)
				return fail()
			}
			runs <- time.Now()
			select {
			case <-wake:
			case <-ctx.Done():
				return nil
			}
		}
	}})
	running := start(supervisor)
	<-runs
	round := func(failures int) time.Duration {
		atomic.StoreInt64(&left, int64(failures))
		begun := time.Now()
		wake <- struct{}{}
		return (<-runs).Sub(begun)
	}
	// A tenth to warm up.
	if failures >= 10 {
		round(failures / 10)
	}
	figureEach(name, round(failures), failures)
	running.stop()
}

// W2: services that panic together, each as often as all others.
func crowd(services, panics int) {
	each := int64(panics / services)
	missing := int64(services)
	gate := make(chan struct{})
	done := make(chan time.Time, 1)
	var atTheGate sync.WaitGroup
	atTheGate.Add(services)
	supervisor := unlimited("crowd")
	for i := 0; i < services; i++ {
		left := each
		supervisor.Add(&service{"member" + strconv.Itoa(i), func(ctx context.Context) error {
			if left == each {
				atTheGate.Done()
				<-gate
			}
			if left > 0 {
				left--
				panic("a service panics")
			}
			if atomic.AddInt64(&missing, -1) == 0 {
				done <- time.Now()
			}
			<-ctx.Done()
			return nil
		}})
	}
	running := start(supervisor)
	atTheGate.Wait()
	begun, cpu := time.Now(), cpuTime()
	close(gate)
	took := (<-done).Sub(begun)
	cpu = cpuTime() - cpu
	total := services * int(each)
	figure("w2_rate", float64(total)/took.Seconds(), "1/s")
	figureEach("w2_cpu", cpu, total)
	running.stop()
}

func idle(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Services that wait for their stop; returns when all run.
func startIdle(services int) (running, *sync.WaitGroup) {
	var begun sync.WaitGroup
	begun.Add(services)
	supervisor := unlimited("idle")
	for i := 0; i < services; i++ {
		supervisor.Add(&service{"idle" + strconv.Itoa(i), func(ctx context.Context) error {
			begun.Done()
			return idle(ctx)
		}})
	}
	running := start(supervisor)
	begun.Wait()
	return running, &begun
}

// W3.
func startAndStop(services int) {
	before := resident()
	begun := time.Now()
	running, _ := startIdle(services)
	figureEach("w3_start", time.Since(begun), services)
	time.Sleep(settle)
	figure("w3_bytes", float64(resident()-before)/float64(services), "bytes")
	begun = time.Now()
	running.stop()
	figureEach("w3_stop", time.Since(begun), services)
}

// W4 and W4r, which waits until the service's code runs before it removes it.
func addAndRemove(workload string, pairs, clients int) {
	supervisor := start(unlimited("pairs"))
	var ran int64
	client := func(name string, pairs int) {
		for i := 0; i < pairs; i++ {
			runs := make(chan struct{}, 1)
			token := supervisor.Add(&service{name, func(ctx context.Context) error {
				runs <- struct{}{}
				return idle(ctx)
			}})
			if workload == "w4r" {
				<-runs
			}
			if err := supervisor.RemoveAndWait(token, time.Minute); err != nil {
				panic(err)
			}
			atomic.AddInt64(&ran, int64(len(runs)))
		}
	}
	client("client", pairs/10)
	ran = 0
	each := pairs / clients
	var all sync.WaitGroup
	all.Add(clients)
	begun := time.Now()
	for i := 0; i < clients; i++ {
		go func(name string) {
			client(name, each)
			all.Done()
		}("client" + strconv.Itoa(i))
	}
	all.Wait()
	figureEach(workload+"_"+strconv.Itoa(clients), time.Since(begun), each*clients)
	if workload == "w4" {
		share := 100 * float64(ran) / float64(each*clients)
		figure("w4_"+strconv.Itoa(clients)+"_ran", share, "%")
	}
	supervisor.stop()
}

// A supervisor that tells when it is entered.
type branch struct {
	*suture.Supervisor
	begun *sync.WaitGroup
}

func (b branch) Serve(ctx context.Context) error {
	b.begun.Done()
	return b.Supervisor.Serve(ctx)
}

func newBranch(name string, levels int, begun *sync.WaitGroup) branch {
	b := branch{unlimited(name), begun}
	if levels > 0 {
		for i := 0; i < belowEach; i++ {
			b.Add(newBranch("s"+strconv.Itoa(i), levels-1, begun))
		}
	}
	return b
}

// W6.
func tree() {
	var begun sync.WaitGroup
	begun.Add(supervisors - 1) // the root is started otherwise
	started := time.Now()
	running := start(newBranch("tree", levels, &begun).Supervisor)
	begun.Wait()
	figure("w6_start", float64(time.Since(started).Nanoseconds())/1e6, "ms")
	stopped := time.Now()
	running.stop()
	figure("w6_stop", float64(time.Since(stopped).Nanoseconds())/1e6, "ms")
}

// Resident memory of this process, in bytes.
func resident() int {
	const page = 4096
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(text)[1]))
	if err != nil {
		panic(err)
	}
	return pages * page
}

// User and system time of this process, in clock ticks of 10 ms.
func cpuTime() time.Duration {
	const tick = 10 * time.Millisecond
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		panic(err)
	}
	// The name, in parentheses, may have anything in it.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(string(field))
		if err != nil {
			panic(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}
