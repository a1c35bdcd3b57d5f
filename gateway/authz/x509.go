package authz

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"

	"tidegate/gateway/policy"
)

func pemOf(x *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw}))
}

// attributes gives the names policies use for the types of X.520.
var attributes = map[string]string{
	"2.5.4.46": "DistinguishedNameQualifier",
	"2.5.4.6":  "Country",
	"2.5.4.10": "Organization",
	"2.5.4.11": "OrganizationalUnit",
	"2.5.4.8":  "State",
	"2.5.4.3":  "CommonName",
	"2.5.4.5":  "SerialNumber",
	"2.5.4.12": "Title",
	"2.5.4.4":  "Surname",
	"2.5.4.42": "GivenName",
	"2.5.4.43": "Initials",
	"2.5.4.65": "Pseudonym",
	"2.5.4.44": "GenerationQualifier",
}

// describe gives what policy variables can say of a certificate.
func describe(id string, x *x509.Certificate) *policy.Certificate {
	c := &policy.Certificate{ID: id, SerialNumber: x.SerialNumber.String(), Subject: nameOf(x.Subject), Issuer: nameOf(x.Issuer)}
	alt := func(kind, v string) {
		if v != "" {
			c.Subject["AlternativeName."+kind] = append(c.Subject["AlternativeName."+kind], v)
		}
	}
	for _, v := range x.DNSNames {
		alt("DNSName", v)
	}
	for _, v := range x.EmailAddresses {
		alt("RFC822Name", v)
	}
	for _, v := range x.URIs {
		alt("UniformResourceIdentifier", v.String())
	}
	for _, v := range x.IPAddresses {
		alt("IPAddress", v.String())
	}
	return c
}

// nameOf reads a distinguished name, each attribute with its values in order.
func nameOf(n pkix.Name) policy.Name {
	out := policy.Name{}
	for _, a := range n.Names {
		name, known := attributes[a.Type.String()]
		if v, ok := a.Value.(string); known && ok {
			out[name] = append(out[name], v)
		}
	}
	return out
}
