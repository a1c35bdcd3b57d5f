package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/pflag"

	"tidegate/devices/bridge"
	"tidegate/devices/manager"
	"tidegate/gateway/audit"
	"tidegate/gateway/broker"
	"tidegate/gateway/jobs"
	"tidegate/gateway/journal"
	"tidegate/gateway/listen"
	"tidegate/gateway/logs"
	"tidegate/gateway/rules"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
	"tidegate/sync/uplink"
)

// DefaultFile is read when no configuration file is named and --dev is not given.
const DefaultFile = "/etc/tidegate/tidegate.yaml"

// Config is the configuration of the whole gateway; each room has declared its part.
type Config struct {
	// Dev is for a laptop and for tests: an unauthenticated listener on loopback
	// and the simulated field bus. Only the flag sets it.
	Dev bool `yaml:"-"`
	// Data is the data folder.
	Data string `yaml:"data"`

	Account   AccountConfig    `yaml:"account"`
	Identity  IdentityConfig   `yaml:"identity"`
	Log       logs.Config      `yaml:"log"`
	Memory    MemoryConfig     `yaml:"memory"`
	Listen    ListenConfig     `yaml:"listen"`
	Limits    LimitsConfig     `yaml:"limits"`
	Store     store.Config     `yaml:"store"`
	Journal   journal.Config   `yaml:"journal"`
	Broker    broker.Config    `yaml:"broker"`
	Rules     rules.Config     `yaml:"rules"`
	Audit     audit.Config     `yaml:"audit"`
	Functions []FunctionConfig `yaml:"functions"`
	Devices   manager.Config   `yaml:"devices"`
	Telemetry bridge.Config    `yaml:"telemetry"`
	Jobs      JobsConfig       `yaml:"jobs"`
	Upstreams []uplink.Config  `yaml:"upstreams"`

	file  string // the configuration file that was read, empty for none
	flags Flags  // what the command line said
}

// AccountConfig is what stands in ARNs, so that policies move between the gateway and
// AWS as they are.
type AccountConfig struct {
	ID     string `yaml:"id"`     // 12 digits
	Region string `yaml:"region"` // letters, digits and -
}

func (c AccountConfig) validate() error {
	var errs []error
	if len(c.ID) != 12 || strings.Trim(c.ID, "0123456789") != "" {
		errs = append(errs, fmt.Errorf("id: is %q, expected 12 digits", c.ID))
	}
	if c.Region == "" || len(c.Region) > 32 || strings.Trim(c.Region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		errs = append(errs, fmt.Errorf("region: is %q, expected lower-case letters, digits and -", c.Region))
	}
	return errors.Join(errs...)
}

// LimitsConfig is the one table of what clients may do.
type LimitsConfig struct {
	broker.Limits
	Shadow shadow.Limits `yaml:"shadow"`
	Jobs   jobs.Limits   `yaml:"jobs"`
}

// ListenConfig holds the addresses, each HOST:PORT, with port 0 for a free one, or
// "off".
type ListenConfig struct {
	MQTT    string `yaml:"mqtt"`    // plain MQTT, with --dev only
	WS      string `yaml:"ws"`      // plain MQTT over WebSocket, with --dev only
	MQTTS   string `yaml:"mqtts"`   // MQTT over TLS
	HTTPS   string `yaml:"https"`   // HTTPS
	Metrics string `yaml:"metrics"` // /metrics, /healthz, /readyz

	// Origins are the web pages, as https://host[:port], that may use MQTT over WebSocket
	// with what the browser itself has; "*" is every page. Pages of the gateway itself may.
	Origins []string `yaml:"origins"`
}

// Flags are what the command line says about the configuration; what is empty was
// not given.
type Flags struct {
	Config string // file
	Data   string
	Dev    bool
	Check  bool // only check the configuration

	MQTT, WS, MQTTS, HTTPS, Metrics string // addresses
}

