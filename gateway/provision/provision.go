// Package provision makes certificates and things out of templates.
//
// A template names a thing, a certificate and policies and leaves places for
// what differs from device to device ([ParseTemplate], [Template.Resolve]). The
// package knows the language of templates; the facts it leads to are kept by
// gateway/registry.
//
//	t, err := provision.ParseTemplate(body)
//	r, err := t.Resolve(map[string]string{"Serial": "77"}, false)
//	r.Resources["thing"].Properties["ThingName"] // "gh-77"
package provision
