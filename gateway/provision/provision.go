// Package provision makes certificates and things out of templates.
//
// A template names a thing, a certificate and policies and leaves places for
// what differs from device to device ([ParseTemplate], [Template.Resolve]). What a
// resolved template asks for is carried out in one transaction of the registry
// ([Register]): all of it or nothing. Three ways lead there: a device with a claim asks for
// it itself ([Fleet]), an unknown certificate of a known authority shows up
// ([FirstContact]), and a file lists devices by the thousand ([Tasks]).
//
// Certificates, things and templates are the registry's; of its own the package keeps only
// how far a registration task has come. It speaks no topic and no HTTP: doors do.
//
//	t, err := provision.ParseTemplate(body)
//	r, err := t.Resolve(map[string]string{"Serial": "77"}, false)
//	out, err := provision.Register(reg, "operator/ada", id, r)
//	out.Thing // "gh-77"
package provision