// Register adds the flags to fs.
func (f *Flags) Register(fs *pflag.FlagSet) {
	fs.StringVar(&f.Config, "config", "", "configuration `FILE` (default "+DefaultFile+" if it is there; none with --dev)")
	fs.StringVar(&f.Data, "data", "", "data `DIR` (default /var/lib/tidegate; ./data with --dev)")
	fs.BoolVar(&f.Dev, "dev", false, "for a laptop: plain MQTT for everybody on loopback, simulated field bus")
	fs.BoolVar(&f.Check, "check", false, "check the configuration and exit")
	fs.StringVar(&f.MQTT, "mqtt", "", "`ADDR` of plain MQTT, with --dev only (default 127.0.0.1:1883)")
	fs.StringVar(&f.WS, "ws", "", "`ADDR` of plain MQTT over WebSocket, with --dev only (default 127.0.0.1:8083)")
	fs.StringVar(&f.MQTTS, "mqtts", "", "`ADDR` of MQTT over TLS (default 0.0.0.0:8883)")
	fs.StringVar(&f.HTTPS, "https", "", "`ADDR` of HTTPS (default 0.0.0.0:8443)")
	fs.StringVar(&f.Metrics, "metrics", "", "`ADDR` of metrics and health (default 127.0.0.1:9464)")
}

// DefaultConfig gives what holds where nothing else is said.
func DefaultConfig(dev bool) Config {
	c := Config{
		Dev: dev, Data: "/var/lib/tidegate", Account: AccountConfig{ID: "000000000000", Region: "local-1"}, Identity: DefaultIdentityConfig(), Log: logs.DefaultConfig(), Memory: DefaultMemoryConfig(),
		Listen: ListenConfig{MQTT: off, WS: off, MQTTS: "0.0.0.0:8883", HTTPS: "0.0.0.0:8443", Metrics: "127.0.0.1:9464"},
		Limits: LimitsConfig{broker.DefaultLimits(), shadow.DefaultLimits(), jobs.DefaultLimits()}, Store: store.DefaultConfig(""), Journal: journal.DefaultConfig(), Broker: broker.DefaultConfig(), Rules: rules.DefaultConfig(), Audit: audit.DefaultConfig(),
		Devices: manager.DefaultConfig(), Telemetry: bridge.DefaultConfig(), Jobs: DefaultJobsConfig(),
	}
	if dev {
		c.Data, c.Listen.MQTT, c.Listen.WS = "data", "127.0.0.1:1883", "127.0.0.1:8083"
		c.Devices = manager.SimulatedConfig()
	}
	return c
}

// off turns a listener off.
const off = "off"

// LoadConfig puts the configuration together: defaults, then the file, then
// variables (TIDEGATE_LOG_LEVEL for log.level), then flags; what comes later wins.
// The error joins one *Problem for each thing that is wrong.
func LoadConfig(f Flags, env func(string) string) (Config, error) {
	cfg := DefaultConfig(f.Dev)
	cfg.flags = f
	s := newSettings(&cfg)
	if cfg.file = configFile(f, env); cfg.file != "" {
		s.readFile(cfg.file)
	}
	s.readEnv(env)
	if text := env("TIDEGATE_SYNC_DELAY"); text != "" { // the short name that tests from outside rely on
		s.set("TIDEGATE_SYNC_DELAY", "store.sync_delay", text, reflect.ValueOf(&cfg.Store.SyncDelay).Elem())
	}
	for _, o := range []struct {
		flag, path, text string
		to               *string
	}{
		{"--data", "data", f.Data, &cfg.Data},
		{"--mqtt", "listen.mqtt", f.MQTT, &cfg.Listen.MQTT},
		{"--ws", "listen.ws", f.WS, &cfg.Listen.WS},
		{"--mqtts", "listen.mqtts", f.MQTTS, &cfg.Listen.MQTTS},
		{"--https", "listen.https", f.HTTPS, &cfg.Listen.HTTPS},
		{"--metrics", "listen.metrics", f.Metrics, &cfg.Listen.Metrics},
	} {
		if o.text != "" {
			s.set(o.flag, o.path, o.text, reflect.ValueOf(o.to).Elem())
		}
	}
	cfg.finish(env)
	cfg.validate(s)
	return cfg, errors.Join(s.errs...)
}

