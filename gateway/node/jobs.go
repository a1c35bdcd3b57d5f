package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tidegate/gateway/api/files"
	"tidegate/gateway/fault"
	"tidegate/gateway/ingest"
	"tidegate/gateway/jobrunner"
	"tidegate/gateway/jobs"
	"tidegate/gateway/jobs/bundle"
	"tidegate/gateway/jobs/streams"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/registry"
	"tidegate/gateway/reserved"
)

// JobsConfig says what jobs may do to the gateway itself.
type JobsConfig struct {
	Thing    string                   `yaml:"thing"`    // whose jobs the gateway carries out; empty: nobody's
	Commands map[string]CommandConfig `yaml:"commands"` // what the operation run may run, by name
	Reboot   []string                 `yaml:"reboot"`   // program and arguments that restart the machine
	// BootFile holds a name that differs from boot to boot. In a container the kernel's is
	// the host's, and one that is made at each start of the container does.
	BootFile string `yaml:"boot_file"`
	// Signers are the public keys of minisign whose signed jobs are taken: the line that
	// begins with RW, or file:PATH.
	Signers     []string `yaml:"signers"`
	BundleBytes int64    `yaml:"bundle_bytes"` // the largest signed job with its files
	URL         string   `yaml:"url"`          // where devices reach the HTTPS port, as https://HOST:PORT; empty: at this host's name
}

// CommandConfig is a command that a job may run.
type CommandConfig struct {
	Run     []string      `yaml:"run"`     // program and arguments
	Timeout time.Duration `yaml:"timeout"` // after which it is ended; 0: 5 minutes
}

// DefaultJobsConfig lets jobs restart the machine and run nothing.
func DefaultJobsConfig() JobsConfig {
	return JobsConfig{Thing: "gateway", Reboot: []string{"systemctl", "reboot"}, BootFile: jobrunner.BootFile, BundleBytes: 1 << 30}
}

// Validate says what is impossible in c.
func (c JobsConfig) Validate() error {
	var errs []error
	for name, x := range c.Commands {
		if len(x.Run) == 0 {
			errs = append(errs, fmt.Errorf("commands.%s.run: is empty, expected a program and its arguments", name))
		}
		if x.Timeout < 0 {
			errs = append(errs, fmt.Errorf("commands.%s.timeout: is %v, expected a duration above 0", name, x.Timeout))
		}
	}
	if u, err := url.Parse(c.URL); c.URL != "" && (err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil) {
		errs = append(errs, fmt.Errorf("url: is %q, expected https://HOST:PORT", c.URL))
	}
	for i, text := range c.Signers {
		if strings.HasPrefix(text, "file:") {
			continue // read at the start
		}
		if _, err := bundle.ParseSigner(text); err != nil {
			errs = append(errs, fmt.Errorf("signers[%d]: %w", i, err))
		}
	}
	if c.BundleBytes < 1<<10 {
		errs = append(errs, fmt.Errorf("bundle_bytes: is %d, expected at least 1KiB", c.BundleBytes))
	}
	if len(c.Reboot) == 0 {
		errs = append(errs, errors.New("reboot: is empty, expected a program and its arguments"))
	}
	return errors.Join(errs...)
}

