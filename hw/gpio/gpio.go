// Package gpio is the digital lines of this machine, through version 2 of the kernel's GPIO
// character device (Linux 5.10 and later).
//
//	chip, err := gpio.Open("")                     // the chip of the pin header
//	door, err := chip.Take(gpio.Request{Line: "GPIO17", Pull: gpio.PullUp, ActiveLow: true, Edges: true, Debounce: 5*time.Millisecond})
//	edge, err := door.Next()                       // waits
//	lamp, err := chip.Take(gpio.Request{Line: "27", Output: true})
//	err = lamp.Set(true); on, err := lamp.Level()
//
// It speaks to the kernel itself and not through periph.io's host drivers: those throw away
// the time, the number and the direction of an edge, which a pulse counter is made of, never
// set the debounce, do not say which error the kernel gave, and on some boards map registers
// past the kernel.
//
// Package gpiosim has the kernel that is not there.
package gpio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What can be wrong with a line, to be found with errors.Is.
var (
	// ErrBusy says that a line is in use by somebody else; the text says by whom.
	ErrBusy = errors.New("in use")
	// ErrNoLine says that the chip has no such line.
	ErrNoLine = errors.New("no such line")
	// ErrGone says that the chip is not there any more, or was closed.
	ErrGone = errors.New("the GPIO chip is gone")
)

// consumer is what others see of who has a line.
const consumer = "tidegate"

// Kernel is how chips are reached: the machine's own, or a simulated one. Errors are a
// unix.Errno as the kernel gives it.
type Kernel interface {
	Chips() ([]string, error) // the device nodes
	OpenChip(node string) (ChipDevice, error)
}

// ChipDevice is an opened chip.
type ChipDevice interface {
	Info(*unix.GPIOChipInfo) error
	LineInfo(*unix.GPIOV2LineInfo) error // of the line at Offset
	Request(*unix.GPIOV2LineRequest) (LineDevice, error)
	Close() error
}

// LineDevice is a line that was taken.
type LineDevice interface {
	Get(*unix.GPIOV2LineValues) error
	Set(*unix.GPIOV2LineValues) error
	Config(*unix.GPIOV2LineConfig) error
	Event(*unix.GPIOV2LineEvent) error // waits; os.ErrClosed once Close was called
	Close() error
}

// Chip is an opened chip. Its methods may be called concurrently.
type Chip struct {
	name  string
	label string

	mu    sync.Mutex // guards what follows
	dev   ChipDevice // nil when closed
	lines int
}

// Open opens a chip of this machine: by the name of its node (gpiochip0), by its label
// (pinctrl-rp1, pinctrl-bcm2711), or with "" the one of the pin header. The error says what
// to do, and is fs.ErrNotExist when there is none.
func Open(name string) (*Chip, error) { return OpenOf(Machine, name) }

// OpenOf is Open of a kernel.
func OpenOf(k Kernel, name string) (*Chip, error) {
	nodes, err := k.Chips()
	if err != nil {
		return nil, err
	}
	var there []string
	var found *Chip
	for _, node := range nodes {
		c, err := openNode(k, node)
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("GPIO chip %s: no permission: put the gateway's user into the group gpio: %w", node, err)
		} else if err != nil {
			return nil, err
		}
		there = append(there, fmt.Sprintf("%s (%s)", c.name, c.label))
		fits := name == c.name || name == c.label || name == node || name == "" && IsHeader(c.label)
		if fits && found == nil {
			found = c
		} else if err := c.Close(); err != nil {
			return nil, err
		}
	}
	switch {
	case found != nil:
		return found, nil
	case name == "" && len(nodes) == 1:
		return openNode(k, nodes[0])
	case len(nodes) == 0:
		return nil, fmt.Errorf("this machine has no GPIO chip: %w", fs.ErrNotExist)
	case name == "":
		return nil, fmt.Errorf("which GPIO chip has the pin header is not known here: name one of %s: %w", strings.Join(there, ", "), fs.ErrNotExist)
	}
	return nil, fmt.Errorf("there is no GPIO chip %q, only %s: %w", name, strings.Join(there, ", "), fs.ErrNotExist)
}

// IsHeader says whether the chip of that label has the lines of a Raspberry Pi's pin header
// (raspberrypi/linux, pinctrl-bcm2835.c and pinctrl-rp1.c). Its number is another from one
// kernel to the next.
func IsHeader(label string) bool {
	return strings.HasPrefix(label, "pinctrl-bcm2") || label == "pinctrl-rp1"
}

