// Package node builds the whole gateway and runs it.
//
// It is the only package that knows every room: LoadConfig puts the configuration
// together, Build opens the rooms from the bottom floor to the top and connects
// them, Run starts their tasks in order and stops them in reverse. No room's work is
// done here.
//
//	cfg, err := node.LoadConfig(flags, os.Getenv)
//	n, err := node.Build(cfg, node.Deps{Clock: clock.System(), Log: log, Env: os.Getenv})
//	err = n.Run(ctx)
package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"tidegate/devices/bridge"
	"tidegate/devices/manager"
	"tidegate/gateway/api/control"
	"tidegate/gateway/audit"
	"tidegate/gateway/authz"
	"tidegate/gateway/broker"
	"tidegate/gateway/clock"
	"tidegate/gateway/health"
	"tidegate/gateway/identity"
	"tidegate/gateway/ingest"
	"tidegate/gateway/journal"
	"tidegate/gateway/listen"
	"tidegate/gateway/localapi"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/operators"
	"tidegate/gateway/provision"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
	"tidegate/gateway/rules"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
	"tidegate/gateway/supervise"
	"tidegate/sync/uplink"
)

// Deps are the seams to the machine and what the process knows of itself.
type Deps struct {
	Clock   clock.Clock
	Log     *slog.Logger
	Env     func(string) string // looks up variables that hold secrets
	Version Version
	// Tell shows a text to the person who starts the gateway, this once; nil: nobody is
	// there.
	Tell func(text string)
	// Dial opens connections to upstreams; nil for the system's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Node is a gateway that was built.
type Node struct {
	Deps
	cfg    Config
	group  *supervise.Group
	health *health.Health

	ports       *listen.Set
	store       *store.Store
	journal     *journal.Journal
	vault       identity.Vault // nil: it could not be opened
	identity    *identity.Identity
	registry    *registry.Registry
	operators   *operators.Operators
	authz       *authz.Authz
	control     *control.Control
	audit       *audit.Log
	fleet       *provision.Fleet
	tasks       *provision.Tasks
	claims      *reserved.Provisioning
	facts       *reserved.Facts
	memberships *reserved.Memberships
	broker      *broker.Broker
	manager     *manager.Manager
	rules       *rules.Engine
	work        work
	uplinks     []*uplink.Uplink
	parting     sync.WaitGroup // the last words of WebSockets
}

// Build opens everything from the bottom floor to the top and starts nothing. After
// an error nothing is left open.
func Build(cfg Config, d Deps) (_ *Node, err error) {
	n := &Node{Deps: d, cfg: cfg, group: supervise.New(d.Log, d.Clock), health: health.New(d.Clock)}
	g, hp := n.group, n.health
	defer g.AbortOn(&err)
	g.Report(hp)
	forget := cfg.Memory.apply()
	g.OnStop("memory", func() error { forget(); return nil })
	if err := os.MkdirAll(cfg.Data, 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}

	if n.ports, err = listen.Open(d.Log, hp, cfg.Listen.served()); err != nil {
		return nil, err
	}
	g.OnStop("ports", n.ports.Close)

	sc := cfg.Store
	sc.Log, sc.Notice = d.Log, func(code, text string) {
		if text == "" {
			hp.Clear(code)
		} else {
			hp.Raise(code, text)
		}
	}
	if sc.Key, err = n.openVault(); err != nil {
		return nil, err
	}
	if n.store, err = store.Open(sc, d.Clock); err != nil {
		return nil, err
	}
	g.OnStop("store files", n.store.Close)
	hp.Probe("store", n.store.Probe)
	for _, bad := range n.store.Damages() {
		hp.Raise("store-damage", bad.What)
	}
	if n.journal, err = journal.Open(n.store, d.Clock, d.Log, cfg.Journal); err != nil {
		return nil, err
	}
	if err := n.openIdentity(); err != nil {
		return nil, err
	}
	if err := n.openAccess(); err != nil {
		return nil, err
	}
	if n.broker, err = broker.Open(cfg.Broker, broker.Deps{Store: n.store, Journal: n.journal, Clock: d.Clock, Log: d.Log, Auth: gate{n.authz, n.operators}, Version: d.Version.Version}); err != nil {
		return nil, err
	}
	n.authz.OnChange(n.broker.Reauthorize)
	n.authz.OnRevoked(func(principal string) { n.broker.Expel(principal) })
	shadows := shadow.New(d.Clock, cfg.Limits.Shadow)
	topics := reserved.New()
	shadowTopics := reserved.NewShadows(shadows, d.Clock, d.Log)
	topics.Serve(awstopic.Shadow, shadowTopics.Handle)
	if err := n.openJobs(topics); err != nil {
		return nil, err
	}
	n.rules, err = rules.New(cfg.Rules, rules.Deps{Clock: d.Clock, Log: d.Log, Account: cfg.Account.ID})
	if err != nil {
		return nil, err
	}
	road := ingest.New(n.store, n.journal, n.broker, n.rules, topics, d.Clock, d.Log)
	n.broker.OnPublish(road)
	shadowTopics.Wanted, shadowTopics.InFlight = road.Wants, cfg.Limits.Shadow.InFlight
	shadowTopics.Limit(cfg.Limits.Shadow.Requests)

	if err := n.wire(); err != nil {
		return nil, err
	}

	readings := bridge.New(bridge.Deps{Devices: n.manager, Submit: road.Submit, Watch: n.broker.Watch, Health: hp, Clock: d.Clock, Log: d.Log,
		Miss: func(count uint64, why string) { n.journal.Miss("readings", count, why) },
		Shadow: func(thing string) (shadow.Document, bool, error) {
			return shadows.Load(n.store, shadow.ID{Thing: thing})
		},
	}, cfg.Telemetry)
	lifecycle := reserved.NewLifecycle(road.Submit)
	n.facts = reserved.NewFacts(n.registry, shadows, n.store, d.Log)
	n.facts.Remember(n.broker.Sessions())
	n.broker.OnEvent(func(e broker.Event) { n.facts.Note(e); lifecycle.Note(e) })

	set := metrics.New()
	for _, room := range []interface{ Metrics(*metrics.Set) }{n.journal, n.broker, n.rules, road, n.manager, readings, lifecycle, shadowTopics, n.work.jobs} {
		room.Metrics(set)
	}
	for _, uc := range cfg.Upstreams {
		up, err := uplink.New(uc, uplink.Deps{Log: d.Log, Clock: d.Clock, Health: hp, Store: n.store, Journal: n.journal, Submit: road.Submit, Dial: d.Dial, Env: d.Env, Identity: n.identity.Upstream})
		if err != nil {
			return nil, err
		}
		road.Keep(up.Name(), up.Filters())
		up.Metrics(set)
		n.uplinks = append(n.uplinks, up)
	}

	if err := n.openAudit(road, set); err != nil {
		return nil, err
	}
	if err := n.openProvisioning(road, set); err != nil {
		return nil, err
	}
	n.openControl()
	local := localapi.New(localapi.Deps{Log: d.Log, Clock: d.Clock, Health: hp, Status: n.status, Submit: road.Submit, Follow: n.follow,
		History: n.past, Devices: n.devices, TestDevice: n.testDevice, Upstreams: n.upstreams, ForgetUpstream: n.forgetUpstream, Rules: n.ruleList, Ledger: n.ledger,
		Sessions: n.sessions, EndSession: n.broker.Delete, Operators: n.people(), Shadows: shadowDesk{n, shadows, shadowTopics, road}, Work: workDesk{n}, IoT: n.control.Local(localapi.Caller)})
	var open net.Listener // stays nil when it is off
	if p := n.ports.Port("metrics"); p != nil {
		open = p
	}
	g.Add("local", local.Run(filepath.Join(cfg.Data, localclient.Socket), open, set.Handler())) // tells "starting" while the rest comes up
	g.Add("store", n.store.Run)
	g.Add("server certificate", n.identity.Run)
	g.Add("audit log", n.audit.Run) // before the first operator
	g.Add("first operator", n.firstOperator)
	g.Add("wired things", n.registerWired)
	g.Add("upstream cursors", n.createCursors) // before anything is accepted that they want
	g.OnStop("goodbyes", func() error { n.parting.Wait(); return nil })
	g.Add("broker", n.broker.Run)
	g.Add("lifecycle events", lifecycle.Run)
	n.addProvisioning()
	g.Add("bridge", readings.Run)
	g.Add("devices", n.manager.Run) // on stop: outputs go to their safe state
	n.openDoors(g, set, road, shadowTopics, shadows)
	n.addJobs(road)
	for _, up := range n.uplinks {
		g.Restart("uplink/"+up.Name(), up.Run)
	}
	g.Add("announce", n.announce)
	return n, nil
}

// Run runs the gateway until ctx ends (nil after a clean drain) or a part that must not
// fail has failed. It is called once.
func (n *Node) Run(ctx context.Context) error {
	n.Log.Info("tidegate starts", "version", n.versionText(), "data", n.cfg.Data, "config", n.cfg.file, "dev", n.cfg.Dev)
	err := n.group.Run(ctx)
	if err == nil {
		n.Log.Info("tidegate has stopped")
	}
	return err
}

func (n *Node) versionText() string {
	return fmt.Sprintf("%s (commit %s, built %s)", n.Version.Version, n.Version.Commit, n.Version.Date)
}

// Addrs gives the addresses it listens on, by name.
func (n *Node) Addrs() map[string]string { return n.ports.Addrs() }

// Reload applies what can change while the gateway runs, and logs and gives what of cfg
// needs a restart.
func (n *Node) Reload(cfg Config) (restart []string) {
	if err := n.rules.Load(cfg.Rules); err != nil { // checked when it was read: not to be expected
		restart = append(restart, "rules")
	}
	for i, t := 0, reflect.TypeFor[Config](); i < t.NumField(); i++ {
		name, ok := fieldName(t.Field(i))
		if ok && name != "log" && name != "rules" && !reflect.DeepEqual(reflect.ValueOf(n.cfg).Field(i).Interface(), reflect.ValueOf(cfg).Field(i).Interface()) {
			restart = append(restart, name)
		}
	}
	if cfg.Log.Format != n.cfg.Log.Format {
		restart = append(restart, "log.format")
	}
	if err := logs.SetLevel(n.Log, cfg.Log.Level); err != nil {
		restart = append(restart, "log.level")
	}
	slices.Sort(restart)
	if len(restart) > 0 {
		n.Log.Warn("configuration was read again, some of it needs a restart", "level", cfg.Log.Level, "restart", restart)
		return restart
	}
	n.Log.Info("configuration was read again", "level", cfg.Log.Level)
	return nil
}

// announce is the last task: everything is up.
func (n *Node) announce(ctx context.Context, ready func()) error {
	defer n.health.SetReady(false)
	if n.ports.Port("https") != nil {
		aws := filepath.Join(n.cfg.Data, "run", "aws")
		if err := writeAWSData(aws, "https://"+n.endpoint()); err != nil {
			return err
		}
		defer os.RemoveAll(aws)
	}
	n.health.SetReady(true) // everything else is up, and whoever finds the file may ask
	return n.ports.Announce(filepath.Join(n.cfg.Data, "run", "listeners.json"))(ctx, ready)
}