// configFile says which file to read, if any.
func configFile(f Flags, env func(string) string) string {
	switch {
	case f.Config != "":
		return f.Config
	case env("TIDEGATE_CONFIG") != "":
		return env("TIDEGATE_CONFIG")
	case f.Dev: // a laptop with a gateway installed must not send its play data to that one's upstreams
		return ""
	}
	if _, err := os.Stat(DefaultFile); err != nil {
		return ""
	}
	return DefaultFile
}

// finish fills in what depends on this machine and on other values.
func (c *Config) finish(env func(string) string) {
	if abs, err := filepath.Abs(c.Data); err == nil {
		c.Data = abs
	}
	c.Store.Dir = filepath.Join(c.Data, "store")
	c.Broker.Limits = c.Limits.Limits
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		*u = u.WithDefaults()
		if u.ClientID == "" {
			u.ClientID = "tidegate-" + machineName(c.Data) + "-" + u.Name
		}
	}
}

// validate asks every room about its part, and checks what no room can know alone.
func (c *Config) validate(s *settings) {
	if c.Data == "" {
		s.no(s.placeOf("data"), "data", "is empty, expected a folder")
	}
	s.check("account", c.Account.validate())
	s.check("identity", c.Identity.Validate())
	s.check("log", c.Log.Validate())
	s.check("memory", c.Memory.Validate())
	s.check("listen", c.Listen.validate(c.Dev))
	s.check("", errors.Join(c.Broker.Validate()...)) // names broker. and limits. itself
	s.check("", c.Store.Validate())
	s.check("", c.Journal.Validate())
	s.check("rules", c.Rules.Validate())
	s.check("audit", c.Audit.Validate())
	functions := map[string]bool{}
	for i, f := range c.Functions {
		path := fmt.Sprintf("functions[%d]", i)
		s.check(path, f.Validate())
		if functions[f.Name] {
			s.check(path, fmt.Errorf("name: %q is the name of another function already", f.Name))
		}
		functions[f.Name] = true
	}
	s.check("devices", c.Devices.Validate())
	s.check("telemetry", c.Telemetry.Validate())
	s.check("jobs", c.Jobs.Validate())
	names := map[string]int{}
	for i, u := range c.Upstreams {
		path := fmt.Sprintf("upstreams[%d]", i)
		s.check(path, u.Validate())
		if j, taken := names[u.Name]; taken {
			s.check(path, fmt.Errorf("name: %q is the name of upstreams[%d] already", u.Name, j))
		}
		names[u.Name] = i
	}
}

func (l ListenConfig) validate(dev bool) error {
	var errs []error
	used := map[string]string{}
	for _, a := range []struct {
		key, addr string
		open      bool // lets anybody in
	}{{"mqtt", l.MQTT, true}, {"ws", l.WS, true}, {"mqtts", l.MQTTS, false}, {"https", l.HTTPS, false}, {"metrics", l.Metrics, false}} {
		if a.addr == off {
			continue
		}
		_, port, err := net.SplitHostPort(a.addr)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		switch other := used[a.addr]; {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: is %q, expected HOST:PORT such as 127.0.0.1:1883, or off", a.key, a.addr))
		case a.open && !dev:
			errs = append(errs, fmt.Errorf("%s: this listener asks nobody who they are and is there with --dev only", a.key))
		case other != "" && port != "0":
			errs = append(errs, fmt.Errorf("%s: %s is the address of %s already", a.key, a.addr, other))
		}
		used[a.addr] = a.key
	}
	return errors.Join(errs...)
}

// served lists the addresses that are not off.
func (l ListenConfig) served() []listen.Addr {
	var addrs []listen.Addr
	for _, a := range []listen.Addr{{Name: "mqtt", Addr: l.MQTT}, {Name: "ws", Addr: l.WS}, {Name: "mqtts", Addr: l.MQTTS}, {Name: "https", Addr: l.HTTPS}, {Name: "metrics", Addr: l.Metrics}} {
		if a.Addr != off {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// machineName tells gateways apart that were set up from the same image: it is made
// from the machine id and the data folder, and is the same at every start.
func machineName(data string) string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil || len(strings.TrimSpace(string(id))) == 0 {
		name, _ := os.Hostname()
		id = []byte(name)
	}
	return digest(string(id), data)
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:4])
}
