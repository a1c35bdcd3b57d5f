// Package gpiosim is a kernel with a GPIO chip that is not there: what --dev reads, and what
// tests press, occupy and pull out. It keeps to what linux/gpio.h says of requests, levels,
// debounce and events, so that all of package gpio but its system calls runs on it.
//
//	sim := gpiosim.New("pinctrl-sim", 28)      // lines GPIO0 to GPIO27
//	chip, err := gpio.OpenOf(sim, "")
//	sim.Drive(17, false)                       // somebody presses
//	on := sim.Level(27)                        // what a multimeter would see
package gpiosim

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tidegate/hw/gpio"
)

// Of linux/gpio.h.
const (
	used      = 1 << 0
	activeLow = 1 << 1
	input     = 1 << 2
	output    = 1 << 3
	rising    = 1 << 4
	falling   = 1 << 5
	pullUp    = 1 << 8
	pullDown  = 1 << 9

	kept = 16 // events the kernel keeps of one line
)

// Node is the device node of the chip.
const Node = "/dev/gpiochip0"

// Kernel is the machine with its one chip. Its methods may be called concurrently.
type Kernel struct {
	label string

	mu    sync.Mutex // guards what follows
	lines []*line
	gone  bool
}

type line struct {
	consumer string
	config   unix.GPIOV2LineConfig
	taken    *taken // nil while it is free, or in use by somebody else
	driven   *bool  // from outside; nil: nothing drives it
	out      bool   // what we drive, as a level
	settled  bool   // the level as it is after the debounce
	timer    *time.Timer
}

// New makes a kernel with a chip of so many lines, called GPIO0 and on.
func New(label string, lines int) *Kernel {
	k := &Kernel{label: label}
	for range lines {
		k.lines = append(k.lines, &line{})
	}
	return k
}

// Drive sets the level of a line from outside.
func (k *Kernel) Drive(n int, high bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lines[n]
	l.driven = &high
	k.changed(l)
}

// Release lets go of a line that was driven from outside: its pull holds it.
func (k *Kernel) Release(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lines[n]
	l.driven = nil
	k.changed(l)
}

// Level gives the level of a line, whatever is active.
func (k *Kernel) Level(n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lines[n].level()
}

// Occupy has somebody else take a line; an empty name gives it back.
func (k *Kernel) Occupy(n int, consumer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines[n].consumer = consumer
}

// Taken says whether a line is in use.
func (k *Kernel) Taken(n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lines[n].consumer != ""
}

// Unplug takes the chip away, as a USB one is pulled.
func (k *Kernel) Unplug() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = true
	for _, l := range k.lines {
		if l.taken != nil {
			l.taken.end(unix.ENODEV)
			l.taken, l.consumer = nil, ""
		}
	}
}

// Plug puts it back.
func (k *Kernel) Plug() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = false
}

// Chips is gpio.Kernel's.
func (k *Kernel) Chips() ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return nil, nil
	}
	return []string{Node}, nil
}

// OpenChip is gpio.Kernel's.
func (k *Kernel) OpenChip(node string) (gpio.ChipDevice, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone || node != Node {
		return nil, fs.ErrNotExist
	}
	return chip{k}, nil
}

// level gives what the pin is. The kernel's mutex is held.
func (l *line) level() bool {
	switch {
	case l.config.Flags&output != 0:
		return l.out
	case l.driven != nil:
		return *l.driven
	}
	return l.config.Flags&pullUp != 0
}

// changed lets an edge happen, now or when the level has lasted long enough.
func (k *Kernel) changed(l *line) {
	if l.timer != nil {
		l.timer.Stop()
	}
	period := time.Duration(0)
	for _, a := range l.config.Attrs[:l.config.Num_attrs] {
		if a.Attr.Id == unix.GPIO_V2_LINE_ATTR_ID_DEBOUNCE {
			period = time.Duration(a.Attr.Flags) * time.Microsecond
		}
	}
	if period == 0 {
		l.settle()
		return
	}
	l.timer = time.AfterFunc(period, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		l.settle()
	})
}

// settle makes the event of a level that has changed.
func (l *line) settle() {
	was := l.settled
	l.settled = l.level()
	if l.taken == nil || l.settled == was {
		return
	}
	active := l.settled != (l.config.Flags&activeLow != 0)
	e := unix.GPIOV2LineEvent{Id: unix.GPIO_V2_LINE_EVENT_FALLING_EDGE}
	want := uint64(falling)
	if active {
		e.Id, want = unix.GPIO_V2_LINE_EVENT_RISING_EDGE, rising
	}
	if l.config.Flags&want == 0 {
		return
	}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		e.Timestamp_ns = uint64(now.Nano())
	}
	l.taken.put(e)
}

type chip struct{ k *Kernel }

func text(dst []byte, s string) { copy(dst[:len(dst)-1], s) }

// Info is gpio.ChipDevice's.
func (c chip) Info(i *unix.GPIOChipInfo) error {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if c.k.gone {
		return unix.ENODEV
	}
	text(i.Name[:], "gpiochip0")
	text(i.Label[:], c.k.label)
	i.Lines = uint32(len(c.k.lines))
	return nil
}

