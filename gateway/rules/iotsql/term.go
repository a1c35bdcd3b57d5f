package iotsql

// op is the kind of a term.
type op uint8

const (
	opLiteral op = iota // val
	opPath              // path: names from the payload down
	opVar               // name, and path below it
	opStar              // the whole payload, as an argument
	opMember            // args[0], and path below it
	opCall              // name(args)
	opCast              // cast(args[0] AS name)
	opCase              // args: subject, then WHEN and THEN in turn, then ELSE where there is one
	opObject            // path are the keys of args
	opArray             // args
	opQuery             // query
	opExists            // query
	opNegate            // -args[0]
	opNot               // NOT args[0]
	opBinary            // args[0] name args[1]; name is the operator in upper case
)

// term is one node of a parsed expression.
type term struct {
	op      op
	at, end int // where it stands in the source
	name    string
	path    []string
	args    []*term
	query   *query
	val     value
	depth   int
}

// query is a nested SELECT.
type query struct {
	sel    selection
	source *term
	alias  string
	where  *term
}

// selection is what stands between SELECT and FROM.
type selection struct {
	value bool // SELECT VALUE: one item, which is the result itself
	items []item
}

// item is one entry of a selection.
type item struct {
	star bool
	term *term
	key  []string // AS a.b nests
	at   int
}

// assignment is one variable of SET.
type assignment struct {
	name string
	term *term
}

// statement is a parsed statement.
type statement struct {
	set    []assignment
	sel    selection
	from   bool
	filter string
	where  *term
}