// signers reads the public keys.
func (c JobsConfig) signers() ([]bundle.Signer, error) {
	var list []bundle.Signer
	for i, text := range c.Signers {
		if path, ok := strings.CutPrefix(text, "file:"); ok {
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("jobs.signers[%d]: %w", i, err)
			}
			text = string(b)
		}
		s, err := bundle.ParseSigner(text)
		if err != nil {
			return nil, fmt.Errorf("jobs.signers[%d]: %w", i, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// work is jobs, and the streams and files that go with them.
type work struct {
	jobs    *reserved.Jobs
	streams *reserved.Streams
	files   *streams.Room
	room    *jobs.Room
	door    *files.Files
	bundles *reserved.Bundles
}

// openJobs opens the rooms and serves their topics.
func (n *Node) openJobs(topics *reserved.Topics) (err error) {
	w := &n.work
	if w.files, err = streams.Open(filepath.Join(n.cfg.Data, "files"), n.store, n.Clock); err != nil {
		return err
	}
	fleet := reserved.Fleet{Registry: n.registry}
	room, err := jobs.Open(jobs.Deps{Store: n.store, Clock: n.Clock, Fleet: fleet, Log: n.Log, Base: n.registry.Base(), Limits: n.cfg.Limits.Jobs,
		Events: fleet.Events, Source: w.files.Document, Presign: n.presign})
	if err != nil {
		return err
	}
	key, err := files.Key(filepath.Join(n.cfg.Data, "pki", "files.key"))
	if err != nil {
		return fmt.Errorf("the key of files' URLs: %w", err)
	}
	w.room = room
	w.door = files.New(files.Deps{Files: w.files, Auth: n.authz, Clock: n.Clock, Log: n.Log, Things: n.thingsOf, Assigned: room.Assigned}, key)
	fleet.Watch(room.Changed)
	w.jobs = reserved.NewJobs(room, n.store, n.Clock, n.Log)
	w.jobs.GroupID = fleet.GroupID
	w.jobs.Limit(n.cfg.Limits.Jobs.Requests)
	signers, err := n.cfg.Jobs.signers()
	if err != nil {
		return err
	}
	w.bundles = &reserved.Bundles{Jobs: w.jobs, Room: room, Files: w.files, Store: n.store, Clock: n.Clock, Log: n.Log, Base: n.registry.Base(),
		Spool: filepath.Join(n.cfg.Data, "files"), Limits: bundle.Limits{Bytes: n.cfg.Jobs.BundleBytes}, Signers: signers}
	w.streams = reserved.NewStreams(w.files, n.registry.Base(), n.Log)
	topics.Serve(awstopic.Jobs, w.jobs.Handle)
	topics.Serve(awstopic.Streams, w.streams.Handle)
	return nil
}

// thingsOf gives the things that a certificate is attached to.
func (n *Node) thingsOf(certificate string) (names []string) {
	for p := (registry.Page{}); ; {
		links, next, err := n.registry.ThingsOf(n.registry.ARN("cert", certificate), p)
		if err != nil {
			return names
		}
		for _, l := range links {
			names = append(names, l.Thing)
		}
		if p.After = next; next == "" {
			return names
		}
	}
}

// presign gives the URL of an object, for a thing and a time; see jobs.Deps. Without the
// HTTPS port there is none.
func (n *Node) presign(thing, source string, valid time.Duration) (string, error) {
	bucket, key, ok := streams.ParseURL(source)
	if !ok {
		return "", fault.New(fault.Invalid, "a placeholder for a URL needs that of an object, such as https://s3.amazonaws.com/BUCKET/KEY, and has %q", source)
	}
	base := n.publicURL()
	if base == "" {
		return "", nil
	}
	return n.work.door.URL(base, thing, bucket, key, valid), nil
}

// publicURL is where devices reach the HTTPS port, "" when it is off. The server's
// certificate is good for all of the names.
func (n *Node) publicURL() string {
	p := n.ports.Port("https")
	switch {
	case n.cfg.Jobs.URL != "":
		return strings.TrimSuffix(n.cfg.Jobs.URL, "/")
	case p == nil:
		return ""
	}
	a, ok := p.Addr().(*net.TCPAddr)
	name, err := os.Hostname()
	if n.cfg.Dev || ok && a.IP.IsLoopback() || err != nil || name == "localhost" {
		return "https://" + n.endpoint()
	}
	_, port, _ := net.SplitHostPort(p.Addr().String())
	if !strings.Contains(name, ".") {
		name += ".local"
	}
	return "https://" + net.JoinHostPort(name, port)
}

// addJobs adds the tasks, once there is a road.
func (n *Node) addJobs(road *ingest.Road) {
	w := &n.work
	w.jobs.OnCommit(road.Commit)
	w.streams.OnCommit(road.Commit)
	n.group.Restart("jobs", w.jobs.Run)
	n.group.Restart("files", w.files.Run)
	if n.cfg.Jobs.Thing == "" {
		return
	}
	runner := jobrunner.New(n.cfg.Jobs.Thing, w.jobs, n.jobHandlers(road), n.Clock, n.Log)
	next := awstopic.Topic{Service: awstopic.Jobs, Thing: n.cfg.Jobs.Thing, Op: awstopic.NotifyNext}.String()
	n.group.Restart("jobs of the gateway", func(ctx context.Context, ready func()) error {
		defer n.broker.Watch(next, func(*mqtt.Run) { runner.Wake() })()
		return runner.Run(ctx, ready)
	})
}

// jobHandlers are the operations that jobs for the gateway can ask for.
func (n *Node) jobHandlers(road *ingest.Road) map[string]jobrunner.Handler {
	c := n.cfg.Jobs
	commands := map[string]jobrunner.Command{}
	for name, x := range c.Commands {
		commands[name] = jobrunner.Command(x)
	}
	return map[string]jobrunner.Handler{
		"reboot": jobrunner.Reboot{BootID: func() (string, error) { return jobrunner.ReadBootID(c.BootFile) }, Reboot: func() error {
			out, err := exec.Command(c.Reboot[0], c.Reboot[1:]...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
			}
			return err
		}},
		"run": jobrunner.Run{Commands: commands},
		"collect-diagnostics": jobrunner.Diagnostics{Collect: func(_ context.Context, job string) (string, int64, error) {
			return n.collectDiagnostics(road, job)
		}},
		"rotate-certificates": jobrunner.Rotate{Renew: func() (time.Time, error) {
			err := n.identity.Rotate()
			return n.identity.ServerExpires(), err
		}},
		"set-configuration": jobrunner.Configure{Path: n.cfg.file, Check: func(path string) error {
			_, err := n.reread(path)
			return err
		}, Apply: func() ([]string, error) {
			cfg, err := n.reread(n.cfg.file)
			if err != nil {
				return nil, err
			}
			return n.Reload(cfg), nil
		}},
	}
}

// reread reads a configuration file as the gateway would at its start.
func (n *Node) reread(path string) (Config, error) {
	f := n.cfg.flags
	f.Config = path
	return LoadConfig(f, n.Env)
}

// collectDiagnostics puts how everything is into an object that is called as the job.
func (n *Node) collectDiagnostics(road *ingest.Road, job string) (where string, size int64, err error) {
	report, err := json.MarshalIndent(map[string]any{"at": n.Clock.Now(), "status": n.status(), "warnings": n.health.Warnings(), "upstreams": n.upstreams(),
		"devices": n.devices(), "ledger": n.ledger(time.Time{}, 100)}, "", "  ")
	if err != nil {
		return "", 0, fault.Wrap(fault.Internal, err, "the report cannot be written")
	}
	const bucket = "diagnostics"
	blob, err := n.keep(road, bucket, job+".json", bytes.NewReader(report))
	return bucket + "/" + job + ".json", blob.Size, err
}
