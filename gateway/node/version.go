package node

import (
	"runtime"
	"runtime/debug"

	"tidegate/gateway/localapi/localclient"
)

// Version says what was built, from what and when.
type Version = localclient.Version

// BuildVersion joins what the linker was told with what the Go tool has noted in the
// binary: a build without the Makefile still knows its commit.
func BuildVersion(version, commit, date string) Version {
	v := Version{Version: version, Commit: commit, Date: date, Go: runtime.Version()}
	dirty := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v.Version == "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && v.Commit == "":
				v.Commit = s.Value
			case s.Key == "vcs.time" && v.Date == "":
				v.Date = s.Value
			case s.Key == "vcs.modified" && s.Value == "true" && commit == "":
				dirty = "-dirty"
			}
		}
	}
	v.Commit += dirty
	for _, s := range []*string{&v.Version, &v.Commit, &v.Date} {
		if *s == "" {
			*s = "unknown"
		}
	}
	return v
}
