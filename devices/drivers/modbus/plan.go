package modbus

import (
	"slices"

	"tidegate/devices/profile"
)

// block is one request: neighbouring bits or registers that hold the values of items.
type block struct {
	table   profile.Table
	address uint16
	count   int
	items   []int // numbers of points in the profile, in order of their addresses
}

// Below is how a block that was refused is taken apart: without what no point needs, then
// point by point.
const (
	withGaps = iota
	touching
	single
)

// plan puts the points of items into as few requests as possible: a request reads along
// up to gap registers that nobody asked for (16 times as many bits).
func plan(p *profile.Profile, items []int, level int) []block {
	most, gap := maxRegisters, 8
	if p.MaxRegisters > 0 {
		most = p.MaxRegisters
	}
	if p.Gap != nil {
		gap = *p.Gap
	}
	if level > withGaps {
		gap = 0
	}
	items = slices.Clone(items)
	slices.SortStableFunc(items, func(a, b int) int {
		x, y := p.Points[a].Register, p.Points[b].Register
		if x.Table != y.Table {
			return int(x.Table) - int(y.Table)
		}
		return int(x.Address) - int(y.Address)
	})
	var blocks []block
	for _, i := range items {
		x := &p.Points[i]
		from, to := int(x.Register.Address), int(x.Register.Address)+x.Words()
		limit, reach := most, gap
		if x.Register.Table.Bits() {
			limit, reach = maxBits, 16*gap
		}
		if n := len(blocks); n > 0 && level < single {
			b := &blocks[n-1]
			end := int(b.address) + b.count
			if b.table == x.Register.Table && from <= end+reach && max(end, to)-int(b.address) <= limit {
				b.count = max(end, to) - int(b.address)
				b.items = append(b.items, i)
				continue
			}
		}
		blocks = append(blocks, block{table: x.Register.Table, address: uint16(from), count: to - from, items: []int{i}})
	}
	return blocks
}