// LineInfo is gpio.ChipDevice's.
func (c chip) LineInfo(i *unix.GPIOV2LineInfo) error {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if c.k.gone {
		return unix.ENODEV
	}
	if int(i.Offset) >= len(c.k.lines) {
		return unix.EINVAL
	}
	l := c.k.lines[i.Offset]
	text(i.Name[:], fmt.Sprintf("GPIO%d", i.Offset))
	text(i.Consumer[:], l.consumer)
	i.Flags = l.config.Flags
	if l.config.Flags&output == 0 {
		i.Flags |= input
	}
	if l.consumer != "" {
		i.Flags |= used
	}
	return nil
}

// Request is gpio.ChipDevice's.
func (c chip) Request(q *unix.GPIOV2LineRequest) (gpio.LineDevice, error) {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if c.k.gone {
		return nil, unix.ENODEV
	}
	if q.Num_lines != 1 || int(q.Offsets[0]) >= len(c.k.lines) {
		return nil, unix.EINVAL
	}
	l := c.k.lines[q.Offsets[0]]
	if l.consumer != "" {
		return nil, unix.EBUSY
	}
	l.taken = &taken{k: c.k, l: l, events: make(chan unix.GPIOV2LineEvent, kept), ended: make(chan struct{})}
	l.consumer = unix.ByteSliceToString(q.Consumer[:])
	if err := l.set(&q.Config); err != nil {
		l.taken, l.consumer = nil, ""
		return nil, err
	}
	return l.taken, nil
}

// Close is gpio.ChipDevice's.
func (c chip) Close() error { return nil }

// set takes a configuration; one without a direction leaves the line as it is.
func (l *line) set(c *unix.GPIOV2LineConfig) error {
	if c.Flags&(input|output) == 0 {
		if c.Flags&^activeLow != 0 {
			return unix.EINVAL
		}
		l.config.Flags = l.config.Flags&^activeLow | c.Flags
		return nil
	}
	if c.Flags&input != 0 && c.Flags&output != 0 || c.Flags&output != 0 && c.Flags&(rising|falling) != 0 || c.Flags&pullUp != 0 && c.Flags&pullDown != 0 {
		return unix.EINVAL
	}
	l.config = *c
	for _, a := range c.Attrs[:c.Num_attrs] {
		if a.Attr.Id == unix.GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES {
			l.out = a.Attr.Flags&1 != 0 != (c.Flags&activeLow != 0)
		}
	}
	l.settled = l.level()
	return nil
}

// taken is a line that was taken.
type taken struct {
	k      *Kernel
	l      *line
	events chan unix.GPIOV2LineEvent // holds what the kernel keeps; the oldest goes when it is full
	seq    uint32
	once   sync.Once
	ended  chan struct{} // closed by end
	why    error         // written before ended is closed
}

func (t *taken) put(e unix.GPIOV2LineEvent) {
	t.seq++
	e.Seqno, e.Line_seqno = t.seq, t.seq
	for {
		select {
		case t.events <- e:
			return
		default:
		}
		select {
		case <-t.events:
		default:
		}
	}
}

func (t *taken) end(why error) {
	t.once.Do(func() {
		t.why = why
		close(t.ended)
	})
}

// over says why the line is not ours any more. The kernel's mutex is held.
func (t *taken) over() error {
	select {
	case <-t.ended:
		return t.why
	default:
		return nil
	}
}

// Get is gpio.LineDevice's.
func (t *taken) Get(v *unix.GPIOV2LineValues) error {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	if err := t.over(); err != nil {
		return err
	}
	level := t.l.level()
	if t.l.config.Flags&input != 0 {
		level = t.l.settled
	}
	v.Bits = 0
	if level != (t.l.config.Flags&activeLow != 0) {
		v.Bits = 1
	}
	return nil
}

// Set is gpio.LineDevice's.
func (t *taken) Set(v *unix.GPIOV2LineValues) error {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	if err := t.over(); err != nil {
		return err
	}
	if t.l.config.Flags&output == 0 {
		return unix.EPERM
	}
	t.l.out = v.Bits&1 != 0 != (t.l.config.Flags&activeLow != 0)
	return nil
}

// Config is gpio.LineDevice's.
func (t *taken) Config(c *unix.GPIOV2LineConfig) error {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	if err := t.over(); err != nil {
		return err
	}
	return t.l.set(c)
}

// Event is gpio.LineDevice's.
func (t *taken) Event(e *unix.GPIOV2LineEvent) error {
	select {
	case *e = <-t.events:
		return nil
	default:
	}
	select {
	case *e = <-t.events:
		return nil
	case <-t.ended:
		return t.why
	}
}

// Close is gpio.LineDevice's. The line is free; an output goes on driving, as on a Pi.
func (t *taken) Close() error {
	t.k.mu.Lock()
	defer t.k.mu.Unlock()
	if t.l.taken == t {
		t.l.taken, t.l.consumer = nil, ""
	}
	t.end(os.ErrClosed)
	return nil
}
