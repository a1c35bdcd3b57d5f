package commitlog_test

import (
	"os"
	"testing"
)

// A power cut may write the first entry of a file in part and leave its header out. Nothing of it was acknowledged, so
// that is no damage to frighten anybody with.
func TestATornFirstEntryWithoutItsHeaderIsNoDamage(t *testing.T) {
	c := cfg(t)
	l, _, _ := open(t, c, 0)
	l.Close()
	f, err := os.OpenFile(c.Dir+"/log.01", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("the second page of an entry has arrived, the first has not"), 2*4096); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1, 2, 3}, 4096); err != nil { // torn
		t.Fatal(err)
	}
	f.Close()
	_, got, rep := open(t, c, 0)
	if len(got) > 0 || len(rep.Damage) > 0 {
		t.Errorf("replayed %v, damage %+v", got, rep.Damage)
	}
}
