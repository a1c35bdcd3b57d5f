// Package iotsql is the rule language of AWS IoT: a statement is parsed once, compiled
// to closures, and evaluated against messages.
//
//	SELECT temp, upper(room) AS room FROM 'dt/+/climate' WHERE temp > 30
//
// It follows the developer guide ("AWS IoT SQL reference") in the versions 2015-10-08
// and 2016-03-23: numbers are exact decimals of 34 digits, absence is the value
// Undefined, an invalid call is Undefined and not an error, regular expressions and time
// patterns are Java's. Where the guide is silent, comments say what was chosen.
//
// The package is pure: it does no I/O and tells no time but the one it is given. (A
// stopwatch runs while a regular expression is matched, and the engine keeps one goroutine
// for its timeouts until a second after the last match.) Calls that leave the rule (a
// function, a database, a shadow) go through External. What a statement may cost is
// bounded, whatever the message: depth, bytes, steps, and the time of regular expressions;
// past a bound Eval returns an error.
//
// A Statement and a Template may be used by many goroutines at once, an Input by one.
//
//	st, err := iotsql.Parse("SELECT temp FROM 'dt/#' WHERE temp > 30", iotsql.V2016)
//	in := iotsql.Input{Topic: "dt/kitchen", Payload: []byte(`{"temp":31.5}`)}
//	res, err := st.Eval(&in) // res.Matched, res.Payload is {"temp":31.5}
package iotsql

import (
	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
)

// Version is a version of the language. The zero value is V2015, which is also what the
// control API assumes.
type Version uint8

// The versions. "beta" is the newest one.
const (
	V2015 Version = iota
	V2016
)

// String gives the version's name, as sql_version() does.
func (v Version) String() string {
	if v == V2015 {
		return "2015-10-08"
	}
	return "2016-03-23"
}

// ParseVersion reads a version's name; the empty one is 2015-10-08.
func ParseVersion(s string) (Version, error) {
	switch s {
	case "", "2015-10-08":
		return V2015, nil
	case "2016-03-23", "beta":
		return V2016, nil
	}
	return 0, fault.New(fault.Invalid, "SQL version %q is not one of 2015-10-08, 2016-03-23, beta", s)
}

// Statement is a compiled SELECT statement.
type Statement struct {
	version  Version
	source   string
	from     bool
	filter   string
	names    map[string]int // variables
	set      []expr
	where    predicate // nil: always
	project  projection
	external []string
}

// Result is what a statement makes of a message.
type Result struct {
	Matched bool   // WHERE was true
	Payload []byte // for SELECT * the input's own bytes; must not be changed
}

// Parse compiles a statement. Its error is a *SyntaxError.
func Parse(sql string, v Version) (*Statement, error) {
	st, err := parse(sql, v)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func parse(sql string, v Version) (*Statement, *SyntaxError) {
	p, err := newParser(sql, v)
	if err != nil {
		return nil, err
	}
	tree, err := p.statement()
	if err != nil {
		return nil, err
	}
	st := &Statement{version: v, source: sql, from: tree.from, filter: tree.filter, names: map[string]int{}}
	c := &compiler{src: sql, version: v, vars: st.names}
	for i, a := range tree.set {
		e, err := c.expr(a.term)
		if err != nil {
			return nil, err
		}
		st.set = append(st.set, e)
		st.names[a.name] = i
	}
	if tree.where != nil {
		if st.where, err = c.where(tree.where); err != nil {
			return nil, err
		}
	}
	if st.project, err = c.top(tree.sel); err != nil {
		return nil, err
	}
	st.external = c.external
	return st, nil
}

// Filter gives the topic filter of FROM, empty when there is none: then only Basic Ingest
// reaches the rule.
func (st *Statement) Filter() string { return st.filter }

// Version gives the version the statement was parsed for.
func (st *Statement) Version() Version { return st.version }

// Matches says whether FROM covers topic, by the rules' own kind of matching: `a/#` does
// not cover `a`.
func (st *Statement) Matches(topic string) bool { return st.from && mqtt.MatchAWS(st.filter, topic) }

// External names the functions that the statement calls and that leave the rule, such as
// aws_lambda. A statement that has some may wait; it should be evaluated off the road.
func (st *Statement) External() []string { return st.external }

// Eval evaluates the statement: SET, WHERE, SELECT. Whether FROM covers the topic is not
// asked. An error means that the rule failed on this message: a bound was reached or an
// external call went wrong; it carries a fault code.
func (st *Statement) Eval(in *Input) (Result, error) {
	in.begin(st.version)
	if len(st.set) > 0 {
		in.assign(st)
	}
	if st.where != nil && !st.where(in) || in.err != nil {
		return Result{}, in.err
	}
	payload := st.project(in)
	if in.err != nil {
		return Result{}, in.err
	}
	return Result{Matched: true, Payload: payload}, nil
}
