package registry_test

import (
	"slices"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry"
)

func (r *rig) names() (names []string) {
	things, _ := r.Things(registry.ThingFilter{}, registry.Page{})
	for _, t := range things {
		names = append(names, t.Name)
	}
	return names
}

func (r *rig) wired(want []string, names ...string) {
	r.t.Helper()
	if err := r.Wired(names); err != nil {
		r.t.Fatal(err)
	}
	if got := r.names(); !slices.Equal(got, want) {
		r.t.Errorf("things are %q, want %q", got, want)
	}
}

func TestWhatIsWiredIsAThingForAsLongAsItIs(t *testing.T) {
	r := newRig(t)
	r.wired([]string{"boat", "meter", "pump"}, "pump", "boat", "meter")
	before, err := r.Thing("meter")
	if err != nil {
		t.Fatal(err)
	}
	r.reopen()
	r.wired([]string{"boat", "meter", "pump"}, "pump", "boat", "meter")
	if now, err := r.Thing("meter"); err != nil || now.ID != before.ID || now.Version != 1 {
		t.Errorf("%+v, %v, want what it was: %+v", now, err, before)
	}
	r.wired([]string{"boat", "meter", "well"}, "well", "boat", "meter") // the pump is called well now
	r.must(func(tx *registry.Tx) error { return tx.DeleteThing("boat", 0) })
	r.wired([]string{"boat", "meter"}, "boat", "meter")
	r.wired(nil)
}

func TestAThingThatSomebodyMadeOrChangedStays(t *testing.T) {
	r := newRig(t)
	r.must(func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "boiler", Attributes: map[string]string{"site": "oslo"}})
		return err
	})
	all := []string{"boiler", "changed", "grouped", "plain", "taken"}
	r.wired(all, all...)
	taken, err := r.Thing("taken")
	if err != nil {
		t.Fatal(err)
	}
	r.must(func(tx *registry.Tx) error {
		if _, err := tx.UpdateThing("changed", registry.ThingUpdate{Attributes: map[string]string{"a": "b"}, Expected: 1}); err != nil {
			return err
		}
		// Whoever did not know of it creates it with properties of his own, or with none.
		if now, err := tx.CreateThing(registry.ThingInput{Name: "taken", Attributes: map[string]string{"floor": "2"}}); err != nil || now.ID != taken.ID || now.Version != 1 {
			t.Errorf("taken over as %+v, %v", now, err)
		}
		if _, err := tx.CreateThing(registry.ThingInput{Name: "plain"}); err != nil {
			return err
		}
		if _, err := tx.CreateGroup(registry.GroupInput{Name: "floor-1"}); err != nil {
			return err
		}
		return tx.AddToGroup("grouped", "floor-1")
	})
	err = r.Do("operator/ada", func(tx *registry.Tx) error {
		_, err := tx.CreateThing(registry.ThingInput{Name: "taken"})
		return err
	})
	if fault.Of(err) != fault.Exists {
		t.Errorf("taken over twice: %v", err)
	}
	r.reopen()
	r.wired(all)
	if b, err := r.Thing("boiler"); err != nil || b.Attributes["site"] != "oslo" || b.Wired {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestANameThatNoThingCanHaveIsRefused(t *testing.T) {
	r := newRig(t)
	if err := r.Wired([]string{"a", "b c"}); fault.Of(err) != fault.Invalid {
		t.Errorf("%v", err)
	}
	if got := r.names(); len(got) != 0 {
		t.Errorf("things are %q", got)
	}
}