func openNode(k Kernel, node string) (*Chip, error) {
	dev, err := k.OpenChip(node)
	if err != nil {
		return nil, fmt.Errorf("GPIO chip %s: %w", node, err)
	}
	var i unix.GPIOChipInfo
	if err := dev.Info(&i); err != nil {
		return nil, errors.Join(fmt.Errorf("GPIO chip %s: %w", node, err), dev.Close())
	}
	return &Chip{name: unix.ByteSliceToString(i.Name[:]), label: unix.ByteSliceToString(i.Label[:]), dev: dev, lines: int(i.Lines)}, nil
}

// Name gives the chip's name: gpiochip0.
func (c *Chip) Name() string { return c.name }

// LineInfo says what is known of a line.
type LineInfo struct {
	Number   int    `json:"number"` // on the chip
	Name     string `json:"name,omitempty"`
	Used     bool   `json:"used"`
	Consumer string `json:"consumer,omitempty"` // who uses it
	Output   bool   `json:"output"`
}

// Lines tells of every line.
func (c *Chip) Lines() ([]LineInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all()
}

func (c *Chip) all() ([]LineInfo, error) {
	if c.dev == nil {
		return nil, fmt.Errorf("%w: %s was closed", ErrGone, c.name)
	}
	ls := make([]LineInfo, c.lines)
	for n := range ls {
		i := unix.GPIOV2LineInfo{Offset: uint32(n)}
		if err := c.dev.LineInfo(&i); err != nil {
			return nil, explain(c.name, err)
		}
		ls[n] = LineInfo{Number: n, Name: unix.ByteSliceToString(i.Name[:]), Used: i.Flags&flagUsed != 0,
			Consumer: unix.ByteSliceToString(i.Consumer[:]), Output: i.Flags&flagOutput != 0}
	}
	return ls, nil
}

// Close gives the chip back; lines that were taken stay with who has them. May be called
// twice.
func (c *Chip) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dev == nil {
		return nil
	}
	d := c.dev
	c.dev = nil
	return d.Close()
}

// Pull is what holds an input that nothing drives.
type Pull uint8

// The pulls.
const (
	PullAsIs Pull = iota // as the device tree or whoever had it before left it
	PullUp
	PullDown
	PullNone
)

// Request says how a line is taken.
type Request struct {
	Line      string // its name (GPIO17), or its number on the chip
	ActiveLow bool   // true is a low level
	Output    bool
	// Safe is what an output starts with that is not driven yet. One that is keeps its level.
	Safe bool
	// Of inputs alone.
	Pull     Pull
	Edges    bool          // Next gives them
	Debounce time.Duration // a level counts when it has lasted so long; whole microseconds
}

// Take takes a line for ourselves alone. The error is ErrNoLine, ErrBusy or ErrGone.
func (c *Chip) Take(r Request) (*Line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, err := c.all()
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all, func(i LineInfo) bool { return i.Name == r.Line })
	if k, err := strconv.Atoi(r.Line); n < 0 && err == nil {
		n = k
	}
	if n < 0 || n >= len(all) {
		return nil, fmt.Errorf("%w: %s (%s) has no line %s, only 0 to %d and those that tidegate device scan names", ErrNoLine, c.name, c.label, r.Line, len(all)-1)
	}
	q := unix.GPIOV2LineRequest{Num_lines: 1}
	q.Offsets[0] = uint32(n)
	copy(q.Consumer[:len(q.Consumer)-1], consumer)
	keep := r.Output && all[n].Output
	if !keep {
		q.Config = r.config(r.Safe)
	}
	dev, err := c.dev.Request(&q)
	if errors.Is(err, unix.EBUSY) {
		who := all[n].Consumer
		if who == "" {
			who = "somebody"
		}
		return nil, fmt.Errorf("line %s of %s is %w by %s", r.Line, c.name, ErrBusy, who)
	} else if err != nil {
		return nil, fmt.Errorf("line %s: %w", r.Line, explain(c.name, err))
	}
	l := &Line{name: r.Line, chip: c.name, dev: dev}
	if keep {
		high, err := l.Level() // as it was taken as it is: of the pin, whatever is active
		if err == nil {
			config := r.config(high != r.ActiveLow)
			err = explain(c.name, dev.Config(&config))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("line %s: %w", r.Line, err), dev.Close())
		}
	}
	return l, nil
}

