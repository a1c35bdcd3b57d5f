package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/test/harness"
	"tidegate/test/rawmqtt"
)

// worker is a device that does its jobs and remembers which it has done; its memory outlives the gateway.
type worker struct {
	thing string
	addr  *atomic.Value // string: where the gateway is now
	total *atomic.Int64 // reports that were accepted, of all workers
	stop  chan struct{}

	mu       sync.Mutex // guards what follows
	done     map[string]int
	accepted map[string]bool // executions whose end the gateway has acknowledged
	wrong    []string
}

// run works until stop is closed. Whatever breaks the connection, it comes back.
func (w *worker) run() {
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		if c, _, err := rawmqtt.Dial(w.addr.Load().(string), rawmqtt.Options{ClientID: w.thing, Clean: true, Timeout: 2 * time.Second}); err == nil {
			w.work(c)
			c.Conn.Close()
		}
		select {
		case <-w.stop:
			return
		case <-time.After(20 * time.Millisecond): // a gateway that is down is not called without pause
		}
	}
}

// work asks for jobs and does them until the connection breaks or none has come for a while.
func (w *worker) work(c *rawmqtt.Conn) {
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		var next struct {
			Execution struct {
				JobID           string
				ExecutionNumber int
			}
		}
		if _, ok := w.ask(c, "start-next", "{}", &next); !ok {
			return
		}
		job := next.Execution.JobID
		if job == "" {
			select {
			case <-w.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		id := fmt.Sprintf("%s#%d", job, next.Execution.ExecutionNumber)
		w.mu.Lock()
		if w.accepted[id] {
			w.wrong = append(w.wrong, w.thing+" was given "+id+" again after its end was acknowledged")
		}
		w.done[id]++
		w.mu.Unlock()
		select {
		case <-w.stop:
			return
		case <-time.After(100 * time.Millisecond): // the work
		}
		verdict, ok := w.ask(c, job+"/update", `{"status":"SUCCEEDED"}`, nil)
		if !ok {
			return
		}
		w.mu.Lock()
		w.accepted[id] = verdict == "accepted"
		if verdict != "accepted" {
			w.wrong = append(w.wrong, w.thing+": the end of "+id+" was "+verdict)
		}
		w.mu.Unlock()
		w.total.Add(1)
	}
}

// ask publishes a request and reads up to its answer.
func (w *worker) ask(c *rawmqtt.Conn, what, payload string, into any) (verdict string, ok bool) {
	topic := "$aws/things/" + w.thing + "/jobs/" + what
	c.SetDeadline(time.Now().Add(harness.Patience))
	if _, err := c.Write(rawmqtt.AppendPublish(nil, false, topic, []byte(payload), 1, 1, 0)); err != nil {
		return "", false
	}
	for {
		p, err := c.Next()
		if err != nil {
			return "", false
		}
		if p.Type == rawmqtt.Publish && p.QoS() == 1 {
			if _, err := c.Write(rawmqtt.AppendAck(nil, rawmqtt.Puback, p.ID)); err != nil {
				return "", false
			}
		}
		if verdict, found := strings.CutPrefix(string(p.Topic), topic+"/"); p.Type == rawmqtt.Publish && found {
			return verdict, into == nil || json.Unmarshal(p.Payload, into) == nil
		}
	}
}

// Killed again and again in the middle of rollouts, the gateway loses no execution and gives none out twice, and the rollouts
// go on by themselves.
func TestRolloutsSurviveKills(t *testing.T) {
	const things, continuous = 120, 1
	jobs := []string{"fw-1", "fw-2", "fw-3", "fw-4", "fw-5", "fw-6"}
	g := harness.Start(t, harness.Options{})
	cli := func(args ...string) string {
		t.Helper()
		out, errw, code := g.CLI(args...)
		if code != 0 {
			t.Fatalf("tidegate %v: exit %d: %s", args, code, errw)
		}
		return out
	}
	cli("group", "create", "pumps")
	add := []string{"group", "set", "pumps"}
	var addr atomic.Value
	var total atomic.Int64
	addr.Store(g.MQTT)
	stop := make(chan struct{})
	var workers []*worker
	for i := range things {
		name := fmt.Sprintf("pump-%03d", i)
		cli("thing", "create", name)
		add = append(add, "--add", name)
		workers = append(workers, &worker{thing: name, addr: &addr, total: &total, stop: stop, done: map[string]int{}, accepted: map[string]bool{}})
	}
	cli(add...)
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(w.run)
	}
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()

	again := func() {
		t.Helper()
		g.Kill()
		g.Restart()
		addr.Store(g.MQTT)
	}
	for i, id := range jobs {
		args := []string{"job", "create", id, "--target", "group:pumps", "--document", `{"op":"x"}`}
		if i == continuous {
			args = append(args, "--continuous")
		}
		before := total.Load()
		cli(args...)
		if i%2 > 0 { // every other one is killed before its rollout has come to everybody
			harness.Until(t, "the rollouts go on", func() bool { return total.Load() > before+things/3 })
		}
		again()
	}
	type listed struct {
		Status     string
		Executions []struct {
			Summary struct {
				Status          string
				ExecutionNumber int
				RetryAttempt    int
			} `json:"jobExecutionSummary"`
		}
		Process map[string]any `json:"jobProcessDetails"`
	}
	for _, id := range jobs {
		var j listed
		harness.Until(t, "all of "+id+" has succeeded", func() bool {
			j = listed{}
			return json.Unmarshal([]byte(cli("job", "show", id, "--json")), &j) == nil && j.Process["numberOfSucceededThings"] == float64(things)
		})
		if len(j.Executions) != things || id != jobs[continuous] && j.Status != "COMPLETED" || id == jobs[continuous] && j.Status != "IN_PROGRESS" {
			t.Errorf("%s is %s with %d executions", id, j.Status, len(j.Executions))
		}
		for _, x := range j.Executions {
			if s := x.Summary; s.Status != "SUCCEEDED" || s.ExecutionNumber != 1 || s.RetryAttempt != 0 {
				t.Errorf("%s: %+v", id, s)
			}
		}
	}
	end()
	repeated := 0
	for _, w := range workers {
		if len(w.done) != len(jobs) {
			t.Errorf("%s has done %v", w.thing, w.done)
		}
		for _, n := range w.done {
			repeated += n - 1 // it goes on where it was, and the report that was lost is made again
		}
		for _, s := range w.wrong {
			t.Error(s)
		}
	}
	if repeated == 0 {
		t.Error("no kill has hit anybody at work: this shows nothing")
	}
	t.Logf("%d executions, of which %d were told to go on by another gateway than the one that began them", things*len(jobs), repeated)
	g.Stop()
}
