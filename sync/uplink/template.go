package uplink

import (
	"fmt"
	"strconv"
	"strings"

	"tidegate/gateway/mqtt"
)

// route maps the topics a filter covers to topics on the other side.
type route struct {
	filter string
	qos    byte
	parts  []part
}

// part is a literal or what a reference stands for.
type part struct {
	text string
	ref  ref
	n    int // for refLevel: which +, from 1
}

type ref uint8

const (
	refNone  ref = iota
	refTopic     // {topic}: the whole topic
	refRest      // {rest}: what # covers
	refLevel     // {1}, {2} …: what the nth + covers
)

// newRoute compiles a template for the topics that filter covers.
func newRoute(filter, template string, qos byte) (*route, error) {
	if err := mqtt.ValidFilter(filter); err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	levels := strings.Split(filter, "/")
	plus := 0
	for _, l := range levels {
		if l == "+" {
			plus++
		}
	}
	r := &route{filter: filter, qos: qos}
	for rest := template; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		if text != "" {
			r.parts = append(r.parts, part{text: text})
		}
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		n, err := strconv.Atoi(name)
		switch {
		case !closed:
			return nil, fmt.Errorf("topic: is %q, a { is not closed", template)
		case name == "topic":
			r.parts = append(r.parts, part{ref: refTopic})
		case name == "rest" && levels[len(levels)-1] == "#":
			r.parts = append(r.parts, part{ref: refRest})
		case err == nil && n >= 1 && n <= plus:
			r.parts = append(r.parts, part{ref: refLevel, n: n})
		default:
			return nil, fmt.Errorf("topic: {%s} stands for nothing in the filter %q; expected {topic}, {rest} for what # covers, {1} for what the first + covers", name, filter)
		}
		rest = tail
	}
	probe := r.topic(strings.NewReplacer("+", "x", "#", "x").Replace(filter))
	if err := mqtt.ValidTopic(probe); err != nil {
		return nil, fmt.Errorf("topic: %q would make topics like %q: %w", template, probe, err)
	}
	return r, nil
}

// topic gives the other side's topic for one that the filter covers.
func (r *route) topic(topic string) string {
	if len(r.parts) == 1 && r.parts[0].ref == refTopic {
		return topic
	}
	var b strings.Builder
	for _, p := range r.parts {
		switch p.ref {
		case refNone:
			b.WriteString(p.text)
		case refTopic:
			b.WriteString(topic)
		default:
			b.WriteString(covered(r.filter, topic, p))
		}
	}
	return b.String()
}

// covered gives what the wildcard p refers to covers in topic.
func covered(filter, topic string, p part) string {
	for n := 0; ; {
		fl, frest, _ := strings.Cut(filter, "/")
		if fl == "#" {
			return topic // and p is refRest: there is nothing behind #
		}
		tl, trest, more := strings.Cut(topic, "/")
		if fl == "+" {
			if n++; p.ref == refLevel && n == p.n {
				return tl
			}
		}
		if !more {
			return "" // `a/#` covers `a`
		}
		filter, topic = frest, trest
	}
}

// routes is a list of which the first that covers a topic counts.
type routes []*route

func (rs routes) find(topic string) *route {
	for _, r := range rs {
		if mqtt.Match(r.filter, topic) {
			return r
		}
	}
	return nil
}