// config makes what the kernel is told; on is what an output is set to.
func (r *Request) config(on bool) (c unix.GPIOV2LineConfig) {
	attr := func(id uint32, v uint64) {
		c.Attrs[c.Num_attrs] = unix.GPIOV2LineConfigAttribute{Attr: unix.GPIOV2LineAttribute{Id: id, Flags: v}, Mask: 1}
		c.Num_attrs++
	}
	if r.ActiveLow {
		c.Flags |= flagActiveLow
	}
	if r.Output {
		c.Flags |= flagOutput
		v := uint64(0)
		if on {
			v = 1
		}
		attr(unix.GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES, v)
		return c
	}
	c.Flags |= flagInput | [...]uint64{0, flagPullUp, flagPullDown, flagNoPull}[r.Pull]
	if r.Edges {
		c.Flags |= flagRising | flagFalling
	}
	if us := r.Debounce.Microseconds(); us > 0 {
		attr(unix.GPIO_V2_LINE_ATTR_ID_DEBOUNCE, uint64(us))
	}
	return c
}

// Line is a line that is ours. Its methods may be called concurrently.
type Line struct {
	name, chip string
	dev        LineDevice
	once       sync.Once
	err        error // of closing
}

// Level reads the line, of an output too: true is active. The error is ErrGone when the
// chip has left.
func (l *Line) Level() (bool, error) {
	v := unix.GPIOV2LineValues{Mask: 1}
	if err := l.dev.Get(&v); err != nil {
		return false, explain(l.chip, err)
	}
	return v.Bits&1 != 0, nil
}

// Set drives an output.
func (l *Line) Set(on bool) error {
	v := unix.GPIOV2LineValues{Mask: 1}
	if on {
		v.Bits = 1
	}
	return explain(l.chip, l.dev.Set(&v))
}

// Edge is a change of a line that was taken with Edges.
type Edge struct {
	Active bool      // what the line is since then
	At     time.Time // when the interrupt came
	Count  uint32    // how many edges the line has had since it was taken, those that were missed included
}

// Next waits for the next edge. The kernel keeps a few (16); of more the oldest go, and
// Count tells. The error is os.ErrClosed once the line was closed, and ErrGone.
func (l *Line) Next() (Edge, error) {
	var e unix.GPIOV2LineEvent
	if err := l.dev.Event(&e); err != nil {
		return Edge{}, explain(l.chip, err)
	}
	at := time.Now()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		at = at.Add(-max(0, time.Duration(now.Nano()-int64(e.Timestamp_ns))))
	}
	return Edge{Active: e.Id == unix.GPIO_V2_LINE_EVENT_RISING_EDGE, At: at, Count: e.Line_seqno}, nil
}

// Close gives the line back and wakes whoever waits in Next. May be called twice.
func (l *Line) Close() error {
	l.once.Do(func() { l.err = l.dev.Close() })
	return l.err
}

func explain(chip string, err error) error {
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EBADF) {
		return fmt.Errorf("%w: %s: %w", ErrGone, chip, err)
	}
	return err
}

// Info is a chip that is there.
type Info struct {
	Name  string     `json:"name"`  // gpiochip0
	Label string     `json:"label"` // pinctrl-bcm2711
	Lines []LineInfo `json:"lines"`
}

// List gives the chips of this machine; those that we may not open are left out.
func List() ([]Info, error) { return ListOf(Machine) }

// ListOf is List of a kernel.
func ListOf(k Kernel) ([]Info, error) {
	nodes, err := k.Chips()
	if err != nil {
		return nil, err
	}
	var found []Info
	for _, node := range nodes {
		c, err := openNode(k, node)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		ls, err := c.Lines()
		if err := errors.Join(err, c.Close()); err != nil {
			return nil, err
		}
		found = append(found, Info{Name: c.name, Label: c.label, Lines: ls})
	}
	return found, nil
}

// Machine is the kernel of this machine.
var Machine Kernel = machine{}

type machine struct{}

// Chips is Kernel's. On a Pi one chip has a second node that is a link to the first.
func (machine) Chips() ([]string, error) {
	nodes, err := filepath.Glob("/dev/gpiochip*")
	nodes = slices.DeleteFunc(nodes, func(node string) bool {
		i, err := os.Lstat(node)
		return err == nil && i.Mode()&fs.ModeSymlink != 0
	})
	return nodes, err
}
