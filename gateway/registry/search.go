package registry

import "tidegate/gateway/registry/indexquery"

// document makes what queries see of a thing. Dynamic groups are not among the
// group names: their members depend on the answer.
func (r *Registry) document(name string) indexquery.Doc {
	t := r.things.m[name]
	doc := indexquery.Doc{"thingName": {indexquery.Text(t.Name)}, "thingId": {indexquery.Text(t.ID)}}
	if t.Type != "" {
		doc["thingTypeName"] = []indexquery.Value{indexquery.Text(t.Type)}
	}
	for _, g := range t.Groups {
		doc["thingGroupNames"] = append(doc["thingGroupNames"], indexquery.Text(g))
	}
	for k, v := range t.Attributes {
		doc["attributes."+k] = []indexquery.Value{indexquery.Attribute(v)}
	}
	if r.facts != nil {
		r.facts(name, doc)
	}
	return doc
}

// Search lists the things a query matches, by name.
func (r *Registry) Search(q *indexquery.Query, p Page) (things []*Thing, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.things.keys, p, func(n string) bool { return q.Match(r.document(n)) })
	return pick(&r.things, names), next
}
